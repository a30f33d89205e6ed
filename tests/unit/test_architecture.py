"""Rules of the house that no type checker knows."""

import subprocess
import sys

import pytest
from temporalio import workflow

import perdure
from perdure.app import App
from perdure.wiring import all_workflows, sandboxed_runner


def _imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_perdure_imports_nothing_else_of_ours() -> None:
    assert {name for name in _imported_by("import perdure") if name.startswith("perdure")} == {"perdure"}


def test_the_pytest_plugin_costs_nothing_where_it_is_not_used() -> None:
    found = {name for name in _imported_by("import perdure.testing.pytest_plugin") if "perdure" in name}
    assert found == {"perdure", "perdure.testing", "perdure.testing.pytest_plugin"}
    assert not {"temporalio", "pydantic", "httpx"} & _imported_by("import perdure.testing.pytest_plugin")


@pytest.mark.parametrize("name", perdure.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(perdure, name) is not None
    assert name in dir(perdure)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        perdure.Agnet  # noqa: B018  # pyright: ignore


@pytest.mark.parametrize(
    "statement",
    [
        "import perdure.workflows.agent",
        "import perdure.workflows.plan_workflow",
        "import perdure.contracts.calls, perdure.agents.registry, perdure.errors",
        "import perdure.app",
        "from perdure.tools import *",
    ],
)
def test_workflow_code_is_light(statement: str) -> None:
    heavy = {"httpx", "opentelemetry.sdk", "click", "rich", "jsonschema", "genai_prices", "perdure.providers"}
    assert not heavy & _imported_by(statement)


@pytest.mark.parametrize("cls", all_workflows(App()))
async def test_our_workflow_passes_the_sandbox(cls: type) -> None:
    definition = workflow._Definition.must_from_class(cls)  # pyright: ignore
    sandboxed_runner().prepare_workflow(definition)
