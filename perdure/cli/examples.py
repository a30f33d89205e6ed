"""`perdure examples`: projects that come with perdure."""

import click

from perdure.cli._command import Command, output_option


@click.group(name="examples", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the example projects, and copy one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command(name="list", cls=Command)
@output_option
def list_(output: str = "text") -> None:
    """List the examples."""
    from perdure._scaffold import list_examples
    from perdure.cli._render import console, print_items, print_table

    examples = list_examples()
    if output == "text":
        print_table(console(), ("NAME", "WHAT IT SHOWS"), [(each.name, each.description) for each in examples])
    else:
        print_items([{"name": each.name, "description": each.description} for each in examples], output)


@command.command(name="copy", cls=Command)
@click.argument("name")
@click.option("--to", "target", metavar="FOLDER", help="Where to; new or empty.  [default: NAME]")
def copy(name: str, target: str | None) -> None:
    """Copy an example into a folder of your own."""
    from pathlib import Path

    from perdure._scaffold import copy_example
    from perdure.cli._context import say

    folder = copy_example(name, target=Path(target or name))
    click.echo(folder)
    say(f"Next: `cd {folder}` and read README.md.")
