"""Model calls that did not go well at once, from Event History. Client side; no worker is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from perdure.contracts.calls import CallModelRequest
from perdure.contracts.names import CALL_MODEL
from perdure.contracts.spec import AgentSpec


class ModelTrouble(BaseModel):
    """A call of one model that failed, or was answered only after a failure."""

    model_config = ConfigDict(frozen=True)

    model: str
    slot: int
    """The slot of the conversation that its reply fills, or would have filled."""
    attempts: int
    """Waiting out a rate limit or an outage counts here too, as Temporal counts."""
    failure: str
    """The last one."""
    is_answered: bool = False


@dataclass
class _Call:
    request: CallModelRequest
    attempts: int = 1
    failure: str = ""
    is_answered: bool = False


class AttemptReader:
    """Takes in the history of a run."""

    def __init__(self, converter: DataConverter) -> None:
        """Start with nothing read."""
        self._converter = converter
        self._calls: dict[int, _Call] = {}

    async def read(self, event: HistoryEvent) -> None:
        """Take an event in."""
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                if scheduled.activity_type.name == CALL_MODEL:
                    decoded: list[Any] = await self._converter.decode(
                        list(scheduled.input.payloads)[:1], [CallModelRequest]
                    )
                    self._calls[event.event_id] = _Call(decoded[0])
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                call = self._calls.get(started.scheduled_event_id)
                if call is not None and started.attempt > 1:
                    call.attempts, call.failure = started.attempt, started.last_failure.message
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                call = self._calls.get(event.activity_task_completed_event_attributes.scheduled_event_id)
                if call is not None:
                    call.is_answered = True
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                self._fail(failed.scheduled_event_id, failed.failure.message)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = event.activity_task_timed_out_event_attributes
                self._fail(timed_out.scheduled_event_id, timed_out.failure.message)
            case _:
                pass

    def _fail(self, scheduled: int, message: str) -> None:
        call = self._calls.get(scheduled)
        if call is not None:
            call.failure = message

    def troubles(self, specs: Mapping[str, AgentSpec]) -> tuple[ModelTrouble, ...]:
        """Return what did not go well, in order; `specs` are the run's by digest."""
        return tuple(
            ModelTrouble(
                model=_name(call.request, specs),
                slot=call.request.slots,
                attempts=call.attempts,
                failure=call.failure,
                is_answered=call.is_answered,
            )
            for call in self._calls.values()
            if call.failure
        )


def _name(request: CallModelRequest, specs: Mapping[str, AgentSpec]) -> str:
    spec = specs.get(request.spec)
    return "" if spec is None else spec.models[request.model].name
