"""`Compactor`: makes room in a conversation, before a prompt is too long and after. Workflow side."""

from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.contracts.budget import PromptSize
from perdure.contracts.calls import CallModelRequest, CallModelResult, CompactRequest
from perdure.contracts.compaction import CompactedPart, CompactionStep, Room, SummaryAsk, moved_slots
from perdure.contracts.spec import AgentSpec, CompactionSpec
from perdure.contracts.usage import NO_USAGE
from perdure.errors import ModelUnavailable
from perdure.workflows._asking import ContextTooLong, ask_models
from perdure.workflows._calls import USER_CODE, compact
from perdure.workflows._clock import UNBOUNDED, Clock, LimitReached
from perdure.workflows._conversation import Conversation
from perdure.workflows._guard import CancelWatch, typed_activity_failure
from perdure.workflows._known import KnownResults
from perdure.workflows._meter import Meter
from perdure.workflows._window import Prompt, measure, room_for_prompts, room_to_make

_MAX_ROUNDS = 4
"""Times that one way is gone in a row: each summarises as much as the summariser can read at once."""
_MAX_REFUSALS = 4
"""Times in a row that a vendor may say that the prompt is too long; each makes a half of the room of the last."""
_LEAST_PROMPT = 200
"""Tokens; what a summariser can't read in pieces of this size it can't read."""
_CUTTING = CompactionStep(action="drop_tool_results")


@dataclass
class Compactor:
    """Makes room on behalf of one conversation.

    Attributes:
        conversation: The conversation.
        known: Results that identical calls are answered with; they move.
        show: Is told what is done.
        count: Is told of each summary that a model was paid for.
        prompt: The last prompt that was counted.
        clock: Says how much time is left.
    """

    conversation: Conversation
    known: KnownResults
    show: Callable[[str], None]
    count: Callable[[CallModelResult], None]
    prompt: PromptSize | None = None
    clock: Clock = UNBOUNDED
    _refusals: int = field(default=0, init=False)

    def note(self, request: CallModelRequest, result: CallModelResult) -> None:
        """Remember how long a prompt was that was answered."""
        self._refusals = 0
        if request.model == 0 and result.usage.input_tokens:
            self.prompt = PromptSize(
                spec=request.spec,
                model=0,
                slots=request.slots,
                tokens=result.usage.input_tokens,
                epoch=request.epoch,
            )

    async def make_room(self, spec: AgentSpec, meter: Meter | None) -> None:
        """Make room where the next prompt would come near the context window.

        Raises:
            UserError: A function of the user's failed. Not retryable.
            LimitReached: The time was over first.
            CancelledError: The run was cancelled.
        """
        usable = room_for_prompts(spec)
        if spec.compaction is None or usable is None:
            return
        prompt = self._measure(spec)
        if prompt.tokens > usable * spec.compaction.at:
            await self._compact(
                spec, spec.compaction, meter, usable, room_to_make(spec.compaction, prompt, usable)
            )

    async def after_refusal(self, refused: ContextTooLong, spec: AgentSpec, meter: Meter | None) -> None:
        """Make room after a vendor said that the prompt is too long.

        Raises:
            ModelUnavailable: There is no more room to be made. Not retryable.
            UserError, LimitReached, CancelledError: As `make_room` does.
        """
        policy, failure = spec.compaction, refused.failure
        self._refusals += 1
        assert policy is not None, "without a policy nobody asks"
        if self._refusals <= _MAX_REFUSALS:
            prompt = self._measure(spec)
            usable = min(room_for_prompts(spec) or prompt.tokens, prompt.tokens)
            room = room_to_make(policy, prompt, usable, share=0.5 ** (self._refusals - 1))
            if await self._compact(spec, policy, meter, usable, room):
                return
            if await self._drop(spec, _CUTTING, room):  # whatever the policy says: the run would end here
                return
        raise failure.told_by("No more room can be made in the conversation. ")

    async def shorten(self, spec: AgentSpec, meter: Meter | None) -> bool:
        """Make room because the conversation is large, and say whether there is any."""
        if spec.compaction is None:
            return False
        prompt = self._measure(spec)
        usable = min(room_for_prompts(spec) or prompt.tokens, prompt.tokens)
        return await self._compact(
            spec, spec.compaction, meter, usable, room_to_make(spec.compaction, prompt, usable)
        )

    async def _compact(
        self, spec: AgentSpec, policy: CompactionSpec, meter: Meter | None, usable: int, room: Room
    ) -> bool:
        """Go the ways of the policy until there is room, and say whether any of them led somewhere."""
        is_shorter, cancel = False, CancelWatch()
        for number, step in enumerate(policy.steps, 1):
            for _ in range(_MAX_ROUNDS if step.action == "summarise" else 1):
                if step.action == "summarise":
                    is_done = await self._summarise(spec, policy, meter, usable, room)
                else:
                    is_done = await self._drop(spec, step, room, must_suffice=number < len(policy.steps))
                cancel.check()
                if not is_done:
                    break
                is_shorter = True
                if self._has_room(room):
                    return True
        return is_shorter

    async def _drop(
        self, spec: AgentSpec, step: CompactionStep, room: Room, *, must_suffice: bool = False
    ) -> bool:
        self.show(f"makes room: {step.function or 'older tool results are dropped'}")
        with typed_activity_failure(), self.clock.bounding(USER_CODE) as within:
            request = CompactRequest(
                spec=spec.digest,
                slots=len(self.conversation),
                step=step,
                room=room,
                must_suffice=must_suffice and step.action == "drop_tool_results",
                epoch=self.conversation.epoch,
                conversation=self.conversation.name,
                new=self.conversation.take_new(),
                digest=self.conversation.digest(),
            )
            result = await compact(request, within=within)
        return self._apply(result.compacted)

    async def _summarise(
        self, spec: AgentSpec, policy: CompactionSpec, meter: Meter | None, usable: int, room: Room
    ) -> bool:
        """Have a model summarise the older part; a smaller part of it where that is too long for it."""
        asked = spec if policy.model is None else spec.model_copy(update={"models": (policy.model,)})
        window = None if policy.model is None else policy.model.context_window_tokens
        most = min(usable, window or usable) * 3 // 4
        while most >= _LEAST_PROMPT:
            request = CallModelRequest(
                spec=spec.digest,
                slots=len(self.conversation),
                epoch=self.conversation.epoch,
                conversation=self.conversation.name,
                new=self.conversation.take_new(),
                summary=SummaryAsk(room=room, prompt_tokens=most),
                digest=self.conversation.digest(),
            )
            try:
                result = await ask_models(
                    asked, request, turn=0, show=self._show_summary, meter=meter, clock=self.clock
                )
            except ContextTooLong:
                most //= 2
                continue
            except LimitReached:
                self.conversation.put_back(request.new)
                return False
            except ModelUnavailable:
                return False
            if result.usage != NO_USAGE:
                self.count(result)
            return self._apply(result.compacted)
        return False

    def _show_summary(self, activity: str) -> None:
        self.show(f"makes room: summarises · {activity.partition(' · ')[2]}")

    def _apply(self, parts: tuple[CompactedPart, ...]) -> bool:
        if parts:
            self.conversation.compact(parts)
            self.known.move(moved_slots(parts))
            self.prompt = None
        return bool(parts)

    def _measure(self, spec: AgentSpec) -> Prompt:
        return measure(spec, self.conversation.weights(), self.prompt, self.conversation.epoch)

    def _has_room(self, room: Room) -> bool:
        tokens = [round(size * room.tokens_per_byte) for size, _ in self.conversation.weights()]
        return sum(tokens) <= room.target_tokens
