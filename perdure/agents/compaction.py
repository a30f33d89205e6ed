"""`Compaction`: how an agent makes room in a conversation that gets too long. Both sides; it is data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from perdure.contracts.compaction import CompactionStep
from perdure.contracts.messages import Message
from perdure.contracts.spec import CompactionSpec, ModelSpec
from perdure.errors import SettingsError

CompactBy = Callable[[Sequence[Message], int], Any]
"""Takes the conversation and the tokens that it may have; returns the messages that it is to be, or a promise of
them. It runs in an activity."""

Way = Literal["drop_tool_results", "summarise"] | CompactBy

_WAYS = ("summarise", "drop_tool_results")


@dataclass(frozen=True, kw_only=True, eq=False)
class Compaction:
    """When and how the older part of a conversation makes room. `Compaction(by=())` never makes any.

    Raises:
        SettingsError: A value that can't be used. Not retryable.
    """

    by: Way | Sequence[Way] = ("summarise", "drop_tool_results")
    """Ways to make room, tried in this order until there is enough: the older part is replaced by a model's
    summary; results of older tool calls are dropped, the oldest first, which costs nothing and forgets them; or a
    function of your own. The next is tried too where a way fails, as when limits leave nothing for a summary."""
    at: float = 0.8
    """Room is made when the prompt takes this part of what the context window has for it."""
    to: float = 0.4
    """The part that the conversation takes afterwards, at most. A large step keeps the vendor's prompt cache warm
    for longer."""
    keep_turns: int = 4
    """The last turns, which stay as they are where they fit."""
    model: str | None = None
    """Who summarises, as `provider:model`: a cheaper one, perhaps. The agent's own when None."""
    instructions: str = ""
    """For whoever summarises; perdure's own when empty."""
    context_window_tokens: int | None = None
    """Of the agent's models. Needed where perdure doesn't know it: then room is made when the vendor says that the
    prompt is too long."""

    def __post_init__(self) -> None:
        """Check the values."""
        ways = (self.by,) if isinstance(self.by, str) or callable(self.by) else tuple(self.by)
        object.__setattr__(self, "by", ways)
        for way in ways:
            if not (way in _WAYS or (callable(way) and getattr(way, "__name__", "<lambda>") != "<lambda>")):
                raise SettingsError(
                    f"Compaction(by=…): {way!r} is no way to make room; give 'drop_tool_results', 'summarise' or "
                    "a function that has a name."
                )
        if not 0.1 <= self.to < self.at <= 1:
            raise SettingsError(
                f"Compaction(at={self.at}, to={self.to}): they are parts of the context window, 0.1 ≤ to < at ≤ 1."
            )
        if self.keep_turns < 1:
            raise SettingsError("Compaction(keep_turns=…) is at least 1: the model must see what it does.")
        if self.context_window_tokens is not None and self.context_window_tokens < 1000:
            raise SettingsError("Compaction(context_window_tokens=…) is at least 1000.")

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways to make room, in order."""
        ways: Any = self.by
        return ways

    @property
    def functions(self) -> dict[str, CompactBy]:
        """Functions among them, by name."""
        return {_name(way): way for way in self.ways if callable(way)}

    def spec(self, model: ModelSpec | None) -> CompactionSpec | None:
        """Return what a run records of it; `model` is the one that summarises, if it is a special one."""
        if not self.ways:
            return None
        return CompactionSpec(
            steps=tuple(_step(way) for way in self.ways),
            at=self.at,
            to=self.to,
            keep_turns=self.keep_turns,
            model=model,
            instructions=self.instructions,
            context_window_tokens=self.context_window_tokens,
        )


def _name(function: CompactBy) -> str:
    name: str = getattr(function, "__name__", "")
    return name


def _step(way: Way) -> CompactionStep:
    if callable(way):
        return CompactionStep(action="function", function=_name(way))
    return CompactionStep(action=way)
