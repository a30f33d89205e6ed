"""Printing what a run that was started again keeps."""

import click

from perdure.cli._context import say
from perdure.cli._format import one_line, plural
from perdure.cli._render import print_json
from perdure.client import RerunResult


def print_rerun(started: RerunResult, output: str) -> None:
    """Print the workflow id, and on stderr what is kept and what isn't."""
    if started.is_beginning:
        say("There was nothing to keep: it starts from the beginning.")
    else:
        say(f"Kept: {started.kept}.")
    if started.repeats:
        names = one_line(", ".join(sorted(set(started.repeats))))
        say(f"Done again, {plural(len(started.repeats), 'step')}: {names}.")
    if output == "text":
        click.echo(started.workflow_id)
    else:
        print_json(started, output)
