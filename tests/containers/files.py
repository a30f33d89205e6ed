"""Reading what is in docker/."""

from pathlib import Path
from typing import Any, Final, cast

import yaml

from tests.support.cli_project import REPOSITORY

DOCKER: Final = REPOSITORY / "docker"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would take the last without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{twice} twice in a mapping{node.start_mark}")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)  # pyright: ignore


def load(path: str | Path) -> Any:
    """Return a file of docker/ as data."""
    with (DOCKER / path).open() as file:
        return yaml.load(file, _Loader)


def compose_services() -> dict[str, dict[str, Any]]:
    """Return the services of the compose file: their names are the hosts' names."""
    return cast("dict[str, dict[str, Any]]", load("compose.yaml")["services"])
