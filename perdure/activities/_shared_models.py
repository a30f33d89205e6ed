"""Model calls that several runs share: what makes two the same, and the way to the reply. Activity side."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.activities._cache import Slot
from perdure.activities._progress import Heart
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
    if not _is_shared(spec):
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

    try:
        shared = await sharing.join(_call(spec, request, slots, request.max_output_tokens), make_request)
    except SharedCallFailed as error:
        cause = revive(error.cause)
        if isinstance(cause, ApplicationError):
            raise cause from None
        raise ApplicationError(
            f"The shared call of {name} did not complete: {cause}", type="SharedCallFailed", non_retryable=True
        ) from None
    if shared is None:
        return None
    return shared.result if shared.asker == asker_name() else _saved(shared)


async def find_shared_reply(
    sharing: Sharing, spec: AgentSpec, request: CallModelRequest, slots: Sequence[Slot], heart: Heart
) -> CallModelResult | None:
    """Return the reply to the same call of another run, for one that is paid from a limit; None without any.

    A shared call is retried on nobody's reservation, so that such a run starts none. What others began is free.

    Raises:
        ApplicationError: It is still being made. Retryable.
    """
    if not _is_shared(spec):
        return None
    shared = await sharing.find(_call(spec, request, slots, None), heart)
    return None if shared is None else _saved(shared)


async def keep_for_others(
    sharing: Sharing, spec: AgentSpec, request: CallModelRequest, slots: Sequence[Slot], result: CallModelResult
) -> None:
    """Let other runs have the reply to a call that was paid from a limit, unless that has cut it off."""
    if _is_shared(spec) and result.message.stop not in ("length", "interrupted"):
        kept = SharedModelResult(result=result, asker=asker_name())
        await sharing.keep(_call(spec, request, slots, None), kept)


def _is_shared(spec: AgentSpec) -> bool:
    return spec.settings.cache == "shared" and spec.settings.temperature == 0


def _saved(shared: SharedModelResult) -> CallModelResult:
    return shared.result.model_copy(update={"usage": NO_USAGE, "saved": shared.result.usage})


def _call(
    spec: AgentSpec, request: CallModelRequest, slots: Sequence[Slot], output_tokens: int | None
) -> SharedCall[SharedModelResult]:
    name, timeout = spec.models[request.model].name, spec.settings.timeout + _MARGIN
    return SharedCall(
        name="model",
        activity=ASK_SHARED_MODEL,
        parts=(request.tenant, name, request.is_final, output_tokens, _prompt_digest(spec, slots)),
        ttl=spec.settings.cache_ttl,
        result_type=SharedModelResult,
        timeout=timeout,
        total=max(spec.settings.max_wait, timeout),
        max_attempts=0,
        summary=f"{name} for {spec.name}",
    )


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
