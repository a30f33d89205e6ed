"""Judging an answer, by an agent or by a function of the user's. Workflow side."""

from collections.abc import Callable

from perdure.contracts.answers import output_text
from perdure.contracts.budget import Uncounted
from perdure.contracts.calls import Verdict, VerifyRequest
from perdure.contracts.limits import Limits
from perdure.contracts.messages import ArtifactPart, Message, TextPart
from perdure.contracts.run import RunInput
from perdure.contracts.spec import AgentSpec
from perdure.errors import AgentBug, LimitExceeded
from perdure.workflows._accounts import Account
from perdure.workflows._calls import USER_CODE, verify
from perdure.workflows._clock import UNBOUNDED, Clock, LimitReached
from perdure.workflows._conversation import Conversation
from perdure.workflows._funding import run_funded
from perdure.workflows._guard import typed_activity_failure

_QUESTION_CHARS = 20_000
_ANSWER_CHARS = 300_000


async def judge(
    spec: AgentSpec,
    conversation: Conversation,
    answer: Message,
    *,
    depth: int,
    tenant: str,
    account: Account | None = None,
    limits: Limits | None = None,
    clock: Clock = UNBOUNDED,
    note_uncounted: Callable[[Uncounted], None] | None = None,
) -> Verdict:
    """Return what the agent's verifier says of the last message of a conversation.

    Raises:
        LimitReached: The time was over first.
        RunError, UserError: The verifier itself failed. Not retryable.
    """
    if spec.verify is None:
        return Verdict(accept=True)
    if spec.is_verified_by_agent:
        asked = _judge_request(spec.verify, conversation, answer, depth, tenant).model_copy(
            update={"approvals": spec.run_approvals}
        )
        clock.left()
        try:
            result = await run_funded(
                asked, account, of=2, limits=limits or Limits(), note_uncounted=note_uncounted
            )
        except LimitExceeded as error:
            if clock.is_over:
                raise LimitReached(clock.limit) from error
            raise
        if not isinstance(result.output, dict):
            raise AgentBug(f"The verifier {spec.verify!r} gave no verdict.")
        return Verdict.model_validate(result.output)
    request = VerifyRequest(
        agent=spec.name,
        slot=len(conversation) - 1,
        spec=spec.digest,
        epoch=conversation.epoch,
        conversation=conversation.name,
        verifier=spec.verify,
        digest=conversation.digest_of(len(conversation) - 1),
    )
    with typed_activity_failure(), clock.bounding(USER_CODE) as within:
        return await verify(spec, request, within=within)


def _judge_request(
    verifier: str, conversation: Conversation, answer: Message, depth: int, tenant: str
) -> RunInput:
    text = (
        "Judge whether the answer does what was asked.\n\n"
        f"What was asked:\n{conversation.question()[:_QUESTION_CHARS]}\n\n"
        f"The answer:\n{output_text(answer)[:_ANSWER_CHARS]}"
    )
    shared = [part for part in conversation.messages()[0].parts if isinstance(part, ArtifactPart)]
    labelled = [each for part in shared for each in (TextPart(text=f"\n\n{part.reference}:\n"), part)]
    return RunInput(agent=verifier, input=(TextPart(text=text), *labelled), tenant=tenant, depth=depth + 1)
