"""`perdure answer`."""

from typing import Any

import click

from perdure.cli._command import cli_command, id_argument, output_option


@cli_command(name="answer")
@id_argument
@click.argument("answer", metavar="ANSWER")
@click.option("--call", metavar="CALL", help="Which question; not needed where one waits.")
@output_option
def command(workflow_id: str, answer: str, call: str | None, output: str) -> None:
    """Answer a question that waits in the run ID, or in a run below it.

    ANSWER is a text, or JSON where the question asks for more than that; @FILE and - work too.
    """
    from perdure.cli._context import with_client
    from perdure.cli._input import read_input
    from perdure.cli._people import print_decision

    text = read_input(answer)

    async def main(client: Any) -> Any:
        return await client.answer_text(workflow_id, text, call)

    print_decision(with_client(main), output)
