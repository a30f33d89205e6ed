"""Ids of spans follow from what the spans are of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.tracing import (
    RunSpan,
    TraceContext,
    attempt_span_id,
    read_run_span,
    read_traceparent,
    root_trace_id,
    span_id,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
hexes = st.text("0123456789abcdef", min_size=16, max_size=16)


def test_a_traceparent_is_that_of_w3c() -> None:
    context = TraceContext(TRACE, SPAN)
    assert context.to_header() == f"00-{TRACE}-{SPAN}-01"
    assert context._replace(is_sampled=False).to_header() == f"00-{TRACE}-{SPAN}-00"
    assert read_traceparent(f"00-{TRACE}-{SPAN}-03") == context


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent(text: str | None) -> None:
    assert read_traceparent(text) is None


@given(hexes, hexes, hexes, st.one_of(st.just(""), hexes), st.booleans(), st.integers(0, 2**62))
def test_a_span_of_a_chain_round_trips(a: str, b: str, own: str, parent: str, kept: bool, began: int) -> None:
    span = RunSpan(TraceContext(a + b, own, kept), parent, began)
    assert read_run_span(span.to_header()) == span
    assert read_run_span(span.to_header() + "x") is None


def test_ids_differ_by_all_that_they_are_of() -> None:
    ids = {
        attempt_span_id(trace, run, activity, attempt)
        for trace in (TRACE, "f" * 32)
        for run in ("r1", "r2")
        for activity in ("1", "11")
        for attempt in (1, 11)
    }
    assert len(ids) == 16
    assert {len(each) for each in ids} == {16}
    assert span_id(TRACE, "a", "bc") != span_id(TRACE, "ab", "c")
    assert root_trace_id("ns", "w", "r") == root_trace_id("ns", "w", "r") != root_trace_id("ns", "w", "s")
    assert len(root_trace_id("ns", "w", "r")) == 32


def test_ids_are_the_same_for_ever() -> None:
    """Workers of two releases may tell spans of one trace."""
    assert root_trace_id("default", "hello", "run") == "0a648646cd6d73f2cd8c3b35bd0991d6"
    assert attempt_span_id(TRACE, "run", "1", 2) == "07926b39fb40d06d"
