"""The command line: parse, call the library, render. It holds no logic of its own.

Commands are imported when they are used (`_table`), so that `perdure --help` answers at once. Results go to
stdout, everything else to stderr. Exit codes: 0 ok, 1 the run failed, 2 bad input, 3 Temporal can't be reached or
there is no answer yet, 4 the project is at fault, 130 interrupted.
"""

import click

from perdure.cli._exit import leave
from perdure.cli._group import LazyGroup, print_version

__all__ = ["cli", "main"]

_EPILOG = """\
INPUT is text, @FILE, - for stdin, or JSON. Temporal is found by TEMPORAL_ADDRESS or a profile, else on this
machine. The app is found by --app, PERDURE_APP or [tool.perdure] in pyproject.toml.
"""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=print_version)
def cli() -> None:
    """Durable AI agents on Temporal."""


def main() -> None:
    """Run the command line: the console script `perdure`."""
    try:
        cli.main(prog_name="perdure")
    except SystemExit as error:
        leave(error)
