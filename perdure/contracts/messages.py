"""Messages of a conversation, and the parts that they are made of. Both sides.

The parts are vendor-neutral; what a vendor wants back verbatim (a thinking signature, an item id) rides in
`vendor`, keyed by the wire protocol that wrote it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from perdure.contracts._base import Contract

Role = Literal["user", "assistant", "tool"]
Outcome = Literal["ok", "error", "unknown", "denied"]
StopReason = Literal["end", "tool_calls", "length", "refusal", "interrupted", "other"]


class BlobRef(Contract):
    """Bytes kept outside of Event History, by their digest."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size_bytes: int


class TextPart(Contract):
    """Plain text."""

    kind: Literal["text"] = "text"
    text: str


class _MediaPart(Contract):
    media_type: str = ""
    """IANA media type such as `image/png`; empty when only the URL is known."""
    url: str | None = None
    blob: BlobRef | None = None

    @model_validator(mode="after")
    def _needs_one_source(self) -> Self:
        if (self.url is None) == (self.blob is None):
            raise ValueError("give either url or blob, and not both")
        return self


class ImagePart(_MediaPart):
    """A picture, by URL or by reference to stored bytes."""

    kind: Literal["image"] = "image"


class FilePart(_MediaPart):
    """A document such as a PDF, by URL or by reference to stored bytes."""

    kind: Literal["file"] = "file"
    name: str = ""


class ArtifactPart(Contract):
    """An artifact of a plan, by reference: whoever calls a model asks the plan's workflow for it."""

    kind: Literal["artifact"] = "artifact"
    workflow_id: str
    """Of the workflow that executes the plan; it is open while its tasks are at work."""
    run_id: str
    plan: int
    """Which plan of the workflow."""
    name: str
    path: tuple[str, ...] = ()
    """Fields and positions to follow in its JSON."""

    @property
    def reference(self) -> str:
        """How a task's input refers to it."""
        return "{{artifacts." + ".".join((self.name, *self.path)) + "}}"


class ToolCallPart(Contract):
    """The model's request to run a tool."""

    kind: Literal["tool_call"] = "tool_call"
    id: str
    """The vendor's id; it ties the result to the call and is new on every ask."""
    name: str
    arguments: str = "{}"
    """The arguments as the model wrote them: JSON text, perhaps broken."""


class ReasoningPart(Contract):
    """What the model thought before it answered, as far as the vendor shows it."""

    kind: Literal["reasoning"] = "reasoning"
    text: str = ""
    vendor: dict[str, JsonValue] | None = None
    """Data to send back unchanged, keyed by wire protocol."""


ContentPart = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="kind")]


InputPart = Annotated[TextPart | ImagePart | FilePart | ArtifactPart, Field(discriminator="kind")]


class ToolResultPart(Contract):
    """The answer to one tool call."""

    kind: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str
    content: tuple[ContentPart, ...] = ()
    outcome: Outcome = "ok"
    """`unknown`: the tool may or may not have taken effect, and was not run again."""


Part = Annotated[
    TextPart | ImagePart | FilePart | ArtifactPart | ToolCallPart | ToolResultPart | ReasoningPart,
    Field(discriminator="kind"),
]


class Message(Contract):
    """One entry of a conversation; it fills one slot."""

    role: Role
    parts: tuple[Part, ...] = ()
    author: str = ""
    """Who wrote it, where the role doesn't say: `perdure` for a message made by the loop."""
    model: str = ""
    """The model that wrote an assistant's message, as `provider:name`."""
    stop: StopReason | None = None
    """Why the model stopped; set on an assistant's message."""
    vendor: dict[str, JsonValue] | None = None
    """Data to send back unchanged, keyed by wire protocol."""

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls, in the model's order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


def user_message(text: str, *, author: str = "") -> Message:
    """Return a user's message of one text part."""
    return Message(role="user", parts=(TextPart(text=text),), author=author)


def repeat_result(call: Message, source: Message) -> Message:
    """Return the message of a call that the result in `source` answers too."""
    result, known = call.parts[0], source.parts[0]
    assert isinstance(result, ToolResultPart)
    assert isinstance(known, ToolResultPart)
    filled = result.model_copy(update={"content": known.content, "outcome": known.outcome})
    return call.model_copy(update={"parts": (filled,)})


_EDIT_CHARS = 4000


def tell_edit(message: Message, arguments: str) -> Message:
    """Return a tool's message that says first what it was called with, where a person changed that."""
    result = message.parts[0]
    assert isinstance(result, ToolResultPart), "a tool's message is a result"
    shown = arguments if len(arguments) <= _EDIT_CHARS else f"{arguments[:_EDIT_CHARS]} … (cut)"
    note = TextPart(text=f"[A person approved this call with other arguments, and it ran with these: {shown}]\n")
    return message.model_copy(update={"parts": (result.model_copy(update={"content": (note, *result.content)}),)})


def tool_message(
    call: ToolCallPart, content: str | tuple[ContentPart, ...], *, outcome: Outcome = "ok"
) -> Message:
    """Return the message that answers `call`."""
    parts = (TextPart(text=content),) if isinstance(content, str) else content
    result = ToolResultPart(call_id=call.id, name=call.name, content=parts, outcome=outcome)
    return Message(role="tool", parts=(result,))
