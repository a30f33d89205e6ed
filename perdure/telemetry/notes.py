"""What an activity tells whoever traces it, while it runs. Activity side.

Nobody listens where nothing is traced: then a note costs the look at a context variable.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from perdure.contracts.messages import Message
from perdure.contracts.spec import AgentSpec


@dataclass
class CallNotes:
    """What is known of the call that runs."""

    spec: AgentSpec | None = None
    messages: Callable[[], Sequence[Message]] | None = None
    """The prompt."""
    arguments: str | None = None
    """Of a tool call, JSON text."""


CURRENT: ContextVar[CallNotes | None] = ContextVar("perdure_call_notes", default=None)


def note_spec(spec: AgentSpec) -> None:
    """Tell which agent the call is of."""
    notes = CURRENT.get()
    if notes is not None:
        notes.spec = spec


def note_prompt(messages: Callable[[], Sequence[Message]]) -> None:
    """Tell how to find the prompt, if anybody wants to see it."""
    notes = CURRENT.get()
    if notes is not None:
        notes.messages = messages


def note_arguments(arguments: str) -> None:
    """Tell the arguments of a tool call."""
    notes = CURRENT.get()
    if notes is not None:
        notes.arguments = arguments
