"""Cassettes: real runs as files, for tests without a model. Client side.

A cassette holds the histories of a run, of those that it continues and of the runs below it, as Temporal's own
tools write them, and beside that in plain JSON what models and tools said. Fields are only ever added to it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter

import perdure
from perdure.client._runs import describe
from perdure.contracts.messages import Message, ToolCallPart, ToolResultPart
from perdure.contracts.names import AGENT_WORKFLOW
from perdure.contracts.run import RunInput, RunResult
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Usage
from perdure.errors import InvalidInputError
from perdure.history import RecordedRun, RunReader
from perdure.providers._redact import redact

FORMAT: Literal["perdure.cassette/1"] = "perdure.cassette/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class RecordedReply(_Part):
    """What a model said."""

    conversation: str
    epoch: int
    slot: int
    """That the reply fills; the prompt were those before it."""
    message: Message
    usage: Usage = Usage()
    problem: str = ""
    """Why it could not be used."""


class RecordedTool(_Part):
    """What a tool said."""

    conversation: str
    epoch: int
    slot: int
    """That the result fills."""
    name: str
    arguments: str
    """As the model wrote them."""
    message: Message


class RecordedSlot(_Part):
    """A message of a conversation that neither a model nor a tool made."""

    conversation: str
    epoch: int
    slot: int
    message: Message


class CassetteRun(_Part):
    """One run of a cassette: of the chain, or below it."""

    workflow_id: str
    run_id: str
    workflow: str
    """The workflow type."""
    request: RunInput | None = None
    """Its input, where it is an agent's run."""
    specs: tuple[AgentSpec, ...] = ()
    replies: tuple[RecordedReply, ...] = ()
    tools: tuple[RecordedTool, ...] = ()
    others: tuple[RecordedSlot, ...] = ()
    output: JsonValue = None
    ending: str = ""
    """Type of the last event."""
    history: dict[str, JsonValue]
    """As `temporal workflow show --output json` writes it. Payloads are as they were recorded: encrypted, or kept
    elsewhere, where the project has it so."""

    def messages(self) -> dict[tuple[str, int, int], Message]:
        """Return all messages, by conversation, epoch and slot."""
        return {(each.conversation, each.epoch, each.slot): each.message for each in self._slots()}

    def _slots(self) -> Iterable[RecordedReply | RecordedTool | RecordedSlot]:
        yield from self.replies
        yield from self.tools
        yield from self.others


