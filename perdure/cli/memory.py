"""`perdure memory`: what agents remember of users."""

from typing import Any

import click

from perdure.cli._command import Command, output_option, queue_option

user_argument = click.argument("user", metavar="[USER]", default="")
tenant_option = click.option(
    "--tenant", default="", metavar="NAME", help="Of this tenant; its own without a USER."
)


@click.group(name="memory")
def command() -> None:
    """Show what agents remember of users, and have it forgotten."""


@command.command(name="show", cls=Command)
@user_argument
@tenant_option
@queue_option
@output_option
def show(user: str, tenant: str, task_queue: str | None, output: str) -> None:
    """Show what is remembered of a user, what was used last first; a worker must be up."""
    from perdure.cli._context import with_client
    from perdure.cli._memories import print_memory

    async def main(client: Any) -> Any:
        return await client.memory.show(user, tenant=tenant)

    print_memory(with_client(main, task_queue=task_queue), output)


@command.command(name="forget", cls=Command)
@user_argument
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Forget this entry; may be repeated.")
@click.option("--all", "is_all", is_flag=True, help="Forget everything.")
@tenant_option
@queue_option
@output_option
def forget(
    user: str, keys: tuple[str, ...], is_all: bool, tenant: str, task_queue: str | None, output: str
) -> None:
    """Have entries forgotten, and print their keys; a worker must be up.

    Histories of before hold them until their time of retention is over.
    """
    from perdure.cli._context import with_client
    from perdure.cli._memories import print_forgotten

    async def main(client: Any) -> Any:
        return await client.memory.forget(user, keys=keys, is_all=is_all, tenant=tenant)

    print_forgotten(with_client(main, task_queue=task_queue), keys, output)
