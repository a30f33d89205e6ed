"""A model that chooses: over the wire, asked again, and given up on."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from perdure import Agent
from perdure.activities._choosing import Chooser, NoChoice
from perdure.contracts.budget import amount_of
from perdure.contracts.messages import Message
from perdure.contracts.selection import SelectRequest
from perdure.contracts.usage import Price
from perdure.errors import ModelCallError
from perdure.providers.registry import ProviderConfig, Providers
from perdure.testing import ScriptedModel
from tests.fakes.openai_server import OpenAIServer
from tests.fakes.replies import FakeReply

AGENTS = [
    Agent("lawyer", description="Knows contracts.", model="fake:one", tags=["law"]),
    Agent("coder", description="Writes programs.", model="fake:two"),
]
REQUEST = SelectRequest(text="Sort a list.", strategy="model", kind="work", tags=("python",))
PRICE = Price.model_validate({"input_usd": "1", "output_usd": "2"})


def chooser(providers: Providers, **options: timedelta) -> Chooser:
    return Chooser(
        providers=providers,
        find_price=lambda _: PRICE,
        redact=lambda text: text.replace("sk-1", "***"),
        pause=timedelta(milliseconds=1),
        **options,
    )


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    wrong, right = '{"agent": "plumber", "reason": ""}', '{"agent": "coder", "reason": "It is a program."}'
    async with OpenAIServer(FakeReply(text=wrong), FakeReply(text=right)) as running:
        yield running


async def test_it_is_asked_in_the_vendors_format_and_asked_again(server: OpenAIServer) -> None:
    providers = Providers([ProviderConfig(name="fake", protocol="openai", base_url=server.base_url)])
    chosen = await chooser(providers).choose(REQUEST, AGENTS)
    await providers.aclose()
    assert (chosen.agent, chosen.why) == ("coder", "fake:one: It is a program.")
    assert (chosen.usage.input_tokens, chosen.usage.output_tokens) == (40, 14)
    assert chosen.usage.cost_usd is not None
    first, second = (request.json() for request in server.requests)
    assert (
        first["messages"][-1]["content"]
        == "The agents:\n- lawyer: Knows contracts. [law]\n- coder: Writes programs."
        "\n\nThe task:\nKind: work\nWanted: python\nSort a list."
    )
    schema = first["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["agent"]["enum"] == ["lawyer", "coder"]
    assert "'plumber' is not one of" in json.dumps(second["messages"][-1]["content"])


def scripted(*replies: Any) -> tuple[Chooser, ScriptedModel]:
    """A model that gives these, whatever was said before."""
    left = list(replies)

    def script(request: Any, messages: list[Message]) -> Any:
        return left.pop(0)

    model = ScriptedModel(script, name="fake")
    return chooser(Providers(extra=[model])), model


def passing() -> ModelCallError:
    return ModelCallError("overloaded, sk-1", kind="transient")


async def test_what_may_pass_is_tried_again() -> None:
    made, model = scripted(passing(), passing(), '{"agent": "coder", "reason": "r"}')
    assert (await made.choose(REQUEST, AGENTS)).agent == "coder"
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    ("replies", "asked", "told"),
    [
        ([passing(), passing(), passing()], 3, r"could not be asked \(overloaded, \*\*\*\)"),
        ([ModelCallError("no quota", kind="fatal")], 1, r"could not be asked \(no quota\)"),
        (["x", "[]", "{}"], 3, "gave no usable answer 3 times"),
    ],
)
async def test_it_is_given_up_on(replies: list[Any], asked: int, told: str) -> None:
    made, model = scripted(*replies)
    with pytest.raises(NoChoice, match=told) as raised:
        await made.choose(REQUEST, AGENTS)
    assert len(model.requests) == asked
    assert raised.value.told["usage"].output_tokens == 10 * sum(isinstance(each, str) for each in replies)
    assert (raised.value.told["asks"], raised.value.told["unsettled"]) == (asked, 0)


async def test_within_bounds_it_is_asked_no_more() -> None:
    made, model = scripted("x", "x")
    bounds = made.quote(REQUEST, AGENTS)
    assert (bounds.model, bounds.price, bounds.asks) == ("fake:one", PRICE, 3)
    once = REQUEST.model_copy(update={"bounds": bounds.model_copy(update={"asks": 1})})
    with pytest.raises(NoChoice, match="gave no usable answer once"):
        await made.choose(once, AGENTS)
    less = REQUEST.model_copy(update={"bounds": bounds.model_copy(update={"prompt_tokens": 100})})
    with pytest.raises(NoChoice, match="more than is reserved for") as raised:
        await made.choose(less, AGENTS)
    assert (len(model.requests), raised.value.told["asks"]) == (1, 0)


async def test_a_call_that_may_be_billed_is_told() -> None:
    cut = ModelCallError("cut", kind="transient", may_be_billed=True)
    made, _ = scripted(cut, '{"agent": "coder", "reason": "r"}')
    chosen = await made.choose(REQUEST, AGENTS)
    assert (chosen.model, chosen.asks, chosen.unsettled) == ("fake:one", 2, 1)
    bounds = made.quote(REQUEST, AGENTS)
    assert chosen.taken(bounds) == amount_of(chosen.usage, model_calls=1) + bounds.most
    unknown = chosen.model_copy(update={"usage": chosen.usage.priced(None)})
    assert unknown.taken(bounds) == bounds.most.times(2)


def test_without_a_provider_there_is_nothing_to_reserve() -> None:
    with pytest.raises(NoChoice, match="could not be asked"):
        scripted("x")[0].quote(REQUEST.model_copy(update={"model": "nowhere:x"}), AGENTS)


async def test_it_is_not_waited_for_for_ever() -> None:
    slow = ScriptedModel(["too late"], name="fake", delay_seconds=30)
    with pytest.raises(NoChoice, match=r"did not answer within 0.05 s"):
        await chooser(Providers(extra=[slow]), patience=timedelta(seconds=0.05)).choose(REQUEST, AGENTS)
