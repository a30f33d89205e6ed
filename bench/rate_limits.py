"""A vendor's rate limits, as token buckets: what a fake server, or a simulation, enforces."""

from dataclasses import dataclass, field


@dataclass
class VendorBucket:
    """Holds `limit`, and gains it back in `seconds`."""

    limit: float
    seconds: float
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.limit

    @property
    def rate(self) -> float:
        """What it gains a second."""
        return self.limit / self.seconds

    def refill(self, now: float) -> None:
        """Gain what came since the last call."""
        self.level = min(self.limit, self.level + (now - self.at) * self.rate)
        self.at = now

    def reset(self) -> float:
        """Return the seconds until it is full."""
        return (self.limit - self.level) / self.rate


@dataclass
class Vendor:
    """20 requests a second and 40,000 tokens a minute, unless told otherwise."""

    requests: VendorBucket = field(default_factory=lambda: VendorBucket(20, 1))
    tokens: VendorBucket = field(default_factory=lambda: VendorBucket(40_000, 60))
    tells_headers: bool = True
    accepted: int = 0
    accepted_tokens: float = 0
    refused: int = 0

    def ask(self, now: float, tokens: float) -> float | None:
        """Take a call; else return how long it should wait."""
        self.requests.refill(now)
        self.tokens.refill(now)
        if self.requests.level >= 1 and self.tokens.level >= tokens:
            self.requests.level -= 1
            self.tokens.level -= tokens
            self.accepted += 1
            self.accepted_tokens += tokens
            return None
        self.refused += 1
        lacks = max(0.0, 1 - self.requests.level) / self.requests.rate
        return max(lacks, max(0.0, tokens - self.tokens.level) / self.tokens.rate)

    def headers(self) -> dict[str, str]:
        """Return what OpenAI would write."""
        if not self.tells_headers:
            return {}
        found: dict[str, str] = {}
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            found[f"x-ratelimit-limit-{name}"] = f"{bucket.limit:g}"
            found[f"x-ratelimit-remaining-{name}"] = str(int(bucket.level))
            found[f"x-ratelimit-reset-{name}"] = f"{max(1, round(bucket.reset() * 1000))}ms"
        return found
