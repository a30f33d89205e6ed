"""What commands are made of: the class, and the options that several of them have."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from perdure.cli._errors import DEBUG

_SURROGATES = re.compile("[\ud800-\udfff]")
_F = TypeVar("_F", bound=Callable[..., Any])
FORMATS = ("text", "json", "jsonl")
_MOST = 1e9


def _set_debug(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given:
        ctx.meta[DEBUG] = True


class FiniteRange(click.FloatRange):
    """Numbers of a range: not `nan`, which is in each, nor more than what a clock can count."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        found = super().convert(value, param, ctx)
        if not abs(found) <= _MOST:
            self.fail(f"{value!r} is out of range.", param, ctx)
        return found


class Command(click.Command):
    """A command with `--debug`; its arguments are text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the option at the end."""
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_set_debug,
                help="Show the traceback of an error.  [env: PERDURE_DEBUG]",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is no UTF-8: no server takes it."""
        for each in args:
            if _SURROGATES.search(each):
                from perdure.errors import InvalidInputError

                raise InvalidInputError(f"The argument {ascii(each)[:80]} isn't UTF-8 text: give it in UTF-8.")
        return super().parse_args(ctx, args)


cli_command = partial(click.command, cls=Command)
"""Makes a function the command of its module; its name is the module's."""

app_option = click.option(
    "--app", metavar="MODULE:ATTR", help="Where the App is, such as app:app.  [env: PERDURE_APP]"
)
queue_option = click.option(
    "--task-queue", metavar="NAME", help="The Task Queue of the workers.  [env: PERDURE_TASK_QUEUE]"
)
output_option = click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="text", help="How to print.  [default: text]"
)
tenant_option = click.option(
    "--tenant", default="", metavar="NAME", help="Whom it is for; tenants get an even share of the workers."
)
priority_option = click.option(
    "--priority",
    type=click.IntRange(1, 5),
    metavar="N",
    help="1 (first) to 5 (last), for all that it does.  [default: 3]",
)
id_argument = click.argument("workflow_id", metavar="ID")
call_argument = click.argument("call", metavar="[CALL]", required=False)


def tree_options(function: _F) -> _F:
    """Add what says how much of a run's tree is shown."""
    all_option = click.option(
        "--all",
        "is_all",
        is_flag=True,
        help="Every child; else those in trouble or at work first, others by number.",
    )
    depth_option = click.option(
        "--depth", type=click.IntRange(0, 20), default=2, metavar="N", help="Levels of the tree.  [default: 2]"
    )
    return depth_option(all_option(function))


def start_options(function: _F) -> _F:
    """Add what `run` and `start` have in common."""
    options = [
        click.argument("name", metavar="NAME"),
        click.option(
            "-i", "--input", "text", metavar="INPUT", help="Text, @FILE, - for stdin, or JSON; @@ for a plain @."
        ),
        click.option("--id", "workflow_id", metavar="ID", help="The workflow id.  [default: NAME and a number]"),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="KEY=N",
            help="A limit of this run, such as max_turns=5; may be repeated.",
        ),
        click.option(
            "--context",
            multiple=True,
            metavar="KEY=VALUE",
            help="A value for instructions and tools; no secrets. May be repeated.",
        ),
        click.option(
            "--ask",
            "asked",
            multiple=True,
            metavar="TOOL",
            help="Ask a person before each call of these tools, such as 'shell_*'; may be repeated.",
        ),
        tenant_option,
        priority_option,
        app_option,
        queue_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function
