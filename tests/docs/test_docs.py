"""Documentation is true: its Python runs, its commands and options exist, its links lead somewhere."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from perdure.cli import cli
from perdure.client.plan_files import read_plan
from perdure.settings import Settings
from tests.support.docs_lines import ADDED, NOT_RUN, PROSE, SERVES, TYPED, why_not
from tests.support.docs_pages import PAGES, Line, read_page
from tests.support.docs_pages import REPOSITORY as ROOT

LANGUAGES = {"python", "toml", "yaml", "sh", "console", "text"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(language: str) -> list[tuple[str, str]]:
    found = [(page, match) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    return [
        (f"{page.relative_to(ROOT)}:{match.start()}", match[2]) for page, match in found if match[1] == language
    ]


def typed(*pages: Path) -> list[str]:
    """Return the lines that a reader is told to type, without comments."""
    return [step.text for page in pages for step in read_page(page) if isinstance(step, Line)]


def shell_lines() -> list[str]:
    """Return what is typed, without the variables before it."""
    return sorted({re.sub(r"^(\w+=\S+ )+", "", line) for line in typed(*PAGES)})


def commands() -> list[str]:
    inline = [text for page in PAGES for text in re.findall(r"`(perdure [^`]+)`", page.read_text())]
    lines = [*shell_lines(), *(text.split("#")[0].strip() for text in inline)]
    return sorted({line for line in lines if line.startswith("perdure ")})


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


@pytest.mark.parametrize(("where", "text"), blocks("yaml"), ids=[where for where, _ in blocks("yaml")])
def test_plans_can_be_executed(where: str, text: str) -> None:
    plan, faults = read_plan(text, None)
    assert faults == [], where
    assert plan is not None
    assert plan.tasks


def test_what_else_is_typed_exists() -> None:
    """Targets of make, extras of the package, modules of ours and files."""
    lines = shell_lines()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= set(targets)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ",".join(re.findall(r"perdure\[([^\]]+)\]", " ".join(lines))).split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    paths = set(re.findall(r"(?<!\S)docker/[\w./-]+", " ".join(lines)))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_what_is_typed_is_run_or_has_a_reason_not_to_be() -> None:
    """The pages of TYPED are run in tests/long."""
    lines = typed(*(page for page in PAGES if str(page.relative_to(ROOT)) not in TYPED))
    assert [command for line in lines for command in line.split(" && ") if why_not(command) is None] == []


def test_nothing_is_said_of_a_line_that_is_gone() -> None:
    lines = typed(*PAGES, ROOT / "perdure/_template/README.md")
    commands = [command for line in lines for command in line.split(" && ")]
    assert [each for each in NOT_RUN if not any(re.match(each, command) for command in commands)] == []
    assert [each for each in (*SERVES, *ADDED) if not any(line.startswith(each) for line in lines)] == []
    for page, table in PROSE.items():
        there = typed(ROOT / page)
        assert [each for each in table if not any(line.startswith(each) for line in there)] == [], page


def test_no_block_is_of_a_language_that_nobody_looks_at() -> None:
    named = {match for page in PAGES for match in re.findall(r"^```(\w+)", page.read_text(), re.M)}
    assert named <= LANGUAGES


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
