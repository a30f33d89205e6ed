"""What `schedule` is given, and what it prints."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from perdure.cli._context import Project, say, with_client
from perdure.cli._format import ago, clean, duration, one_line, stamp
from perdure.cli._input import agent_input, parse_context, parse_limits, parse_period, read_input, workflow_args
from perdure.cli._render import console, print_items, print_json, print_pairs, print_table
from perdure.client import ScheduleDetails, ScheduleInfo, Triggered
from perdure.errors import InvalidInputError, suggest

_SHOWN_TIMES = 5


def read_schedule(
    project: Project,
    *,
    name: str,
    agent: str,
    workflow: str,
    text: str | None,
    cron: Sequence[str],
    every: str | None,
    jitter: str | None,
    catch_up: str | None,
    limits: Sequence[str],
    context: Sequence[str],
    **others: Any,
) -> tuple[str, dict[str, Any]]:
    """Return the name of a schedule, and the other arguments of `Schedules.create`.

    Raises:
        InvalidInputError: Something isn't what it should be. Not retryable.
    """
    if bool(agent) == bool(workflow):
        raise click.UsageError("Give either --agent or --workflow: what should be started?")
    if not cron and every is None:
        raise click.UsageError("Give --cron or --every: when should it be started?")
    if agent and text is None:
        raise click.UsageError("Missing option '-i' / '--input': what should the agent do?")
    given = None if text is None else read_input(text)
    return name, {
        "agent": agent,
        "input": "" if given is None or workflow else agent_input(given),
        "workflow": workflow,
        "args": _args(project, workflow, given) if workflow else (),
        "cron": tuple(cron),
        "every": parse_period(every, "--every"),
        "jitter": parse_period(jitter, "--jitter"),
        "catch_up": parse_period(catch_up, "--catch-up"),
        "limits": parse_limits(limits),
        "context": parse_context(context),
        **others,
    }


def _args(project: Project, workflow: str, text: str | None) -> list[Any]:
    if project.app is None:
        return [] if text is None else [text]
    if workflow not in project.app.workflows:
        raise InvalidInputError(f"There is no workflow {workflow!r}.{suggest(workflow, project.app.workflows)}")
    return workflow_args(workflow, project.app.workflows[workflow], text)


def change(name: str, method: str, done: str, **options: Any) -> None:
    """Pause, resume or delete a schedule."""

    async def main(client: Any) -> None:
        await getattr(client.schedules, method)(name, **options)

    with_client(main)
    say(clean(f"{done} {name}."))


def print_created(made: ScheduleInfo, output: str) -> None:
    """Print the name, and on stderr the next times."""
    if output != "text":
        print_json(made, output)
        return
    click.echo(made.name)
    say("Paused." if made.is_paused else f"Next: {_times(made)}.")


def print_schedules(found: Sequence[ScheduleInfo], output: str) -> None:
    """Print a line for each schedule."""
    if output != "text":
        print_items(found, output)
    elif not found:
        say("No schedules.")
    else:
        columns = ("NAME", "STARTS", "WHEN", "TIME ZONE", "NEXT", "LAST RUN")
        print_table(console(), columns, [_cells(each) for each in found])


def _cells(each: ScheduleInfo) -> tuple[str, ...]:
    due = "paused" if each.is_paused else stamp(each.next[0]) if each.next else "-"
    last = each.recent[-1].workflow_id if each.recent else "-"
    when = ", ".join(each.when) or "-"
    return (each.name, each.agent or each.workflow or "-", one_line(when, 60), each.time_zone, due, clean(last))


def print_schedule(found: ScheduleDetails, output: str) -> None:
    """Print a schedule in detail."""
    if output != "text":
        print_json(found, output)
        return
    pairs = [
        ("schedule", found.name),
        ("agent", found.agent) if found.agent else ("workflow", found.workflow or "-"),
        ("when", ", ".join(found.when) or "-"),
        ("time zone", found.time_zone),
        ("state", "paused" if found.is_paused else "active"),
        ("note", found.note),
        ("next", "" if found.is_paused else _times(found)),
        ("overlap", found.overlap),
        ("jitter", duration(timedelta(seconds=found.jitter_seconds)) if found.jitter_seconds else ""),
        ("catch-up", duration(timedelta(seconds=found.catch_up_seconds))),
        ("queue", found.task_queue),
        ("tenant", found.tenant),
        ("input", one_line(found.input if isinstance(found.input, str) else str(found.input or ""))),
        ("runs", f"{found.started} started, {found.skipped} skipped, {found.missed} missed"),
        *(("open", workflow_id) for workflow_id in found.running),
        *(("run", f"{run.workflow_id} ({ago(run.started_at)})") for run in reversed(found.recent)),
    ]
    print_pairs(console(), [(label, clean(value)) for label, value in pairs if value])


def print_triggered(found: Triggered, output: str) -> None:
    """Print the workflow id of the run that was started."""
    if not found.workflow_id:
        say(clean(f"Nothing was started: {found.note}."))
    if output != "text":
        print_json(found, output)
    elif found.workflow_id:
        print(found.workflow_id)


def _times(found: ScheduleInfo) -> str:
    return ", ".join(stamp(each) for each in found.next[:_SHOWN_TIMES]) or "never"