class Cassette(_Part):
    """A recorded run."""

    format: Literal["perdure.cassette/1"] = FORMAT
    perdure: str
    """The version that wrote it."""
    workflow_id: str
    runs: tuple[CassetteRun, ...]
    """First those of the run's own chain, in order, then those below it."""

    @property
    def root(self) -> CassetteRun:
        """The run that was started."""
        return self.runs[0]

    @property
    def last(self) -> CassetteRun:
        """The end of the run's chain."""
        return [run for run in self.runs if run.workflow_id == self.workflow_id][-1]

    def to_json(self) -> str:
        """Return it as a file holds it."""
        return json.dumps(self.model_dump(mode="json"), indent=1)

    @classmethod
    def load(cls, path: Path | str) -> "Cassette":
        """Read a file.

        Raises:
            InvalidInputError: It can't be read, or is no cassette. Not retryable.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(f"Can't read the cassette {path}: {error.strerror}.") from None
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise InvalidInputError(
                f"{path} is no cassette that this version reads: {where} {fault['msg']}. "
                "`perdure replay export` writes them."
            ) from None


async def record_cassette(client: Client, workflow_id: str) -> Cassette:
    """Read a run, what it continues and the runs below it.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        StorageError: It has payloads where this client can't read them. Retryable.
    """
    described = await describe(client, workflow_id)
    info = described.workflow_execution_info
    waiting = [(workflow_id, info.first_run_id or info.execution.run_id)]
    runs: list[CassetteRun] = []
    while waiting:
        known_id, run_id = waiting.pop(0)
        history = await client.get_workflow_handle(known_id, run_id=run_id or None).fetch_history()
        reader = await _read(history, client.data_converter)
        runs.append(await _record(history, reader.run, client.data_converter))
        if reader.next_run_id:
            waiting.insert(0, (known_id, reader.next_run_id))
        waiting += _children(history)
    return Cassette(perdure=perdure.__version__, workflow_id=workflow_id, runs=tuple(runs))


async def _read(history: WorkflowHistory, converter: DataConverter) -> RunReader:
    reader = RunReader(converter)
    for event in history.events:
        await reader.read(event)
    return reader


def _children(history: WorkflowHistory) -> list[tuple[str, str]]:
    started = [
        event.child_workflow_execution_started_event_attributes.workflow_execution
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
    ]
    return [(each.workflow_id, each.run_id) for each in started]


async def _record(history: WorkflowHistory, run: RecordedRun, converter: DataConverter) -> CassetteRun:
    started = history.events[0].workflow_execution_started_event_attributes
    replies = {
        key: RecordedReply(
            conversation=key[0],
            epoch=key[1],
            slot=key[2],
            message=_clean(result.message),
            usage=result.usage,
            problem=result.problem,
        )
        for key, result in run.model_results.items()
    }
    tools: list[RecordedTool] = []
    others: list[RecordedSlot] = []
    for (name, epoch), conversation in run.conversations.items():
        called: dict[str, ToolCallPart] = {}  # ids of calls may come again
        for slot, message in sorted(conversation.items()):
            called |= {call.id: call for call in message.tool_calls}
            place: dict[str, Any] = {"conversation": name, "epoch": epoch, "slot": slot}
            call = _answered(message, called)
            if call is not None and (name, epoch, slot) not in run.copied:
                arguments = _redacted(call.arguments)
                tools.append(RecordedTool(**place, name=call.name, arguments=arguments, message=_clean(message)))
            elif (name, epoch, slot) not in replies:
                others.append(RecordedSlot(**place, message=_clean(message)))
    return CassetteRun(
        workflow_id=started.workflow_id or history.workflow_id,
        run_id=history.run_id,
        workflow=started.workflow_type.name,
        request=run.request,
        specs=tuple(run.specs.values()),
        replies=tuple(replies.values()),
        tools=tuple(tools),
        others=tuple(others),
        output=await _output(history, converter),
        ending=_ending(history),
        history=json.loads(history.to_json()),
    )


def _answered(message: Message, called: dict[str, ToolCallPart]) -> ToolCallPart | None:
    part = message.parts[0] if message.parts else None
    return called.get(part.call_id) if isinstance(part, ToolResultPart) else None


def _clean(message: Message) -> Message:
    return Message.model_validate_json(_redacted(message.model_dump_json()))


def _redacted(text: str) -> str:
    """Return it without what looks like a key: a model may have been shown one."""
    try:
        return json.dumps(_without_secrets(json.loads(text)))
    except ValueError:
        return redact(text)


def _without_secrets(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: _without_secrets(each) for key, each in value.items()}  # pyright: ignore
        case list():
            return [_without_secrets(each) for each in value]  # pyright: ignore
        case _:
            return value


async def _output(history: WorkflowHistory, converter: DataConverter) -> JsonValue:
    started = history.events[0].workflow_execution_started_event_attributes
    last = history.events[-1]
    if last.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        return None
    payloads = list(last.workflow_execution_completed_event_attributes.result.payloads)
    if not payloads:
        return None
    if started.workflow_type.name != AGENT_WORKFLOW:
        return (await converter.decode(payloads))[0]
    result: RunResult = (await converter.decode(payloads, [RunResult]))[0]
    return result.output


def _ending(history: WorkflowHistory) -> str:
    return EventType.Name(history.events[-1].event_type).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_").lower()
