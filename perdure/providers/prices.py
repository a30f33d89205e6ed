"""Activity side; owns what models cost and how much they read, from the tables of `genai-prices`.

No network: the tables are those of the installed package.
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from perdure.contracts.usage import Price

_FREE = Price(input_usd=Decimal(0), output_usd=Decimal(0))


@lru_cache(maxsize=256)
def find_model(name: str) -> tuple[Price | None, int | None]:
    """Return price and context window of `provider:model`; None for each that is unknown.

    A price in tiers is given by its first: it holds for prompts of usual length.
    """
    provider, _, model = name.partition(":")
    if provider == "offline":
        return _FREE, None
    found = _look_up(provider, model)
    if found is None:
        return None, None
    prices = found.get_prices(datetime.now(UTC))
    return _price(prices), found.context_window


def _look_up(provider: str, model: str) -> Any:
    # Takes a fifth of a second to import, which commands that need no price shouldn't pay.
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return found


def _price(prices: Any) -> Price | None:
    input_usd, output_usd = _per_million(prices, "input_mtok"), _per_million(prices, "output_mtok")
    if input_usd is None or output_usd is None:
        return None
    return Price(
        input_usd=input_usd,
        output_usd=output_usd,
        cached_input_usd=_per_million(prices, "cache_read_mtok"),
        cache_write_usd=_per_million(prices, "cache_write_mtok"),
    )


def _per_million(prices: Any, field: str) -> Decimal | None:
    value = getattr(prices, field, None)
    value = getattr(value, "base", value)
    return value if isinstance(value, Decimal) else None
