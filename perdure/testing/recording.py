"""`RecordingModel`: a provider that remembers what another was asked, and said. Activity side."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from perdure.contracts.messages import Message
from perdure.providers.base import BlobReader, Fragment, ModelReply, ModelRequest, Provider, TextSink
from perdure.providers.registry import Providers


@dataclass(frozen=True)
class RecordedCall:
    """What a model was asked, and what came of it."""

    request: ModelRequest
    reply: ModelReply | None
    """None where the call failed."""
    error: Exception | None = None


class RecordingModel:
    """Give it to `App(providers=[…])`: it passes calls on to another provider, and keeps them.

    Args:
        inner: The provider, or the name of one that perdure knows, such as `openai`; it takes that name.

    Attributes:
        calls: Every call, in order.
    """

    def __init__(self, inner: Provider | str) -> None:
        """Record nothing yet."""
        self._inner = inner
        self.calls: list[RecordedCall] = []

    @cached_property
    def _provider(self) -> Provider:
        return Providers().resolve(f"{self._inner}:any")[0] if isinstance(self._inner, str) else self._inner

    @property
    def name(self) -> str:
        """The other's prefix."""
        return self._inner if isinstance(self._inner, str) else self._inner.name

    @property
    def protocol(self) -> str:
        """The other's wire format."""
        return self._provider.protocol

    @property
    def replies(self) -> Sequence[Message]:
        """What was said, in order: a script for `ScriptedModel`."""
        return [call.reply.message for call in self.calls if call.reply is not None]

    def check(self) -> None:
        """Check the other.

        Raises:
            UnknownModelError: It lacks a key or an address. Not retryable.
        """
        self._provider.check()

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return the message in the other's wire format."""
        return self._provider.encode(message, read_blob)

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Ask the other once.

        Raises:
            ModelCallError: As the other does.
        """
        try:
            reply = await self._provider.call(request, on_text)
        except Exception as error:
            self.calls.append(RecordedCall(request, None, error))
            raise
        self.calls.append(RecordedCall(request, reply))
        return reply
