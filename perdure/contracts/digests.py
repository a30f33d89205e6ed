"""Digests of messages: by them a worker knows that what it remembers is what was recorded. Both sides; pure.

An attempt that Temporal gave up may end after another one's result was recorded, and its worker remembers a
message that no history has.
"""

from collections.abc import Iterable
from hashlib import sha256

from perdure.contracts.messages import Message

_DIGITS = 16


def message_digest(message: Message) -> bytes:
    """Return the digest of one message."""
    return sha256(message.to_bytes()).digest()


def told_digest(digest: bytes) -> str:
    """Return a digest as requests tell it."""
    return digest.hex()[:_DIGITS]


class ConversationDigest:
    """The digest of messages in order, of which more and more come."""

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        """Begin with the messages of these digests."""
        self._hash = sha256(b"".join(digests))

    def add(self, digest: bytes) -> None:
        """Go on with a message."""
        self._hash.update(digest)

    def told(self) -> str:
        """Return it as requests tell it."""
        return told_digest(self._hash.digest())
