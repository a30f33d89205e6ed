"""What a provider is. Activity side; owns no I/O of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from perdure.contracts.limits import ModelSettings
from perdure.contracts.messages import BlobRef, Message
from perdure.contracts.spec import OutputSpec, ToolSpec
from perdure.contracts.usage import Usage

BlobReader = Callable[[BlobRef], bytes]
"""Returns the bytes behind a reference."""

TextSink = Callable[[str], None]
"""Is told each piece of text as it arrives."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A message in a vendor's wire format: encoded once, joined into every later request."""

    role: str
    """The vendor's role for it."""
    body: bytes
    """JSON; what it holds is the protocol's own affair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model, vendor-neutral but for the fragments."""

    model: str
    """The vendor's name of it, without our prefix."""
    instructions: str
    fragments: Sequence[Fragment]
    """The conversation in order, as `Provider.encode` returned it."""
    tools: tuple[ToolSpec, ...] = ()
    """Empty when there are none."""
    may_call_tools: bool = True
    """False: the tools are shown, so that the vendor's cached prompt still fits, but none may be called.

    The tool for a structured output still may: then it is the one that must be.
    """
    output: OutputSpec | None = None
    settings: ModelSettings = field(default_factory=ModelSettings)
    max_output_tokens: int | None = None
    cache_key: str = ""
    """Equal for requests of equal instructions, tools and output; lets a provider keep them encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """The model's message, with `stop` set, and what it used (unpriced)."""

    message: Message
    usage: Usage
    is_usage_known: bool = True
    """False if the vendor didn't say: then `usage` is zero tokens, and no price may be put on it."""


@runtime_checkable
class Provider(Protocol):
    """A vendor's back end. Implementations hold no state of a run."""

    @property
    def name(self) -> str:
        """The prefix of its models, as in `openai:gpt-5-mini`."""
        ...

    @property
    def protocol(self) -> str:
        """The wire format; fragments are kept by it, and vendor data in messages is keyed by it."""
        ...

    def check(self) -> None:
        """Raise UnknownModelError if a call can't work for want of a key or an address."""
        ...

    def encode(self, message: Message, read_blob: BlobReader) -> Fragment:
        """Return `message` in the wire format."""
        ...

    async def call(self, request: ModelRequest, on_text: TextSink) -> ModelReply:
        """Ask the model once; cancelling closes the connection.

        Raises:
            ModelCallError: the attempt failed; `kind` says what to do.
        """
        ...
