"""Activity side; owns the classification of vendors' errors: the one place that reads their codes. No I/O."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from perdure.errors import ModelCallError, ModelErrorKind
from perdure.providers._redact import redact, shorten
from perdure.providers._wire import Json, as_dict, as_list, as_text, loads

MAX_RETRY_AFTER_SECONDS = 600.0
"""A vendor that asks for more is asked again after this long: its estimate may be wrong."""

_TRANSIENT_STATUS = frozenset({408, 409, 425})
_FATAL_SERVER_STATUS = frozenset({501, 505})
_GATEWAY_STATUS = frozenset({502, 504, 524})
"""Written by a proxy, which doesn't know whether the vendor went on with the call."""

_RATE_CODES = frozenset({"rate_limit_error", "rate_limit_exceeded", "resource_exhausted", "too_many_requests"})
_FATAL_CODES = frozenset(
    {"authentication_error", "invalid_api_key", "permission_error", "not_found_error", "model_not_found"}
    | {"invalid_request_error", "unsupported_parameter", "content_policy_violation"}
)
_BILLING_CODES = frozenset(
    {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"}
)
_CONTEXT_CODES = frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"})

_BILLING_TEXT = re.compile(
    r"credit balance is too low|exceeded your current quota, please check your plan"
    r"|insufficient (credits|balance)",
    re.IGNORECASE,
)
_CONTEXT_TEXT = re.compile(
    r"maximum context length|context[ _]length[ _]exceeded|exceeds? (the )?(model's |maximum )?context"
    r"|prompt is too long|input is too long|exceed context limit|context window"
    r"|token count .{0,40}exceeds the maximum|reduce the length of the (messages|prompt)"
    r"|request too large for",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a vendor's error says, whatever its shape."""

    message: str = ""
    codes: frozenset[str] = frozenset()
    status: int = 0
    """A status that is written in the body: OpenRouter and Gemini put it there, inside a 200."""


@dataclass(frozen=True, slots=True)
class VendorErrors:
    """Makes the errors of one provider; none of their texts holds a secret."""

    provider: str
    key_env: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def failed(
        self, text: str, *, kind: ModelErrorKind = "transient", may_be_billed: bool = False
    ) -> ModelCallError:
        """Return the error of a call that got no usable answer."""
        shown = shorten(redact(text, self.secrets))
        return ModelCallError(f"{self.provider}: {shown}", kind=kind, may_be_billed=may_be_billed)

    def answered(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelCallError:
        """Return the error that an HTTP answer other than 200 stands for."""
        facts = _read_body(body)
        kind = _kind(status, facts)
        retry_after = read_retry_after(headers) if kind in ("transient", "rate_limited") else None
        text = shorten(redact(facts.message or _phrase(status), self.secrets))
        return ModelCallError(
            f"{self.provider} answered {status}: {text}{self._remedy(status, facts, kind)}",
            kind=kind,
            status_code=status,
            retry_after_seconds=retry_after,
            may_be_billed=status in _GATEWAY_STATUS,
        )

    def event(self, payload: Json) -> ModelCallError:
        """Return the error that was sent inside of a 200: the call had begun, and may be billed."""
        facts = _read_value(payload)
        kind = _kind(facts.status or 200, facts)
        text = shorten(redact(facts.message or "an error without a text", self.secrets))
        return ModelCallError(
            f"{self.provider} broke off with an error: {text}{self._remedy(facts.status, facts, kind)}",
            kind=kind,
            status_code=facts.status or 200,
            may_be_billed=True,
        )

    def _remedy(self, status: int, facts: _Facts, kind: ModelErrorKind) -> str:
        if kind == "context_too_long" or kind == "transient":
            return ""
        if _is_billing(facts) or status == 402:
            return " Check the plan and the billing of the account."
        if kind == "rate_limited":
            return ""
        if status == 401 or facts.codes & {"authentication_error", "invalid_api_key"}:
            return f" Check the key in {self.key_env}." if self.key_env else " Set api_key_env for the provider."
        if status == 403:
            return " Check what the key may do."
        if status == 404:
            return " Check the model's name, and the provider's base URL."
        if 300 <= status < 400:
            return " Redirects are not followed: correct the provider's base URL."
        return ""


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a vendor asks to wait, 0 to 600, or None."""
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    else:
        text = headers.get("retry-after")
        seconds = _number(text)
        if seconds is None and text:
            seconds = _seconds_until(text)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _seconds_until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()


def _kind(status: int, facts: _Facts) -> ModelErrorKind:
    if _is_context(status, facts):
        return "context_too_long"
    if _is_billing(facts):
        return "fatal"
    if status == 429 or facts.codes & _RATE_CODES:
        return "rate_limited"
    if status == 200:
        return "fatal" if facts.codes & _FATAL_CODES else "transient"
    is_server_error = status >= 500 and status not in _FATAL_SERVER_STATUS
    return "transient" if is_server_error or status in _TRANSIENT_STATUS else "fatal"


def _is_context(status: int, facts: _Facts) -> bool:
    if status == 413 or facts.codes & _CONTEXT_CODES:
        return True
    # A 429 that says so: the one request is over the limit per minute, so waiting never helps.
    return status in (200, 400, 422, 429) and bool(_CONTEXT_TEXT.search(facts.message))


def _is_billing(facts: _Facts) -> bool:
    return bool(facts.codes & _BILLING_CODES or _BILLING_TEXT.search(facts.message))


def _read_body(body: bytes) -> _Facts:
    try:
        value = loads(body)
    except ValueError:
        return _Facts(message=_page_text(body))
    return _read_value(value)


def _read_value(value: Any) -> _Facts:
    """Find message and codes: OpenAI and Anthropic nest them, vLLM doesn't, Gemini sends a list."""
    outer = as_dict(as_list(value)[0]) if as_list(value) else as_dict(value)
    inner = outer.get("error", outer)
    if isinstance(inner, str):
        return _Facts(message=inner)
    error = as_dict(inner)
    message = as_text(error.get("message")) or as_text(outer.get("message")) or _text_of(outer.get("detail"))
    code = error.get("code")
    status = code if isinstance(code, int) and 300 <= code < 600 else 0
    return _Facts(message, _codes([code, error.get("type"), error.get("status")]), status)


def _codes(values: Iterable[object]) -> frozenset[str]:
    return frozenset(value.lower() for value in values if isinstance(value, str))


def _text_of(value: object) -> str:
    return "" if value is None else str(value)


def _page_text(body: bytes) -> str:
    """Return what a person would read of an answer that is no JSON: a proxy's page, or plain text."""
    text = body[:4096].decode("utf-8", "replace")
    if not text.lstrip().startswith("<"):
        return text.strip()
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return f"an HTML page, {title[1].strip()!r}" if title else "an HTML page"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no text"
