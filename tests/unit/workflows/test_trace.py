"""The span of a run: time stamps of history as nanoseconds."""

from datetime import UTC, datetime

from perdure.workflows._trace import to_ns


def test_nanoseconds_lose_nothing() -> None:
    at = datetime(2026, 11, 25, 17, 20, 1, 123456, tzinfo=UTC)
    assert to_ns(at) == 1795627201123456000
