"""The activity that asks a model. Activity side; owns the way from a reference to a reply."""

import asyncio
from collections.abc import Callable, Sequence

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.activities._artifacts import with_artifacts
from perdure.activities._blobs import BlobStore
from perdure.activities._cache import ConversationKey, Slot
from perdure.activities._flights import FlightKey, Flights
from perdure.activities._lookup import Lookup
from perdure.activities._metering import check_artifacts, check_extra, usage_of
from perdure.activities._outputs import MAX_REPLY_BYTES, find_problem
from perdure.activities._progress import Heart, backoff
from perdure.activities._shared_models import find_shared_reply, keep_for_others, share_model_call
from perdure.activities._sharers import Sharers
from perdure.activities._sharing import Sharing
from perdure.activities._summaries import no_summary, summary_call
from perdure.agents.registry import Registry
from perdure.contracts.calls import CallModelRequest, CallModelResult, SharedModelRequest, SharedModelResult
from perdure.contracts.messages import Message, TextPart
from perdure.contracts.names import ASK_SHARED_MODEL, CALL_MODEL, KEEP_SHARED_REPLY
from perdure.contracts.spec import AgentSpec
from perdure.contracts.usage import Usage
from perdure.errors import ConversationUnavailableError, ModelCallError, PerdureError, UnsettledCallError
from perdure.providers.base import Fragment, ModelReply, ModelRequest, Provider, TextSink
from perdure.providers.registry import Providers
from perdure.telemetry.notes import note_prompt, note_spec


