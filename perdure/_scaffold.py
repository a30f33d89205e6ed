"""New projects, and copies of the examples. Client side; needs no server and no app."""

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from perdure.agents._names import check_name
from perdure.errors import InvalidInputError, InvalidNameError, ProjectLoadError, suggest

_PACKAGE = Path(__file__).parent
_TEMPLATE = _PACKAGE / "_template"
_DOTTED = {"gitignore": ".gitignore", "dockerignore": ".dockerignore"}
"""Without their dot in the package, so that git and builders don't take them for their own."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "out")


@dataclass(frozen=True)
class Example:
    """A project that comes with perdure."""

    name: str
    description: str
    folder: Path


def create_project(name: str, *, parent: Path) -> Path:
    """Write a project that works, with an agent, a tool, tests, a Makefile and a compose file.

    Args:
        name: Of the project and its folder: a letter, then up to 63 letters, digits, _ or -.
        parent: Where the folder is made.

    Returns:
        The folder.

    Raises:
        InvalidInputError: The name can't be used, or the folder can't be made or isn't empty. Not retryable.
    """
    _check_project_name(name)
    values = {"{{name}}": name.lower(), "{{source}}": perdure_source()}

    def write(source: str, target: str) -> str:
        text = Path(source).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(key, value)
        path = Path(target)
        path.with_name(_DOTTED.get(path.name, path.name)).write_text(text.replace(" \n", "\n"), encoding="utf-8")
        return target

    return _copy(_TEMPLATE, parent / name, copy_function=write)


def list_examples() -> list[Example]:
    """Return the examples by name.

    Raises:
        ProjectLoadError: The installed package lacks them. Not retryable.
    """
    folder = next((each for each in (_PACKAGE / "_examples", _PACKAGE.parent / "examples") if each.is_dir()), None)
    if folder is None:
        raise ProjectLoadError(f"The examples are missing from {_PACKAGE}: install perdure again.")
    return [_read_example(path.parent) for path in sorted(folder.glob("*/pyproject.toml"))]


def copy_example(name: str, *, target: Path) -> Path:
    """Copy an example into a folder that is new or empty.

    Raises:
        InvalidInputError: There is no such example, or the folder can't be made or isn't empty. Not retryable.
        ProjectLoadError: The installed package lacks the examples. Not retryable.
    """
    examples = {example.name: example for example in list_examples()}
    if name not in examples:
        raise InvalidInputError(f"There is no example {name!r}.{suggest(name, examples)}")
    return _copy(examples[name].folder, target, copy_function=shutil.copy)


def perdure_source() -> str:
    """Return the URL that this perdure was installed from; empty where that was a package index."""
    text = distribution("perdure").read_text("direct_url.json")
    if text is None:
        return ""
    origin = json.loads(text)
    vcs = origin.get("vcs_info")
    return f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else origin["url"]


def _check_project_name(name: str) -> None:
    try:
        check_name("Project", name)
    except InvalidNameError as error:
        where = " The folder is made where you are: `cd` there first." if "/" in name else ""
        raise InvalidInputError(f"{error.message}{where}") from error


def _read_example(folder: Path) -> Example:
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Example(folder.name, project["description"], folder)


def _copy(source: Path, target: Path, *, copy_function: Callable[[str, str], object]) -> Path:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInputError(f"{str(target)!r} exists already and isn't an empty folder: choose another name.")

    try:
        shutil.copytree(source, target, ignore=_LEFT_OUT, copy_function=copy_function, dirs_exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"Can't write {str(target)!r}: {error.strerror or error}.") from error
    return target
