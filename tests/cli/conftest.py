"""A user's project in a temporary folder, and commands run in it without a process of their own."""

import itertools
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.cli import cli

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Take back what a command sets up for its whole process."""
    names = ["", *logging.root.manager.loggerDict]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers
    for name in ["", *logging.root.manager.loggerDict]:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


APP = '''
from pydantic import BaseModel
from temporalio import workflow

from perdure import Agent, App, tool


class Order(BaseModel):
    sku: str
    count: int = 1


@tool(idempotent=True, local=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@workflow.defn
class OrderFlow:
    @workflow.run
    async def run(self, order: Order) -> str:
        return order.sku


calc = Agent("calc", description="Does sums.", instructions="You do sums.", model="offline:reader", tools=[add])
app = App(agents=[calc], workflows=[OrderFlow])
'''


@dataclass
class Project:
    """A project folder with an app, and the command line in it."""

    folder: Path
    module: str

    def write(self, body: str) -> None:
        """Replace the app."""
        (self.folder / f"{self.module}.py").write_text(body)

    def run(self, *args: str, input: str | None = None) -> Result:
        """Run a command."""
        return CliRunner().invoke(cli, args, input=input)

    def fail(self, *args: str, code: int, input: str | None = None) -> str:
        """Run a command that ends with `code`, and return its stderr: clear lines, no traceback."""
        result = self.run(*args, input=input)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "site-packages" not in result.stderr
        return result.stderr


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    module = f"cli_app_{next(_numbers)}"
    (tmp_path / "pyproject.toml").write_text(f'[tool.perdure]\napp = "{module}:app"\n')
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    made = Project(tmp_path, module)
    made.write(APP)
    yield made
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == module:
            del sys.modules[name]
