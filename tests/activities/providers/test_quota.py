"""Rate limit headers of several vendors."""

import pytest

from perdure.providers._quota import Quota, read_quotas, read_reset


def read(**headers: str) -> object:
    return read_quotas([(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()])


def test_openai() -> None:
    assert read(
        x_ratelimit_limit_requests="60",
        x_ratelimit_remaining_requests="59",
        x_ratelimit_reset_requests="1s",
        X_RateLimit_Limit_Tokens="150000",
        x_ratelimit_remaining_tokens="149984",
        x_ratelimit_reset_tokens="6m0s",
    ) == {"requests": Quota(60, 59, 1), "tokens": Quota(150_000, 149_984, 360)}


def test_anthropic_by_its_own_clock() -> None:
    assert read(
        date="Tue, 01 Jul 2025 12:00:00 GMT",
        anthropic_ratelimit_input_tokens_limit="50000",
        anthropic_ratelimit_input_tokens_remaining="20000",
        anthropic_ratelimit_input_tokens_reset="2025-07-01T12:00:36Z",
    ) == {"input-tokens": Quota(50_000, 20_000, 36)}


def test_without_a_dimension() -> None:
    assert read(x_ratelimit_limit="10", x_ratelimit_remaining="3", x_ratelimit_reset="20") == {
        "requests": Quota(10, 3, 20)
    }


@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "inf", "0"])
def test_a_limit_that_is_none(value: str) -> None:
    assert read(x_ratelimit_limit_requests=value, x_ratelimit_remaining_requests="1") == {}


def test_answers_without_limits() -> None:
    assert read(date="Tue, 01 Jul 2025 12:00:00 GMT", content_type="application/json") == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12ms", 0.012), ("1h2m3.5s", 3723.5), ("17", 17), ("", None), ("soon", None), ("-3", None), ("1s2", None)],
)
def test_resets(text: str, seconds: float | None) -> None:
    assert read_reset(text) == pytest.approx(seconds)


def test_a_reset_as_a_unix_time() -> None:
    date = "Tue, 01 Jul 2025 12:00:00 GMT"
    assert read_reset("1751371210", date) == pytest.approx(10)
    assert read_reset("1751371210000", date) == pytest.approx(10)
