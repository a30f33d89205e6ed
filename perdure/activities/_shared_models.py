"""Model calls that several runs share: what makes two the same, and the way to the reply. Activity side."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.activities._cache import Slot
from perdure.activities._sharing import SharedCall, SharedCallFailed, Sharing, asker_name
from perdure.contracts.calls import CallModelRequest, CallModelResult, SharedModelRequest, SharedModelResult
from perdure.contracts.names import ASK_SHARED_MODEL
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import NO_USAGE
from perdure.errors import revive

_MARGIN = timedelta(seconds=30)


async def share_model_call(
    sharing: Sharing, spec: AgentSpec, request: CallModelRequest, slots: Sequence[Slot]
) -> CallModelResult | None:
    """Return the reply to a call, whoever made it; None where nothing can be shared.

    Raises:
        ApplicationError: It is still being made (retryable), or what the one that was made failed with.
    """
    if spec.settings.cache != "shared" or spec.settings.temperature != 0:
        return None
    info = activity.info()
    name = spec.models[request.model].name

    def make_request(_: str) -> SharedModelRequest:
        return SharedModelRequest(
            call=request,
            workflow_id=info.workflow_id or "",
            run_id=info.workflow_run_id or "",
            asker=asker_name(),
        )

    timeout = spec.settings.timeout + _MARGIN
    call = SharedCall(
        name="model",
        activity=ASK_SHARED_MODEL,
        parts=(request.tenant, name, request.is_final, request.max_output_tokens, _prompt_digest(spec, slots)),
        ttl=spec.settings.cache_ttl,
        result_type=SharedModelResult,
        timeout=timeout,
        total=max(spec.settings.max_wait, timeout),
        max_attempts=0,
        summary=f"{name} for {spec.name}",
    )
    try:
        shared = await sharing.join(call, make_request)
    except SharedCallFailed as error:
        cause = revive(error.cause)
        if isinstance(cause, ApplicationError):
            raise cause from None
        raise ApplicationError(
            f"The shared call of {name} did not complete: {cause}", type="SharedCallFailed", non_retryable=True
        ) from None
    if shared is None:
        return None
    if shared.asker == asker_name():
        return shared.result
    return shared.result.model_copy(update={"usage": NO_USAGE, "saved": shared.result.usage})


def _prompt_digest(spec: AgentSpec, slots: Sequence[Slot]) -> str:
    """Return what tells all that the vendor is sent, and how the reply is read."""
    digest = sha256()
    for part in (
        spec.instructions.encode(),
        b"".join(tool.to_bytes() for tool in spec.tools),
        b"" if spec.output is None else spec.output.to_bytes(),
        spec.settings.to_bytes(),
        *(slot.message.to_bytes() for slot in slots),
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
