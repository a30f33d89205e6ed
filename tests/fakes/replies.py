"""What the fake vendors are told to say, whichever wire format they speak."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FakeCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class FakeReply:
    text: str = ""
    calls: tuple[FakeCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    stop: str | None = None
    """The vendor's own word; by default what fits the rest."""
    prompt_tokens: int = 20
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 7
    reasoning_tokens: int = 0
    extra: dict[str, object] = field(default_factory=dict[str, object])


def pieces(text: str, size: int = 5) -> list[str]:
    """Cut `text` up, as a stream would."""
    return [text[start : start + size] for start in range(0, len(text), size)]
