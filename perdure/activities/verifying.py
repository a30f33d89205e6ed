"""The activity that judges an answer by a function of the user's. Activity side."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from temporalio import activity

from perdure.activities._cache import ConversationKey
from perdure.activities._lookup import Lookup
from perdure.activities.planning import judge_plan
from perdure.agents.agent import Agent
from perdure.agents.registry import Registry
from perdure.contracts.answers import output_value
from perdure.contracts.calls import Verdict, VerifyRequest
from perdure.contracts.names import PLAN_VERIFIER, VERIFY
from perdure.errors import UserError


class VerifyActivities:
    """Judges answers on behalf of runs."""

    def __init__(self, *, registry: Registry, lookup: Lookup, redact: Callable[[str], str]) -> None:
        """Work with these; `redact` takes the secrets out of a text."""
        self._registry = registry
        self._lookup = lookup
        self._redact = redact

    @activity.defn(name=VERIFY)
    async def verify(self, request: VerifyRequest) -> Verdict:
        """Judge the answer in a slot, by the function that the agent names today.

        Raises:
            UserError: The function is gone, failed, or returned what is no verdict. Not retryable.
            ConversationUnavailableError: Retryable.
        """
        info = activity.info()
        workflow_id, run_id = info.workflow_id or "", info.workflow_run_id or ""
        key = ConversationKey(workflow_id, run_id, request.conversation, request.epoch)
        spec = await self._lookup.spec(request.spec, workflow_id, run_id)
        slot = await self._lookup.slot(key, request.slot, digest=request.digest)
        output = output_value(spec, slot.message)
        if request.verifier == PLAN_VERIFIER:
            verdict = judge_plan(self._registry, spec, output)
            own = self._registry.agent(request.agent).verify
            if not verdict.accept or own is None or isinstance(own, Agent):
                return verdict
            return await self._judge(own, output, request.agent)
        return await self._judge(self._function(request), output, request.agent)

    def _function(self, request: VerifyRequest) -> Callable[..., Any]:
        """Return the function of today under the name that the run is pinned to."""
        own = self._registry.agent(request.agent).verify
        is_own = not request.verifier or getattr(own, "__name__", None) == request.verifier
        function = own if is_own else self._registry.verifiers.get(request.verifier)
        if isinstance(function, Agent) or not callable(function):
            raise UserError(f"Agent {request.agent!r} no longer has the function that verifies its answers.")
        return function

    async def _judge(self, function: Callable[..., Any], output: Any, agent: str) -> Verdict:
        name = getattr(function, "__name__", "verify")
        try:
            value = await _call(function, output)
        except Exception as error:
            reason = self._redact(f"{type(error).__name__}: {error}")
            raise UserError(f"The verifier {name!r} of agent {agent!r} failed: {reason}") from None
        return _verdict(value, name)


async def _call(function: Callable[..., Any], output: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(output)
    return await asyncio.to_thread(function, output)


def _verdict(value: Any, name: str) -> Verdict:
    """Read what a function returned: a verdict, whether it will do, or why not (an empty text will do)."""
    if isinstance(value, Verdict):
        return value
    if isinstance(value, bool):
        return Verdict(accept=value, reason="" if value else f"{name} did not accept it.")
    if value is None or isinstance(value, str):
        return Verdict(accept=not value, reason=value or "")
    raise UserError(f"The verifier {name!r} returned a {type(value).__name__}: return a bool, a str or a Verdict.")
