"""What a call may not do while a limit of money or tokens holds. Activity side."""

from perdure.contracts.budget import MAX_ARTIFACT_TOKENS
from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import ArtifactPart, Message
from perdure.contracts.usage import Price, Usage
from perdure.errors import UserError
from perdure.providers.base import ModelReply

_UNBOUNDED = ("n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "service_tier")
"""Fields of vendors' requests that multiply what a call costs, or lift its bound."""


def check_extra(settings: ModelSettings) -> None:
    """Refuse extra fields with which a call can cost more than its worst case.

    Raises:
        UserError: There is such a field. Not retryable.
    """
    found = [name for name in _UNBOUNDED if name in (settings.extra or {})]
    if found:
        raise UserError(
            f"ModelSettings.extra has {', '.join(found)}, with which no limit of money or tokens can hold: "
            "use ModelSettings.max_output_tokens, or take the limit away."
        )


def usage_of(reply: ModelReply, price: Price | None, *, is_metered: bool) -> Usage:
    """Return what a reply used, with its cost; what a vendor told in part is no bound, and counts as not told."""
    if reply.is_usage_known:
        return reply.usage.priced(price)
    return Usage() if is_metered else reply.usage.priced(None)


def check_artifacts(referring: Message, whole: Message) -> None:
    """Refuse artifacts that are longer than what is reserved for them: the run doesn't know how long they are.

    Raises:
        UserError: They are too long. Not retryable.
    """
    count = sum(isinstance(part, ArtifactPart) for part in referring.parts)
    more = len(whole.to_bytes()) - len(referring.to_bytes())
    if count and more > count * MAX_ARTIFACT_TOKENS:
        raise UserError(
            f"The artifacts of the task take {more} bytes: while a limit of money or tokens holds, an artifact "
            f"takes at most {MAX_ARTIFACT_TOKENS}. Take the limit away, or refer to a part."
        )
