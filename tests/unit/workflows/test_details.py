"""What the web UI shows of an open run."""

from decimal import Decimal

from perdure.contracts.budget import Amount, Budget
from perdure.contracts.limits import Limits
from perdure.contracts.run import Counters, RunStatus
from perdure.contracts.usage import Usage
from perdure.workflows._details import agent_details, escaped


def status(**facts: object) -> RunStatus:
    known = {"agent": "writer", "state": "working", "slots": 3, "conversation": "main"}
    return RunStatus.model_validate({**known, **facts})


def test_a_run_without_limits_of_money() -> None:
    counters = Counters(turns=3, tool_calls=2, usage=Usage(input_tokens=1000, output_tokens=234))
    told = agent_details(status(counters=counters, limits=Limits(max_turns=10), activity="turn 3 · look()"), "")
    assert told.split("\n\n") == [
        "**writer** · working · turn 3",
        "turn 3 · look()",
        "cost unknown · 1,234 tokens · 3 turns of 10 · 2 tool calls",
    ]


def test_a_run_that_spends_of_a_budget() -> None:
    told = agent_details(
        status(
            state="waiting_limit",
            spent=Amount(tokens=500, cost_usd=Decimal("0.9")),
            reserved=Amount(tokens=10, cost_usd=Decimal("0.05")),
            budget=Budget(tokens=1000, cost_usd=Decimal(1)),
        ),
        "- child",
    )
    assert told.split("\n\n") == [
        "**writer** · waiting limit · turn 0",
        "spent $0.9000 of $1, $0.0500 reserved · 500 tokens of 1,000 · 0 turns · 0 tool calls",
        "- child",
    ]


def test_what_a_model_wrote_is_no_markdown() -> None:
    assert escaped("![x](http://evil)\n<b>*_`") == "\\!\\[x\\](http://evil) \\<b\\>\\*\\_\\`"
