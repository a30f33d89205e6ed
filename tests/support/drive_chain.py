"""A chain of runs of an agent, driven without a server, and served with what needs no decision."""

from collections.abc import Callable, Sequence
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from perdure.contracts._base import Contract
from perdure.contracts.calls import (
    CallModelRequest,
    CallModelResult,
    CopyConversationRequest,
    CopyConversationResult,
)
from perdure.contracts.messages import Message, TextPart, ToolCallPart
from perdure.contracts.names import CALL_MODEL, COPY_CONVERSATION, LOAD_AGENT
from perdure.contracts.run import MessagesQuery, RunInput
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Usage
from perdure.errors import PerdureError
from tests.support.drive import Activity, Child, OneRun, child_ended, child_started, read, resolved


def _ignore(_: Sequence[WorkflowCommand]) -> None:
    """Nobody looks."""


def _ignore_chain(_: "Chain") -> None:
    """Nobody looks."""


class Chain:
    """The runs that continue each other as new.

    Attributes:
        run: The present one.
        runs: All.
        held: Activities that the test ends itself, of those that are served.
    """

    def __init__(
        self,
        spec: AgentSpec,
        request: RunInput,
        *,
        messages: Sequence[Message] = (),
        parent: workflow.ParentInfo | None = None,
        held: set[str] | None = None,
        on_commands: Callable[[Sequence[WorkflowCommand]], None] = _ignore,
        on_served: "Callable[[Chain], None]" = _ignore_chain,
    ) -> None:
        """Start the first run; `messages` are those of a run that it goes on from."""
        self.held = held or set()
        self._spec = spec
        self._messages = messages
        self._on_commands = on_commands
        self._on_served = on_served
        self.run = OneRun(request, 1, parent=parent)
        self.runs = [self.run]
        self.give()

    def give(self, *jobs: WorkflowActivationJob) -> None:
        """Give the run events, and serve it."""
        self._on_commands(self.run.activate(*jobs))
        if self.run.end is not None and self.run.end.HasField("continue_as_new_workflow_execution"):
            self._continue()
        self.serve()
        self._on_served(self)

    def serve(self) -> None:
        """End what is served and in flight, but for what is held."""
        for activity in list(self.run.activities.values()):
            if activity.name in self.held:
                continue
            if activity.name == LOAD_AGENT:
                self.end(activity, self._spec)
            elif activity.name == COPY_CONVERSATION:
                self.end(activity, self._copy(read(activity.argument, CopyConversationRequest)))

    def _continue(self) -> None:
        arguments = self.run.end.continue_as_new_workflow_execution.arguments  # pyright: ignore
        request: RunInput = read(arguments[0], RunInput)
        assert not self.run.activities, "a call was in flight"
        self.run = OneRun(request, len(self.runs) + 1, now=self.run.now)
        self.runs.append(self.run)
        self.give()

    def _copy(self, asked: CopyConversationRequest) -> CopyConversationResult:
        if len(self.runs) == 1:
            messages = tuple(self._messages[asked.start : asked.stop])
        else:
            query = MessagesQuery(conversation="main", start=asked.start, stop=asked.stop)
            messages = self.runs[-2].code.messages(query).messages
        return CopyConversationResult(start=asked.start, messages=messages, spec=self._spec)

    def end(self, activity: Activity, result: Contract | None) -> None:
        """End an activity: with its result, or None where it was cancelled."""
        self.run.activities.pop(activity.seq, None)
        self.give(resolved(activity, result))

    def find(self, name: str) -> Activity | None:
        """Return the first call of an activity that is in flight."""
        return next((each for each in self.run.activities.values() if each.name == name), None)

    def model_call(self) -> CallModelRequest:
        """Return what the model is asked."""
        call = self.find(CALL_MODEL)
        assert call is not None, "the model isn't asked"
        return read(call.argument, CallModelRequest)

    def reply(self, *parts: TextPart | ToolCallPart, stop: Any = "end") -> None:
        """Answer as the model."""
        call = self.find(CALL_MODEL)
        assert call is not None, "the model isn't asked"
        message = Message(role="assistant", parts=parts, stop=stop, model="fake:x")
        self.end(call, CallModelResult(message=message, usage=Usage(input_tokens=1, output_tokens=1)))

    def start_children(self) -> dict[str, Child]:
        """Have the children started, and return them by workflow id."""
        children = {child.id: child for child in self.run.children.values()}
        self.give(*map(child_started, children.values()))
        return children

    def end_child(self, child: Child, result: Contract | PerdureError | None) -> None:
        """End a child run: with its result, its failure, or None where it was cancelled."""
        del self.run.children[child.seq]
        self.give(child_ended(child, result))

    def replay(self) -> None:
        """Run all of it again, and find the same commands."""
        for run in self.runs:
            run.replay()
