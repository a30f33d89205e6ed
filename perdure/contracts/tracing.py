"""What a trace is made of, as plain data: ids that follow from the run, and the context as a string. Both sides.

The trace of a tree of runs is named after its root, and a span after what it is of: a run, an attempt at an
activity. So whoever sends a span, how often and after whatever crash, sends the same one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

TRACE_HEADER: Final = "traceparent"
"""Temporal header with the W3C trace context of whoever asks for the work."""
CHAIN_HEADER: Final = "perdure-trace"
"""Temporal header with which a run tells its successor, when it continues as new, which span they both are."""

AttributeValue = str | bool | int | float | tuple[str, ...]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_CHAIN = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{16})?-([0-9a-f]{2})-(\d{1,20})")


class TraceContext(NamedTuple):
    """A span, for those below it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool = True

    def to_header(self) -> str:
        """Return the W3C `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"


class RunSpan(NamedTuple):
    """The span of a run, over its whole chain of Continue-As-New."""

    context: TraceContext
    parent_id: str
    """Empty for the root of the trace."""
    began_ns: int

    def to_header(self) -> str:
        """Return it as text."""
        trace_id, span_id, is_sampled = self.context
        return f"{trace_id}-{span_id}-{self.parent_id}-{is_sampled:02x}-{self.began_ns}"


@dataclass(frozen=True, kw_only=True)
class SpanFact:
    """A span that is over, as plain data."""

    name: str
    context: TraceContext
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    error: str = ""
    """The type of what it failed with; empty when it didn't."""


def read_traceparent(text: str | None) -> TraceContext | None:
    """Return the context of a `traceparent`; None for what isn't one."""
    match = _TRACEPARENT.fullmatch(text or "")
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return None
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & 1))


def read_run_span(text: str | None) -> RunSpan | None:
    """Return the span that a predecessor told of; None for what isn't one."""
    match = _CHAIN.fullmatch(text or "")
    if match is None:
        return None
    context = TraceContext(match[1], match[2], bool(int(match[4], 16) & 1))
    return RunSpan(context, match[3] or "", int(match[5]))


def root_trace_id(namespace: str, workflow_id: str, first_run_id: str) -> str:
    """Return the trace of a run that nobody's span started."""
    return _digest("trace", namespace, workflow_id, first_run_id)[:32]


def span_id(trace_id: str, *identity: str | int) -> str:
    """Return the span of something within a trace."""
    return _digest(trace_id, *map(str, identity))[:16]


def attempt_span_id(trace_id: str, run_id: str, activity_id: str, attempt: int) -> str:
    """Return the span of an attempt at an activity."""
    return span_id(trace_id, "activity", run_id, activity_id, attempt)


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()
