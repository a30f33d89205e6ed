"""`People`: what a client offers to the people that runs wait for. Client side."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

from pydantic import JsonValue
from temporalio.client import Client, WorkflowUpdateFailedError

from perdure.agents.fitting import fitting_faults
from perdure.client._identity import decider
from perdure.client._runs import describe, to_info
from perdure.client._updates import UPDATE_TIMEOUT, deliver_update
from perdure.client._waits import Inbox, RecordedDecision, RunWaits, WaitReader, find_wait, read_decisions
from perdure.contracts.names import DECIDE_UPDATE
from perdure.contracts.waits import DecideRequest, Decision, Wait, WaitKind
from perdure.errors import InvalidInputError, PerdureError, revive


class People:
    """Approvals and questions: what waits, and deciding it. `PerdureClient` is one.

    Who decides is recorded as the connection tells it: see `perdure.client._identity`.
    """

    temporal: Client
    update_timeout: timedelta

    async def inbox(self, *, group: str | None = None, kind: WaitKind | None = None, limit: int = 200) -> Inbox:
        """Return the runs that wait for people, with what they wait for.

        Args:
            group: Only what waits for this group. Every waiting run is asked then.
            kind: Only approvals, or only questions. Likewise.
            limit: At most so many runs; of more, those that started last are left out.

        Raises:
            InvalidInputError: The server lacks perdure's search attributes. Not retryable.
        """
        return await WaitReader(self.temporal).inbox(group=group, kind=kind, limit=limit)

    async def waits(self, workflow_id: str) -> list[RunWaits]:
        """Return what a run waits for people for, and what the runs below it do, with whole arguments.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        described = await describe(self.temporal, workflow_id)
        reader = WaitReader(self.temporal)
        found = await reader.of_tree(to_info(described.workflow_execution_info, self.temporal))
        return [
            run.model_copy(
                update={"waits": tuple([await reader.whole_arguments(run, wait) for wait in run.waits])}
            )
            for run in found
        ]

    async def decisions(self, workflow_id: str) -> list[RecordedDecision]:
        """Return what people decided in a run, from history: it needs no worker.

        Raises:
            RunNotFoundError: There is no such run. Not retryable.
        """
        described = await describe(self.temporal, workflow_id)
        return await read_decisions(self.temporal, to_info(described.workflow_execution_info, self.temporal))

    async def approve(
        self,
        workflow_id: str,
        call: str | None = None,
        *,
        arguments: Mapping[str, JsonValue] | None = None,
        is_always: bool = False,
    ) -> Decision:
        """Approve a tool call that waits.

        Args:
            workflow_id: The run, or one above it.
            call: The id of the wait, or its beginning; not needed where one waits.
            arguments: To run it with, instead of the model's; they are checked, and the model is told.
            is_always: Approve calls of the tool for the rest of the run.

        Raises:
            InvalidInputError: It doesn't wait, was decided before, or the arguments don't fit. Not retryable.
            RunNotFoundError: There is no such run, or it is closed. Not retryable.
            NoWorkerError: Nobody took the decision in `update_timeout`; it may be taken yet. Retryable.
        """
        text = None if arguments is None else json.dumps(dict(arguments), ensure_ascii=False)
        return await self._decide(workflow_id, call, "approve", arguments=text, is_always=is_always)

    async def deny(self, workflow_id: str, call: str | None = None, *, reason: str = "") -> Decision:
        """Deny a tool call that waits; the model is told the reason. Arguments and errors as `approve`."""
        return await self._decide(workflow_id, call, "deny", reason=reason)

    async def answer(self, workflow_id: str, answer: JsonValue, call: str | None = None) -> Decision:
        """Answer a question that waits. Arguments and errors as `approve`."""
        return await self._decide(workflow_id, call, "answer", answer=answer)

    async def answer_text(self, workflow_id: str, text: str, call: str | None = None) -> Decision:
        """Answer a question with a text, or the JSON in it where the question asks for more than a text."""
        run, wait = find_wait(await self.waits(workflow_id), workflow_id, call, kind="question")
        return await self.answer(run.workflow_id, read_answer(wait, text), wait.id)

    async def _decide(
        self, workflow_id: str, call: str | None, verdict: Literal["approve", "deny", "answer"], **given: Any
    ) -> Decision:
        kind = "question" if verdict == "answer" else "approval"
        run, wait = find_wait(await self.waits(workflow_id), workflow_id, call, kind=kind)
        request = DecideRequest(
            wait=wait.id, verdict=verdict, by=decider(self.temporal), id=uuid4().hex[:16], **given
        )
        return await send_decision(self.temporal, run.workflow_id, request, timeout=self.update_timeout)


def read_answer(wait: Wait, text: str) -> JsonValue:
    """Return what a text stands for as an answer: itself where that fits, else the JSON that it is."""
    if not fitting_faults({"type": "string"} if wait.answer is None else wait.answer, text):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


async def send_decision(
    client: Client, workflow_id: str, request: DecideRequest, *, timeout: timedelta = UPDATE_TIMEOUT
) -> Decision:
    """Deliver a decision, as often as it takes: delivered twice it is one, also where the run continues as new.

    Raises:
        InvalidInputError: The run refused it, and nothing is in its history. Not retryable.
        RunNotFoundError: There is no such run, or it is closed. Not retryable.
        NoWorkerError: Nobody took it in time; it may be taken yet. Retryable.
    """
    try:
        return await deliver_update(
            client,
            workflow_id,
            DECIDE_UPDATE,
            [request],
            result_type=Decision,
            id=request.id,
            is_repeatable=True,
            undone="took the decision",
            timeout=timeout,
        )
    except WorkflowUpdateFailedError as error:
        raise _refusal(error) from None


def _refusal(error: WorkflowUpdateFailedError) -> PerdureError:
    reason = revive(error.cause)
    if isinstance(reason, PerdureError):
        return reason
    return InvalidInputError(f"The run can't take it: {getattr(reason, 'message', reason)}")