class ModelActivities:
    """Asks models on behalf of runs."""

    def __init__(
        self,
        *,
        registry: Registry,
        providers: Providers,
        lookup: Lookup,
        blobs: BlobStore,
        redact: Callable[[str], str],
        sharing: Sharing,
    ) -> None:
        """Work with these; `redact` takes the secrets out of a text."""
        self._redact = redact
        self._sharing = sharing
        self._registry = registry
        self._providers = providers
        self._lookup = lookup
        self._blobs = blobs
        self._flights = Flights()
        self._sharers = Sharers(providers.gates)

    async def aclose(self) -> None:
        """Stop the calls that no attempt waits for."""
        await self._flights.aclose()
        await self._sharers.aclose()

    @activity.defn(name=CALL_MODEL)
    async def call_model(self, request: CallModelRequest) -> CallModelResult:
        """Ask the model for the message after the first `request.slots` of a conversation.

        Heartbeats every third of the heartbeat timeout, with the end of the text so far. When the call is
        cancelled, what came until then is the reply, with `stop` set to `interrupted`. A call that Temporal gave
        up, for want of heartbeats, is joined by the next attempt on the same worker.

        Raises:
            ModelCallError: Retryable if the vendor's fault may pass and attempts are left.
            UnknownModelError: No provider for the model, or no key. Not retryable.
            ConversationUnavailableError: Retryable, no attempt at the vendor.
            UnsettledCallError: The call is metered, and an attempt may be billed. Not retryable here.
        """
        info = activity.info()
        workflow_id, run_id = info.workflow_id or "", info.workflow_run_id or ""
        key = ConversationKey(workflow_id, run_id, request.conversation, request.epoch)
        heart = Heart(tries=request.tries)
        try:
            self._check_reservation(request, heart)
            spec = await self._lookup.spec(request.spec, workflow_id, run_id)
            note_spec(spec)
            slots = await self._lookup.slots(key, request.slots, request.new, digest=request.digest)
            note_prompt(lambda: [slot.message for slot in slots])
            if request.is_metered:
                check_extra(spec.settings)
            if request.summary is not None:
                return await self._summarise(request, spec, key, slots, heart)
            result = await self._from_others(request, spec, slots, heart)
            if result is None:
                with heart:
                    reply = await self._ask(request, spec, key, slots, heart)
                result = self._judge(spec, request, reply)
                if request.is_metered:
                    await keep_for_others(self._sharing, spec, request, slots, result)
            self._lookup.cache.put(key, {request.slots: Slot(result.message)})
            return result
        except ConversationUnavailableError:
            if request.is_metered and heart.unbilled == info.attempt - 1:
                heart.clear()
            raise
        except (ApplicationError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise self._defect(error) from None

    async def _from_others(
        self, request: CallModelRequest, spec: AgentSpec, slots: Sequence[Slot], heart: Heart
    ) -> CallModelResult | None:
        """Return the reply to the same call of another run, if there is one that may be shared."""
        if request.is_metered:
            if self._flights.is_open(_flight_key()):
                return None  # an attempt before has asked, and may be billed: its reply is this call's
            return await find_shared_reply(self._sharing, spec, request, slots, heart)
        return await share_model_call(self._sharing, spec, request, slots)

    async def _summarise(
        self,
        request: CallModelRequest,
        spec: AgentSpec,
        key: ConversationKey,
        slots: Sequence[Slot],
        heart: Heart,
    ) -> CallModelResult:
        """Have the model summarise the older part.

        The cache is told nothing: another attempt may say otherwise, and its result counts.
        """
        call = summary_call(spec, request, [slot.message for slot in slots])
        if call is None:
            return no_summary()
        apart = key._replace(conversation=f"{key.conversation}/summary")
        with heart:
            return call.result(await self._ask(call.request, call.spec, apart, [Slot(call.prompt)], heart))

    def _check_reservation(self, request: CallModelRequest, heart: Heart) -> None:
        """Send nothing on a reservation that another attempt may have used up.

        Temporal retries without asking the workflow. Joining a request that is still open makes no second bill.
        """
        attempt = activity.info().attempt
        if not request.is_metered or heart.unbilled >= attempt - 1 or self._flights.is_open(_flight_key()):
            return
        raise UnsettledCallError(
            f"Attempt {attempt - 1} may be billed: its worker stopped, or was too slow. The run settles it, and "
            "asks again if its limits allow it.",
            tries=heart.tries,
        )

    @activity.defn(name=ASK_SHARED_MODEL)
    async def ask_shared_model(self, request: SharedModelRequest) -> SharedModelResult:
        """Ask the model for every run that makes the call; a standalone activity.

        Raises:
            ModelCallError, UnknownModelError, ConversationUnavailableError: As `call_model` does.
            ApplicationError: It was cancelled; no part of a reply is kept. Not retryable.
        """
        call = request.call
        key = ConversationKey(request.workflow_id, request.run_id, call.conversation, call.epoch)
        try:
            spec = await self._lookup.spec(call.spec, key.workflow_id, key.run_id)
            note_spec(spec)
            slots = await self._lookup.slots(key, call.slots, call.new, digest=call.digest)
            with Heart() as heart:
                reply = await self._ask(call, spec, key, slots, heart)
        except (ApplicationError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise self._defect(error) from None
        if reply.message.stop == "interrupted":
            raise ApplicationError("The call was cancelled.", type="Cancelled", non_retryable=True)
        return SharedModelResult(result=self._judge(spec, call, reply), asker=request.asker)

    @activity.defn(name=KEEP_SHARED_REPLY)
    async def keep_shared_reply(self, kept: SharedModelResult) -> SharedModelResult:
        """Return a reply that a run has paid for, so that others find it; a standalone activity."""
        return kept

    async def _ask(
        self,
        request: CallModelRequest,
        spec: AgentSpec,
        key: ConversationKey,
        slots: Sequence[Slot],
        heart: Heart,
    ) -> ModelReply:
        flight_key = _flight_key()
        flight = self._flights.board(flight_key, lambda on_text: self._call(request, spec, key, slots, on_text))
        heart.follow(flight.pieces)
        try:
            return await self._flights.reply(flight_key, flight)
        except ModelCallError as error:
            has_fallback = request.model + 1 < len(spec.models)
            raise _after_failure(
                error,
                heart,
                spec.settings.max_attempts,
                has_fallback=has_fallback,
                is_metered=request.is_metered,
            ) from None
        except asyncio.CancelledError:
            if _is_cancel_requested() and heart.text:
                return _interrupted(heart.text)
            raise

    async def _call(
        self,
        request: CallModelRequest,
        spec: AgentSpec,
        key: ConversationKey,
        slots: Sequence[Slot],
        on_text: TextSink,
    ) -> ModelReply:
        provider, model = self._providers.resolve(spec.models[request.model].name)
        provider.check()
        self._sharers.look(provider.name)
        ask = ModelRequest(
            model=model,
            instructions=spec.instructions,
            fragments=await self._encode(provider, key, slots, is_metered=request.is_metered),
            tools=spec.tools,
            may_call_tools=not request.is_final,
            output=spec.output,
            settings=spec.settings,
            max_output_tokens=request.max_output_tokens or spec.settings.max_output_tokens,
            cache_key=request.spec,
        )
        return await provider.call(ask, on_text)

    async def _encode(
        self, provider: Provider, key: ConversationKey, slots: Sequence[Slot], *, is_metered: bool
    ) -> list[Fragment]:
        protocol = provider.protocol
        grown = 0
        for slot in slots:
            if protocol in slot.fragments:
                continue
            message = await with_artifacts(slot.message)
            if is_metered:
                check_artifacts(slot.message, message)
            slot.fragments[protocol] = fragment = provider.encode(message, self._blobs.read)
            grown += len(fragment.body)
        if grown:
            self._lookup.cache.grow(key, grown)
        return [slot.fragments[protocol] for slot in slots]

    def _judge(self, spec: AgentSpec, request: CallModelRequest, reply: ModelReply) -> CallModelResult:
        model = spec.models[request.model]
        message = reply.message
        if message.model != model.name:
            message = message.model_copy(update={"model": model.name})
        usage = usage_of(reply, model.price, is_metered=request.is_metered)
        if len(message.to_bytes()) > MAX_REPLY_BYTES:
            problem = f"The reply was longer than {MAX_REPLY_BYTES} bytes. Answer more briefly."
            cut = Message(role="assistant", model=model.name, stop="other")
            return CallModelResult(message=cut, usage=usage, problem=problem)
        agent = self._registry.agents.get(spec.name)
        return CallModelResult(message=message, usage=usage, problem=find_problem(spec, agent, message))

    def _defect(self, error: Exception) -> PerdureError | ApplicationError:
        text = self._redact(f"{type(error).__name__}: {error}")
        return ApplicationError(f"perdure.call_model failed: {text}", type="AgentBug", non_retryable=True)


def _interrupted(text: str) -> ModelReply:
    message = Message(role="assistant", parts=(TextPart(text=text),), stop="interrupted")
    return ModelReply(message=message, usage=Usage(), is_usage_known=False)


def _flight_key() -> FlightKey:
    info = activity.info()
    return FlightKey(info.workflow_id or "", info.workflow_run_id or "", info.activity_id)


def _after_failure(
    error: ModelCallError, heart: Heart, max_attempts: int, *, has_fallback: bool, is_metered: bool
) -> ModelCallError | UnsettledCallError:
    """Decide what becomes of a failed attempt. Waiting out a rate limit or an outage is none."""
    if error.held_by:
        if is_metered:
            heart.clear()
        return error.as_final() if error.held_by == "circuit" and has_fallback else error
    if error.kind == "transient" and heart.count_try() >= max_attempts:
        return error.as_last_of(heart.tries)
    if error.kind not in ("transient", "rate_limited"):
        return error
    delayed = error.delayed(backoff(max(heart.tries, activity.info().attempt) - 1))
    if is_metered and error.may_be_billed:
        wait = delayed.retry_after
        return UnsettledCallError(
            error.message, tries=heart.tries, delay_seconds=wait.total_seconds() if wait else 0
        )
    if is_metered:
        heart.clear()
    return delayed


def _is_cancel_requested() -> bool:
    """Tell a cancelled run from a worker that shuts down."""
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested
