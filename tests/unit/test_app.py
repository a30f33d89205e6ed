"""What an App holds, and the mistakes that it finds."""

from collections.abc import Sequence

import pytest
from temporalio import workflow
from temporalio.common import RawValue

from perdure import Agent, App, tool
from perdure.errors import DuplicateNameError, UserError


@workflow.defn
class Nightly:
    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


@workflow.defn(name="Nightly")
class OtherNightly:
    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


@workflow.defn(name="AgentWorkflow")
class Usurper:
    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


@workflow.defn(dynamic=True)
class AnyName:
    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        """Do nothing."""


@tool
def search(query: str) -> str:
    """Search."""
    return query


def test_it_knows_its_agents_tools_and_workflows() -> None:
    agent = Agent("worker", model="offline:x")
    app = App(agents=[agent], tools=[search], workflows=[Nightly], providers=["a provider"])
    assert app.agents == {"worker": agent}
    assert app.registry.tools == {"search": search}
    assert app.workflows == {"Nightly": Nightly}
    assert app.providers == ("a provider",)
    assert app.lifespan is None


def test_an_app_may_be_empty() -> None:
    assert App().agents == {}


def test_an_agent_and_a_workflow_of_one_name() -> None:
    with pytest.raises(DuplicateNameError, match="'Nightly' is both an agent and a workflow"):
        App(agents=[Agent("Nightly", model="offline:x")], workflows=[Nightly])


@pytest.mark.parametrize("workflows", [[Nightly, OtherNightly], [Nightly, Nightly]])
def test_two_workflows_of_one_name(workflows: list[type]) -> None:
    with pytest.raises(DuplicateNameError, match="two workflows named 'Nightly'"):
        App(workflows=workflows)


def test_our_own_workflow_can_not_be_replaced() -> None:
    with pytest.raises(DuplicateNameError, match="'AgentWorkflow'"):
        App(workflows=[Usurper])


@pytest.mark.parametrize("cls", [int, Agent, AnyName])
def test_a_class_that_is_no_workflow_of_a_name(cls: type) -> None:
    with pytest.raises(UserError, match="is no workflow"):
        App(workflows=[cls])
