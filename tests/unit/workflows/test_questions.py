"""Answers of people to an agent's questions, driven without a server: they fit into what records them."""

from perdure.contracts.messages import TextPart, ToolCallPart
from perdure.contracts.names import CALL_MODEL, DECIDE_UPDATE
from perdure.contracts.run import RunInput
from perdure.contracts.spec import AgentSpec, ModelSpec, ToolSpec
from perdure.contracts.waits import Decider, DecideRequest, QuestionTerms
from tests.support.drive import update
from tests.support.drive_chain import Chain

ASK = ToolSpec(name="ask", parameters={"type": "object"}, question=QuestionTerms())
SPEC = AgentSpec(name="a", models=(ModelSpec(name="fake:x"),), tools=(ASK,))
LARGE = "x" * 240_000


def _ask(chain: Chain, count: int) -> list[str]:
    """Have the model ask so much, and return the ids of the waits."""
    chain.reply(*(ToolCallPart(id=f"c{n}", name="ask", arguments=f'{{"question": "{n}?"}}') for n in range(count)))
    return [wait.id for wait in chain.run.code.waits().waits]


def _answer(chain: Chain, wait: str, answer: str) -> str:
    """Answer, and return why that is refused; empty where it isn't."""
    number = f"{wait}-{len(answer)}"
    by = Decider(name="ada", source="os_user")
    request = DecideRequest(wait=wait, verdict="answer", by=by, id=number, answer=answer)
    chain.give(update(DECIDE_UPDATE, number, request))
    told = chain.run.told[number]
    return told if isinstance(told, str) else ""


def test_the_answers_of_a_turn_fit_into_a_payload() -> None:
    chain = Chain(SPEC, RunInput(agent="a", input=(TextPart(text="go"),)))
    first, second, *others = _ask(chain, 9)
    assert _answer(chain, first, LARGE) == ""
    assert _answer(chain, second, LARGE) == ""
    for wait in others:
        assert "at most 500,000 together. Shorten it" in _answer(chain, wait, LARGE)
        assert _answer(chain, wait, "a short one") == ""
    call = chain.find(CALL_MODEL)
    assert call is not None
    assert 480_000 < len(call.argument.data) < 2 * 1024 * 1024
    assert [_answer(chain, wait, LARGE) for wait in _ask(chain, 2)] == ["", ""], "the next turn begins anew"
    chain.replay()
