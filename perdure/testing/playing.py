"""`replay_cassette`: an agent of today against a recorded run, offline. Wiring for tests.

The run is a real one, on the time-skipping server; models and tools say what they said when it was recorded, and
what today's agent does otherwise is told.
"""

import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from temporalio import activity
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from perdure.app import App
from perdure.contracts.calls import CallModelRequest, CallToolRequest, CallToolResult
from perdure.contracts.limits import Limits
from perdure.contracts.messages import Message, ToolCallPart, tool_message
from perdure.contracts.names import CALL_MODEL, CALL_TOOL, LOAD_AGENT
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Usage
from perdure.errors import InvalidInputError, ModelCallError
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, TextSink
from perdure.settings import Settings
from perdure.testing.cassettes import Cassette, CassetteRun, RecordedReply, RecordedTool
from perdure.testing.running import AgentRun, run_agent_test

Kind = Literal[
    "instructions", "tools", "model", "limits", "output type", "message", "call", "tool call", "output", "end"
]
Place = tuple[str, int, int]
_SHOWN = 200
_ASKED: ContextVar[tuple[str, CallModelRequest] | None] = ContextVar("perdure_asked", default=None)


@dataclass(frozen=True)
class Departure:
    """Where today's behaviour departs from the recording."""

    kind: Kind
    where: str
    """The run below the root, conversation and slot; empty for the agent itself."""
    recorded: str
    now: str

    def __str__(self) -> str:
        """Return it in a line."""
        at = f" at {self.where}" if self.where else ""
        return f"{self.kind}{at}: was {self.recorded[:_SHOWN]!r}, is {self.now[:_SHOWN]!r}"


@dataclass(frozen=True)
class CassetteResult:
    """What became of it."""

    run: AgentRun
    departures: Sequence[Departure] = field(default_factory=tuple[Departure, ...])

    def assert_same(self, *, but: Sequence[Kind] = ()) -> None:
        """Assert that nothing departs, but for these kinds.

        Raises:
            AssertionError: Something does; the text lists it.
        """
        others = [each for each in self.departures if each.kind not in but]
        if others:
            raise AssertionError(
                "The agent departs from its cassette:\n" + "\n".join(f"  {each}" for each in others)
            )


async def replay_cassette(
    app: App,
    cassette: Cassette,
    *,
    timeout: timedelta = timedelta(seconds=30),
    environment: WorkflowEnvironment | None = None,
    settings: Settings | None = None,
) -> CassetteResult:
    """Run the agent of a cassette again, with its input, models and tools as recorded.

    Args:
        app: Today's; its providers aren't asked, and its tools don't run.
        cassette: Of an agent's run.
        timeout: For all of it.
        environment: A server that runs already.
        settings: The project's when not given.

    Raises:
        InvalidInputError: The cassette is of no agent's run. Not retryable.
        StillRunningError: The run isn't over within `timeout`: it waits for a person, perhaps. Retryable.
    """
    request = cassette.root.request
    if request is None:
        raise InvalidInputError(
            f"{cassette.workflow_id!r} is a run of {cassette.root.workflow}, and no agent's: check it with "
            "`perdure replay check` instead."
        )
    player = _Player(cassette)
    names = {each.name.partition(":")[0] for run in cassette.runs for spec in run.specs for each in spec.models}
    names |= {model.partition(":")[0] for agent in app.agents.values() for model in agent.models}
    playing = _with_providers(app, [_Played(name, player) for name in sorted(names)])
    limits: Limits = request.limits
    run = await run_agent_test(
        playing,
        request.agent,
        [part for part in request.input if part.kind != "artifact"],
        limits=limits,
        context=request.context,
        timeout=timeout,
        environment=environment,
        settings=settings,
        interceptors=[player],
    )
    return CassetteResult(run, (*player.departures, *_endings(cassette.last, run)))


def _with_providers(app: App, providers: Sequence[Any]) -> App:
    playing = App.__new__(App)
    playing.__dict__.update(app.__dict__, providers=tuple(providers))
    return playing


def _endings(recorded: CassetteRun, run: AgentRun) -> list[Departure]:
    was, now = recorded.ending, "completed" if run.error is None else "failed"
    if was != now:
        return [Departure("end", "", was, f"{now}: {run.text}")]
    if run.error is None and recorded.output != run.output:
        return [Departure("output", "", _shown(recorded.output), _shown(run.output))]
    return []


