"""`perdure storage`: where large payloads are kept, and which of them are needed no more."""

import click

from perdure.cli._command import Command, FiniteRange, output_option


@click.group(name="storage")
def command() -> None:
    """Show what is in external storage, and delete what no run refers to."""


@command.command(name="status", cls=Command)
@output_option
def status(output: str) -> None:
    """Show where large payloads are kept, and how many there are."""
    from perdure.cli._storage import print_status, read_status

    print_status(read_status(), output)


@command.command(name="gc", cls=Command)
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would be deleted.")
@click.option(
    "--older-than",
    metavar="MINUTES",
    type=FiniteRange(min=1),
    default=1440,
    show_default=True,
    help="Spare what was written within this time; for a bucket at least 60.",
)
@output_option
def gc(dry_run: bool, older_than: float, output: str) -> None:
    """Delete payloads that no run, schedule or shared call of the namespace refers to.

    Runs that the server still has count, open and closed; it reads the history of each. In a bucket it deletes
    objects of this namespace, with names of the driver's own.
    """
    from perdure.cli._storage import collect_unused, print_collected

    print_collected(collect_unused(older_than, is_dry=dry_run), output)
