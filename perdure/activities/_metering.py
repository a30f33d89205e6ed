"""What a call may not do while a limit of money or tokens holds. Activity side."""

from perdure.contracts.limits import ModelSettings
from perdure.errors import UserError

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
