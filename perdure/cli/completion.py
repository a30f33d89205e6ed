"""`perdure completion`: the Tab key in your shell."""

from typing import Final

import click

from perdure.cli._command import cli_command as make_command

_INSTALL: Final = {
    "bash": "perdure completion bash > ~/.local/share/bash-completion/completions/perdure",
    "zsh": """echo 'eval "$(perdure completion zsh)"' >> ~/.zshrc""",
    "fish": "perdure completion fish > ~/.config/fish/completions/perdure.fish",
}

_EPILOG: Final = "\b\nTo install it:\n" + "\n".join(f"  {how}" for how in _INSTALL.values())


@make_command(name="completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(list(_INSTALL)), required=False)
def command(shell: str | None) -> None:
    """Print the script with which your shell completes commands and options.

    SHELL is that of the variable SHELL where it isn't given.
    """
    import os
    import sys
    from pathlib import Path

    from click.shell_completion import get_completion_class

    from perdure.cli import cli
    from perdure.cli._context import say
    from perdure.errors import InvalidInputError

    chosen = shell or Path(os.environ.get("SHELL", "")).name
    completer = get_completion_class(chosen) if chosen in _INSTALL else None
    if completer is None:
        raise InvalidInputError(f"The shell isn't known: name one of {', '.join(_INSTALL)}.")
    click.echo(completer(cli, {}, "perdure", "_PERDURE_COMPLETE").source())
    if sys.stdout.isatty():
        say(f"To install it: {_INSTALL[chosen]}")
