"""What reaches a loop from outside: messages, an interruption, the word to pause. Workflow side."""

from collections.abc import Callable

from temporalio import workflow

from perdure.contracts.messages import Message, tool_message
from perdure.contracts.steering import CarriedInbox, SendReceipt, SendRequest
from perdure.errors import InboxFullError, PayloadTooLargeError
from perdure.workflows._conversation import Conversation
from perdure.workflows._host import current_host
from perdure.workflows._inbox import Inbox
from perdure.workflows._interruption import Interruption


class Steering:
    """Steers one loop.

    Attributes:
        inbox: Messages that wait for the next turn.
        is_session: Whether each message counts by itself for `max_turns`.
        interruption: Of the present turn's model call.
    """

    def __init__(self, carried: CarriedInbox | None = None, *, is_session: bool = False) -> None:
        """Go on with the messages that the run before had."""
        self.is_session = is_session
        self.inbox = Inbox(carried)
        self.interruption = Interruption()

    def send(self, request: SendRequest) -> SendReceipt:
        """Take a message; it is known not to be refused."""
        if request.interrupt and not self.inbox.knows(request.id):
            self.interruption.ask()
        return self.inbox.accept(request)

    def check(self, request: SendRequest) -> None:
        """Refuse a message; nothing of it is in history then.

        Raises:
            PayloadTooLargeError: It is too large. Not retryable.
            InboxFullError: Too many wait. Retryable.
        """
        reason = self.inbox.refusal(request)
        if reason:
            raise PayloadTooLargeError(reason) if self.inbox.is_too_large(request) else InboxFullError(reason)

    def deliver(self, conversation: Conversation) -> None:
        """Enter all messages that wait into the conversation, which awaits the model."""
        waiting = self.inbox.take()
        if not waiting:
            return
        for answer in _closing_answers(conversation.last()):
            conversation.append(answer, is_recorded=False)
        for each in waiting:
            conversation.append_sent(each.message, each.id)

    async def ready(self, should_stop: Callable[[], bool]) -> bool:
        """Wait while the run is paused; False when `should_stop()` says to stop waiting before it goes on."""
        pause = current_host().pause
        if pause.is_on:
            await workflow.wait_condition(lambda: not pause.is_on or should_stop())
        return not pause.is_on


def _closing_answers(last: Message | None) -> list[Message]:
    """Return answers to the calls of an answer: a vendor insists on one for each, also of the output tool's."""
    if last is None or last.role != "assistant":
        return []
    return [tool_message(call, "The answer was given.") for call in last.tool_calls]
