"""What goes on, as it is drawn."""

import io
from datetime import UTC, datetime
from decimal import Decimal

from rich.console import Console

from perdure.cli._top import drawn
from perdure.client import QueueLoad, RunInfo, Top, TopRun

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def text(top: Top) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=300).print(*drawn(top), sep="\n")
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def made(**facts: object) -> Top:
    known = {"at": AT, "open": 0, "started_per_minute": 0, "closed_per_minute": {}, "spent_usd_last_hour": 0}
    return Top.model_validate({"runs": (), "queues": (), **known, **facts})


def test_nothing_goes_on() -> None:
    assert text(made())[0] == "0 runs open · last minute: 0 started, 0 closed · last hour: $0.0000 · 12:00:00Z"
    assert text(made())[-1] == "No open runs."


def test_runs_queues_and_workers() -> None:
    info = RunInfo(
        workflow_id="w-1\x1b[31m",
        run_id="r",
        workflow="AgentWorkflow",
        status="running",
        agent="writer",
        state="waiting_approval",
        task_queue="q",
        started_at=AT,
        history_events=1,
        history_bytes=1,
    )
    run = TopRun(info=info, turns=3, tokens=1234, cost_usd=Decimal("0.5"), activity="asks for\nsend()")
    queues = (
        QueueLoad(task_queue="q", kind="workflow", workers=("1@host",)),
        QueueLoad(task_queue="q", kind="activity", backlog=1200, oldest_seconds=65, added_per_second=2.5),
    )
    lines = text(
        made(
            open=300,
            started_per_minute=7,
            closed_per_minute={"completed": 5, "timed_out": 1},
            is_spent_partial=True,
            runs=(run,),
            queues=queues,
        )
    )
    assert lines[0].startswith(
        "300 runs open, 1 waiting approval · last minute: 7 started, 5 completed, 1 timed out"
    )
    assert "last hour: at least $0.0000" in lines[0]
    assert lines[3] == "q workflow 1: 1@host"
    assert lines[4] == "q activity 1,200 1 min 5 s 2.5 none"
    assert lines[7].startswith("waiting approval writer")
    assert lines[7].endswith("3 1,234 $0.5000 w-1[31m asks for send()")
    assert lines[8] == "… 299 more open runs: `perdure list --status running`"
