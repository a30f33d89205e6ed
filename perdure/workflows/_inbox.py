"""Messages to a run, from when they come to the turn that they enter. Workflow side; pure, rebuilt by replay."""

from perdure.contracts.steering import (
    MAX_ID_BYTES,
    MAX_KNOWN_IDS,
    MAX_MESSAGE_BYTES,
    MAX_SENDS,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    CarriedInbox,
    SendReceipt,
    SendRequest,
    WaitingMessage,
)

_EMPTY = CarriedInbox()


class Inbox:
    """Keeps messages in order, each once, within bounds.

    Attributes:
        received: How many came in all.
    """

    def __init__(self, carried: CarriedInbox | None = None) -> None:
        """Go on with what the run before had."""
        given = carried or _EMPTY
        self.received = given.received
        self._waiting = list(given.waiting)
        self._bytes = sum(_size(each) for each in self._waiting)
        first = given.received - len(given.known) + 1
        self._known = {id: first + position for position, id in enumerate(given.known)}
        self._accepted = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def is_worn(self) -> bool:
        """Whether the run has taken so many that it had better continue as new."""
        return self._accepted >= MAX_SENDS

    def knows(self, id: str) -> bool:
        """Say whether a message came before."""
        return id in self._known

    def refusal(self, request: SendRequest) -> str:
        """Return why a message can't be taken, and what to do; empty when it can."""
        if request.id in self._known:
            return ""
        if not 0 < len(request.id.encode(errors="replace")) <= MAX_ID_BYTES or not request.parts:
            return f"a message has content, and an id of 1 to {MAX_ID_BYTES} bytes."
        size = _size(_waiting(request))
        if size > MAX_MESSAGE_BYTES:
            return (
                f"the message takes {size:,} bytes, more than {MAX_MESSAGE_BYTES:,}: put it where a tool can "
                "read it, and send its name."
            )
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return (
                f"{len(self._waiting):,} messages of {self._bytes:,} bytes wait for its next turn, and at most "
                f"{MAX_WAITING:,} of {MAX_WAITING_BYTES:,} bytes may. Send it again after that turn."
            )
        if self.is_worn:
            return (
                f"it has taken {MAX_SENDS:,} messages since it last continued as new, and does so again after "
                "its present turn. Send it again then."
            )
        return ""

    def is_too_large(self, request: SendRequest) -> bool:
        """Say whether a message can never be taken."""
        return _size(_waiting(request)) > MAX_MESSAGE_BYTES

    def accept(self, request: SendRequest) -> SendReceipt:
        """Take a message, once."""
        number = self._known.get(request.id)
        if number is not None:
            return SendReceipt(id=request.id, number=number, waiting=len(self))
        waiting = _waiting(request)
        self.received += 1
        self._accepted += 1
        self._waiting.append(waiting)
        self._bytes += _size(waiting)
        self._known[request.id] = self.received
        while len(self._known) > MAX_KNOWN_IDS:
            del self._known[next(iter(self._known))]
        return SendReceipt(id=request.id, number=self.received, waiting=len(self))

    def take(self) -> list[WaitingMessage]:
        """Return all that wait; they are in the conversation from now on."""
        taken, self._waiting, self._bytes = self._waiting, [], 0
        return taken

    def carried(self) -> CarriedInbox | None:
        """Return what the next run needs; None where no message ever came."""
        if not self.received:
            return None
        return CarriedInbox(waiting=tuple(self._waiting), received=self.received, known=tuple(self._known))


def _waiting(request: SendRequest) -> WaitingMessage:
    return WaitingMessage(id=request.id, parts=request.parts)


def _size(message: WaitingMessage) -> int:
    return len(message.to_bytes())
