"""Help: every command has it, it agrees with the table, and it comes at once."""

import resource
import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from perdure.cli import cli
from perdure.cli._table import BY_NAME

HEAVY = ("temporalio", "pydantic", "httpx", "rich", "asyncio", "opentelemetry")
NAMES = sorted(BY_NAME)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Usage: cli {name} ")
    command = import_module(BY_NAME[name].module).command
    assert command.name == name
    assert isinstance(command, click.Group) or any(option.name == "debug" for option in command.params)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_agrees_with_the_command(name: str) -> None:
    command = import_module(BY_NAME[name].module).command
    mine = BY_NAME[name].help.rstrip(".").split(",")[0].split(";")[0]
    assert command.help.startswith(mine.split(":")[0])


@pytest.mark.parametrize("name", ["list", "show"])
def test_commands_of_a_noun_have_help(name: str) -> None:
    assert CliRunner().invoke(cli, ["agent", name, "--help"]).exit_code == 0


def test_help_and_version_import_nothing_heavy() -> None:
    code = f"""
import sys
from click.testing import CliRunner
before = set(sys.modules)
from perdure.cli import cli
for args in (["--help"], ["--version"], []):
    CliRunner().invoke(cli, args)
print([name for name in {HEAVY} if name in set(sys.modules) - before])
"""
    assert python(code) == "[]\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_come_at_once(option: str) -> None:
    times: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "perdure", option], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < 0.2  # of CPU: the wall clock is also that of other tests


@pytest.mark.parametrize("name", ["start", "list", "signal", "doctor"])
def test_help_of_a_command_needs_no_temporal(name: str) -> None:
    code = f"""
import sys
from click.testing import CliRunner
from perdure.cli import cli
CliRunner().invoke(cli, ["{name}", "--help"])
print("temporalio" in sys.modules)
"""
    assert python(code) == "False\n"


def test_an_unknown_command_gets_a_suggestion() -> None:
    result = CliRunner().invoke(cli, ["strat"])
    assert result.exit_code == 2
    assert "There is no command 'strat'. Did you mean 'start'?" in result.stderr


def test_the_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "perdure", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("perdure ")
