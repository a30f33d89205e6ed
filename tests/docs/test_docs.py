"""Documentation is true: its Python runs, its commands and options exist, its links lead somewhere."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from perdure.cli import cli
from perdure.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(language: str) -> list[tuple[str, str]]:
    found = [(page, match) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    return [(f"{page.name}:{match.start()}", match[2]) for page, match in found if match[1] == language]


def commands() -> list[str]:
    lines = [line for _, block in blocks("sh") for line in block.splitlines()]
    inline = [text for page in PAGES for text in re.findall(r"`(perdure [^`]+)`", page.read_text())]
    return sorted({line.split("#")[0].strip() for line in [*lines, *inline] if line.startswith("perdure ")})


@pytest.mark.parametrize(("where", "code"), blocks("python"), ids=[where for where, _ in blocks("python")])
def test_python_runs(where: str, code: str) -> None:
    exec(compile(code, where, "exec"), {"__name__": "docs"})


@pytest.mark.parametrize(("where", "text"), blocks("toml"), ids=[where for where, _ in blocks("toml")])
def test_configuration_is_understood(where: str, text: str, tmp_path: Path) -> None:
    assert "perdure" in tomllib.loads(text)["tool"], where
    (tmp_path / "pyproject.toml").write_text(text)
    Settings.resolve(start=tmp_path, environ={})


@pytest.mark.parametrize("line", commands())
def test_commands_exist(line: str) -> None:
    name, *arguments = shlex.split(line.replace("…", "x"))[1:]
    if name.startswith("-"):
        return
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None, f"there is no command {name}"
    if isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    for argument in arguments:
        assert not argument.startswith("--") or argument.split("=")[0] in known, f"{name} has no {argument}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_guide_lists_every_setting() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    keys = {field.alias or name for name, field in Settings.model_fields.items()}
    missing = {key for key in keys - {"project_dir", "providers"} if f"`{key}`" not in guide}
    assert not missing
