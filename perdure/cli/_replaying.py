"""What `perdure replay` does and prints."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from temporalio.client import Client, WorkflowHistory

from perdure.app import App
from perdure.cli._context import Project, load_project, open_client, run_async, say
from perdure.cli._format import plural
from perdure.cli._input import parse_time
from perdure.cli._render import console, print_json, print_labelled
from perdure.client._runs import quoted
from perdure.errors import InvalidInputError
from perdure.testing.replay import ReplayReport, check_replay, open_histories, stored_histories


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which runs are checked."""

    folder: str | None
    is_open: bool
    since: str | None
    limit: int

    def query(self, task_queue: str) -> str:
        """Return the visibility query.

        Raises:
            InvalidInputError: `since` is no time. Not retryable.
        """
        parts = [f"TaskQueue = '{quoted(task_queue)}'"]
        if self.is_open or self.since is None:
            parts.append("ExecutionStatus = 'Running'")
        time = parse_time(self.since)
        if time is not None:
            start = datetime.now(UTC) - time
            parts.append(f"StartTime >= '{start.isoformat(timespec='seconds')}'")
        return " AND ".join(parts)


def check_runs(chosen: Chosen, *, app: str | None, task_queue: str | None) -> ReplayReport:
    """Replay the runs with the project's app.

    Raises:
        InvalidInputError, ProjectLoadError: Not retryable.
        ServerUnreachableError: Retryable.
    """
    if chosen.folder is not None and (chosen.is_open or chosen.since):
        raise InvalidInputError("Give DIR, or --open and --since: stored histories are no open runs.")
    project = load_project(needs_app=True, app=app, task_queue=task_queue)
    assert project.app is not None
    if chosen.folder is not None:
        return run_async(_check(project, project.app, stored_histories(Path(chosen.folder))))
    query = chosen.query(project.settings.task_queue)
    report = run_async(_check_server(project, project.app, query, chosen.limit))
    if report.runs == chosen.limit:
        say(f"Only the latest {chosen.limit} runs were looked at: --limit takes more.")
    return report


async def _check_server(project: Project, app: App, query: str, limit: int) -> ReplayReport:
    client = (await open_client(project)).temporal
    return await _check(project, app, open_histories(client, query, limit=limit), client)


async def _check(
    project: Project,
    app: App,
    histories: Iterable[WorkflowHistory] | AsyncIterator[WorkflowHistory],
    client: Client | None = None,
) -> ReplayReport:
    from perdure.storage.opening import data_converter

    converter = client.data_converter if client else data_converter(project.settings)
    return await check_replay(app, histories, data_converter=converter)


def print_report(report: ReplayReport, output: str) -> None:
    """Print what doesn't replay, and how much was looked at."""
    if output != "text":
        print_json(report, output)
        return
    out = console()
    for fault in report.faults:
        where = f"event {fault.event_id} {fault.event}".rstrip() if fault.event_id else "nowhere in particular"
        print_labelled(out, fault.workflow_id, f"{fault.workflow}, {where}\n{fault.cause}", width=12)
    looked = f"{plural(report.runs, 'run')}, {report.events} events, {report.seconds:.1f} s"
    if report.faults:
        say(f"{plural(len(report.faults), 'run')} can't go on with this code, of {looked}.")
    elif report.runs:
        say(f"All replay: {looked}.")
    else:
        say("There is no such run.")


def export_run(workflow_id: str, file: str | None) -> None:
    """Write a cassette.

    Raises:
        RunNotFoundError: There is no such run. Not retryable.
        InvalidInputError: The file can't be written. Not retryable.
    """
    from perdure.cli._context import with_client
    from perdure.client import PerdureClient
    from perdure.testing.cassettes import Cassette, record_cassette

    async def main(client: PerdureClient) -> Cassette:
        return await record_cassette(client.temporal, workflow_id)

    text = with_client(main).to_json()
    if file is None:
        click.echo(text)
        return
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"Can't write {file!r}: {error.strerror}. Choose another by --file.") from None
    say(f"Wrote {file}, {len(text):,} bytes.")
