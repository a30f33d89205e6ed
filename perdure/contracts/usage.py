"""What a model call consumed, and what it costs. Both sides."""

from decimal import Decimal

from pydantic import Field

from perdure.contracts._base import Contract

_PER_MILLION = Decimal(1_000_000)


class Price(Contract):
    """US dollars per million tokens, as known when the run started."""

    input_usd: Decimal
    output_usd: Decimal
    cached_input_usd: Decimal | None = None
    """Input read from the vendor's prompt cache; the full input price when unset."""
    cache_write_usd: Decimal | None = None
    """Input written to the vendor's prompt cache; the full input price when unset."""


class Usage(Contract):
    """Tokens and dollars of one call, or a sum of calls."""

    input_tokens: int = Field(default=0, ge=0)
    """All prompt tokens, cached ones included."""
    cached_tokens: int = Field(default=0, ge=0)
    """Prompt tokens read from the vendor's cache; part of `input_tokens`."""
    cache_write_tokens: int = Field(default=0, ge=0)
    """Prompt tokens written to the vendor's cache; part of `input_tokens`."""
    output_tokens: int = Field(default=0, ge=0)
    """All generated tokens, reasoning included."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Hidden reasoning tokens; part of `output_tokens`."""
    cost_usd: Decimal | None = None
    """None where the price, or the usage itself, is unknown; never 0 for want of a price."""

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def priced(self, price: Price | None) -> "Usage":
        """Return the same usage with its cost at `price`."""
        if price is None:
            return self if self.cost_usd is None else self.model_copy(update={"cost_usd": None})
        plain = self.input_tokens - self.cached_tokens - self.cache_write_tokens
        cached = price.input_usd if price.cached_input_usd is None else price.cached_input_usd
        write = price.input_usd if price.cache_write_usd is None else price.cache_write_usd
        micro = (
            plain * price.input_usd
            + self.cached_tokens * cached
            + self.cache_write_tokens * write
            + self.output_tokens * price.output_usd
        )
        return self.model_copy(update={"cost_usd": micro / _PER_MILLION})

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum; its cost is unknown as soon as one of the two is."""
        cost = None
        if self.cost_usd is not None and other.cost_usd is not None:
            cost = self.cost_usd + other.cost_usd
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost_usd=cost,
        )


NO_USAGE = Usage(cost_usd=Decimal(0))
"""The sum of no calls: it costs nothing, and that is known."""
