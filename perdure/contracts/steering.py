"""What is sent to an open run: messages, and the word to pause. Both sides."""

from datetime import timedelta

from pydantic import AliasChoices, Field

from perdure.contracts._base import Contract
from perdure.contracts.messages import ContentPart, Message

MAX_MESSAGE_BYTES = 250_000
"""Of one message, encoded."""
MAX_WAITING = 1_000
"""Messages that may wait for the next turn."""
MAX_WAITING_BYTES = 500_000
"""Of all of them, encoded: they go along when the run continues as new, in a payload of at most 2 MiB."""
MAX_ID_BYTES = 64
MAX_SENDS = 1_500
"""That one run takes; then it continues as new. Temporal's limit of all updates of a run is 2,000."""
MAX_KNOWN_IDS = 1_500
"""Ids that are remembered, over all runs of a chain: the latest."""


IDLE_SUMMARY = "waits for message "
"""Of the timer of a session that has answered, with a number: readers of the history see what it answered."""


class SendRequest(Contract):
    """A user's message to an open run; the argument of the update `perdure.send`."""

    id: str
    """Made by the sender; 1 to 64 bytes. A message whose id the run knows is not entered again."""
    parts: tuple[ContentPart, ...]
    interrupt: bool = False
    """Stop the model call in flight, and go on with this message."""

    @property
    def message(self) -> Message:
        """The message as it enters the conversation."""
        return Message(role="user", parts=self.parts)


class SendReceipt(Contract):
    """The run has the message: it enters the conversation at the next turn."""

    id: str
    number: int
    """The how many-th message to the run it is, from 1."""
    waiting: int = 0
    """Messages that waited for the next turn then, this one included."""


class WaitingMessage(Contract):
    """A message that the run has, and that is not in the conversation yet."""

    id: str
    parts: tuple[ContentPart, ...]

    @property
    def message(self) -> Message:
        """The message as it enters the conversation."""
        return Message(role="user", parts=self.parts)


class CarriedInbox(Contract):
    """Messages to a run, when it continues as new."""

    waiting: tuple[WaitingMessage, ...] = ()
    """In the order in which they came."""
    received: int = 0
    """So many came in all."""
    known: tuple[str, ...] = ()
    """Ids of the last ones that came, in order."""


class PauseNotice(Contract):
    """Pause, or go on; the argument of the signal `perdure.pause`."""

    is_on: bool
    seq: int = 0
    """Grows with each notice of a parent to its child, since signals may overtake each other; 0 from people."""


class Session(Contract):
    """A run that waits for the next message after it has answered, in place of completing."""

    idle_timeout: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        le=timedelta(days=3650),
        serialization_alias="idle_timeout_seconds",
        validation_alias=AliasChoices("idle_timeout_seconds", "idle_timeout"),
    )
    """Without a message for so long, it completes with its last answer."""