class _Player(Interceptor):
    """Answers for models and tools, and notes what is otherwise than it was."""

    def __init__(self, cassette: Cassette) -> None:
        self.departures: list[Departure] = []
        self._root = cassette.workflow_id
        self._messages: dict[str, dict[Place, Message]] = {}
        self._replies: dict[tuple[str, Place], RecordedReply] = {}
        self._tools: dict[tuple[str, Place], RecordedTool] = {}
        self._specs: dict[str, AgentSpec] = {}
        for run in cassette.runs:
            path = run.workflow_id.removeprefix(self._root)
            self._messages.setdefault(path, {}).update(run.messages())
            self._replies.update({(path, _place(each)): each for each in run.replies})
            self._tools.update({(path, _place(each)): each for each in run.tools})
            for spec in run.specs:
                self._specs.setdefault(spec.name, spec)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)

    def note(self, kind: Kind, where: str, recorded: str, now: str) -> None:
        found = Departure(kind, where, recorded, now)
        if found not in self.departures:
            self.departures.append(found)

    def compare_spec(self, now: AgentSpec) -> None:
        was = self._specs.get(now.name)
        if was is None:
            return
        self._compare("instructions", was.instructions, now.instructions)
        self._compare("model", [each.name for each in was.models], [each.name for each in now.models])
        self._compare("limits", was.limits.model_dump(mode="json"), now.limits.model_dump(mode="json"))
        self._compare("output type", _schema(was), _schema(now))
        known = {tool.name: tool for tool in was.tools}
        today = {tool.name: tool for tool in now.tools}
        for name in sorted({*known, *today}):
            self._compare("tools", _told(known.get(name)), _told(today.get(name)), name)

    def _compare(self, kind: Kind, was: Any, now: Any, where: str = "") -> None:
        if was != now:
            self.note(kind, where, _shown(was), _shown(now))

    def reply(self, path: str, asked: CallModelRequest, prompt: Sequence[Message]) -> Message:
        """Return what the model said; the prompt is compared.

        Raises:
            ModelCallError: It was not asked that. Not retryable.
        """
        known = self._messages.get(path, {})
        for slot, message in enumerate(prompt):
            was = known.get((asked.conversation, asked.epoch, slot))
            if was is not None and _essence(was) != _essence(message):
                self.note("message", _where(path, asked.conversation, slot), _say(was), _say(message))
        reply = self._replies.get((path, (asked.conversation, asked.epoch, asked.slots)))
        if reply is None:
            where = _where(path, asked.conversation, asked.slots)
            self.note("call", where, "no model call", _say(prompt[-1]))
            raise ModelCallError(f"The cassette has no model call at {where}: record it anew.", kind="fatal")
        return reply.message

    def usage(self, path: str, asked: CallModelRequest) -> Usage:
        """Return what the call used when it was recorded."""
        return self._replies[(path, (asked.conversation, asked.epoch, asked.slots))].usage

    def result(self, path: str, asked: CallToolRequest) -> CallToolResult:
        """Return what the tool said."""
        place = (asked.conversation, asked.epoch, asked.slot)
        where, known = _where(path, asked.conversation, asked.slot), self._tools.get((path, place))
        now = f"{asked.name}({asked.arguments or '…'})"
        if known is None or known.name != asked.name:
            self.note("tool call", where, "no tool call" if known is None else known.name, now)
            call = ToolCallPart(id=asked.call_id, name=asked.name)
            message = tool_message(call, "The cassette has no such call.", outcome="error")
        else:
            message = known.message
            if asked.arguments is not None and _json(asked.arguments) != _json(known.arguments):
                self.note("tool call", where, f"{known.name}({known.arguments})", now)
        return CallToolResult(slot=asked.slot, epoch=asked.epoch, conversation=asked.conversation, message=message)

    def path(self) -> str:
        """Return the run that the activity is of: its id below the root's, which is new on every run."""
        return "/" + found[1] if len(found := (activity.info().workflow_id or "").split("/", 1)) > 1 else ""


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, player: _Player) -> None:
        super().__init__(next)
        self._player = player

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        match activity.info().activity_type:
            case str(name) if name == CALL_TOOL:
                return self._player.result(self._player.path(), input.args[0])
            case str(name) if name == LOAD_AGENT:
                spec = await super().execute_activity(input)
                self._player.compare_spec(spec)
                return spec
            case str(name) if name == CALL_MODEL:
                _ASKED.set((self._player.path(), input.args[0]))
                return await super().execute_activity(input)
            case _:
                return await super().execute_activity(input)


class _Played:
    """A provider whose models say what they said."""

    protocol = "cassette"

    def __init__(self, name: str, player: _Player) -> None:
        self.name = name
        self._player = player

    def check(self) -> None:
        """Nothing is needed."""

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        return Fragment(message.role, message.to_bytes())

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        asked = _ASKED.get()
        assert asked is not None, "a model is asked in its activity"
        prompt = [Message.model_validate_json(each.body) for each in request.fragments]
        message = self._player.reply(*asked, prompt)
        on_text(message.text)
        return ModelReply(message=message, usage=self._player.usage(*asked))


def _place(each: RecordedReply | RecordedTool) -> Place:
    return (each.conversation, each.epoch, each.slot)


def _where(path: str, conversation: str, slot: int) -> str:
    return f"{path} {conversation} slot {slot}".strip()


def _essence(message: Message) -> Any:
    """Return what counts of a message: not who wrote it, nor what a vendor keeps in it."""
    return message.role, [part.model_dump(exclude={"vendor"}) for part in message.parts]


def _say(message: Message) -> str:
    return (
        message.text
        or "; ".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
        or _shown([part.model_dump(mode="json") for part in message.parts])
    )


def _schema(spec: AgentSpec) -> Any:
    return None if spec.output is None else spec.output.parameters


def _told(tool: Any) -> Any:
    return None if tool is None else {"description": tool.description, "parameters": tool.parameters}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
