"""`perdure init`: a project that works, in a new folder."""

import click

from perdure.cli._command import cli_command as make_command


@make_command(name="init")
@click.argument("name", metavar="NAME")
def command(name: str) -> None:
    """Write a new project: an agent, a tool, tests, a Makefile, a compose file.

    The folder NAME is made where you are, unless there is an empty one. It works at once, without a key: the model
    is one that works by rules.
    """
    from pathlib import Path

    from perdure._scaffold import create_project
    from perdure.cli._context import say

    folder = create_project(name, parent=Path())
    click.echo(folder)
    say(
        f"Next: `cd {folder}`, then `make test`, or `make dev` and in a second terminal"
        ' `perdure run assistant -i "When does the harbour open?"`.'
    )
