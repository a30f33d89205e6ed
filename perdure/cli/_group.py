"""The root group: it imports a command when that is used, and tells every error in one place."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

import perdure
from perdure.cli._table import BY_NAME, COMMANDS


class LazyGroup(click.Group):
    """The group of the commands in `_table`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, without an import."""
        return list(BY_NAME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        entry = BY_NAME.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(entry.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, from the table alone."""
        width = max(map(len, BY_NAME))
        for section, entries in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in entries.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a wrong name gets a suggestion."""
        name = args[0]
        if name not in BY_NAME and not name.startswith("-"):
            near = get_close_matches(name, BY_NAME, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "`perdure --help` lists them."
            raise click.UsageError(f"There is no command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command from the table, without an import."""
        names = [name for name in BY_NAME if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=BY_NAME[name].help) for name in names), *options]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises becomes a line and an exit code."""
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            from perdure.cli._errors import explain

            explain(error, ctx)


def print_version(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    """Print the version and exit."""
    if is_given and not ctx.resilient_parsing:
        click.echo(f"perdure {perdure.__version__}")
        ctx.exit()
