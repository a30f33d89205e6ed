"""`perdure send`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="send")
@id_argument
@click.argument("message", metavar="MESSAGE")
@click.option("--interrupt", is_flag=True, help="Stop the model call in flight, and go on with the message.")
@click.option("--message-id", metavar="ID", help="Sent again with the same id, it is not entered twice.")
@output_option
def command(workflow_id: str, message: str, interrupt: bool, message_id: str | None, output: str) -> None:
    """Send a message to an open run of an agent; it is read at the next turn.

    MESSAGE is text, @FILE, - for stdin, or a JSON list of parts. Tool calls in flight end first, also with
    --interrupt.
    """
    from perdure.cli._context import say, with_client
    from perdure.cli._input import agent_input, read_input
    from perdure.cli._render import print_json

    given = agent_input(read_input(message))

    async def main(client: Any) -> Any:
        return await client.send(workflow_id, given, interrupt=interrupt, message_id=message_id)

    receipt = with_client(main)
    if output != "text":
        print_json(receipt, output)
    else:
        say(f"Sent to {workflow_id}, as message {receipt.number}; {receipt.waiting} to be read at its next turn.")
