"""When room is made."""

from perdure.contracts.budget import PromptSize
from perdure.contracts.compaction import CompactionStep
from perdure.contracts.limits import ModelSettings
from perdure.contracts.spec import AgentSpec, CompactionSpec, ModelSpec
from perdure.workflows._window import TOKENS_PER_BYTE, measure, room_for_prompts, room_to_make

POLICY = CompactionSpec(steps=(CompactionStep(action="summarise"),))


def spec(window: int | None = 100_000, **values: object) -> AgentSpec:
    model = ModelSpec(name="a:b", context_window_tokens=window)
    return AgentSpec.model_validate({"name": "a", "models": (model,), "compaction": POLICY, **values})


def test_the_reply_has_its_place_in_the_window() -> None:
    assert room_for_prompts(spec()) == 100_000 - 8192
    assert room_for_prompts(spec(10_000)) == 7500
    assert room_for_prompts(spec(settings=ModelSettings(max_output_tokens=1000))) == 99_000
    assert room_for_prompts(spec(None)) is None
    assert room_for_prompts(spec(compaction=None)) == 100_000 - 8192


def test_the_agents_word_on_the_window_counts() -> None:
    own = POLICY.model_copy(update={"context_window_tokens": 4000})
    assert room_for_prompts(spec(compaction=own)) == 3000


def test_before_anything_is_counted_bytes_are_all_there_is() -> None:
    prompt = measure(spec(), [(1000, 0), (2000, 1)], None, 0)
    assert prompt.messages_tokens == round(1000 * TOKENS_PER_BYTE) + round(2000 * TOKENS_PER_BYTE) + 1500
    assert prompt.tokens_per_byte == TOKENS_PER_BYTE


def test_what_was_counted_is_no_estimate() -> None:
    agent = spec(instructions="x" * 470)
    known = PromptSize(spec=agent.digest, model=0, slots=1, tokens=300)
    prompt = measure(agent, [(1000, 0), (2000, 0)], known, 0)
    assert prompt.tokens_per_byte == 0.2
    assert prompt.tokens == 300 + 400
    assert prompt.tokens - prompt.messages_tokens == 100


def test_what_another_epoch_took_says_nothing() -> None:
    agent = spec()
    known = PromptSize(spec=agent.digest, model=0, slots=1, tokens=300, epoch=1)
    assert measure(agent, [(1000, 0)], known, 0) == measure(agent, [(1000, 0)], None, 0)


def test_how_much_is_to_be_left() -> None:
    agent = spec(instructions="x" * 10_000)
    prompt = measure(agent, [(300_000, 0)], None, 0)
    room = room_to_make(POLICY, prompt, 90_000)
    assert room.target_tokens == 36_000 - (prompt.tokens - prompt.messages_tokens)
    assert room_to_make(POLICY, prompt, 90_000, share=0.5).target_tokens < room.target_tokens / 1.9
    assert room_to_make(POLICY, prompt, 100).target_tokens == 200
