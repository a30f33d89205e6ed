"""Noticing that a run repeats itself. Workflow side; pure, rebuilt from the conversation.

Repeated steps are the commonest failure of systems of agents, with 15.7 % of those counted in MAST
(https://arxiv.org/abs/2503.13657).
"""

from collections import Counter

from perdure.contracts.messages import Message, TextPart, ToolCallPart, ToolResultPart


class Repeats:
    """Counts calls of the same tool with the same arguments and the same result."""

    def __init__(self) -> None:
        """Count from nothing."""
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._open: dict[str, ToolCallPart] = {}

    def note(self, message: Message) -> tuple[str, int]:
        """Enter the next message of the conversation.

        Returns:
            The tool whose result it is, and how often that result has come; an empty name and 0 for a message
            that is no result.
        """
        for call in message.tool_calls:
            self._open[call.id] = call
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                return part.name, self._count(part)
        return "", 0

    def _count(self, result: ToolResultPart) -> int:
        call = self._open.pop(result.call_id, None)
        text = "".join(part.text for part in result.content if isinstance(part, TextPart))
        key = (result.name, call.arguments if call is not None else "", text)
        self._counts[key] += 1
        return self._counts[key]
