"""`perdure result`."""

from datetime import timedelta
from typing import Any

import click

from perdure.cli._command import FiniteRange, cli_command, id_argument, output_option


@cli_command(name="result")
@id_argument
@click.option("--timeout", type=FiniteRange(min=0), metavar="SECONDS", help="Give up waiting after this.")
@output_option
def command(workflow_id: str, timeout: float | None, output: str) -> None:
    """Wait for a run and print its output. Exits with 1 if it failed, and with 3 if it is still running.

    When it waits for a person, that is said on stderr. With --timeout 0, the result is there or it isn't.
    """
    from perdure.cli._context import with_client
    from perdure.cli._errors import run_outcome
    from perdure.cli._follow import warn_if_idle
    from perdure.cli._outcome import print_result
    from perdure.cli._people import telling_waits

    async def main(client: Any) -> Any:
        await warn_if_idle(client, workflow_id)
        with run_outcome(output):
            wait = None if timeout is None else timedelta(seconds=timeout)
            async with telling_waits(client, workflow_id):
                return await client.result(workflow_id, timeout=wait)

    print_result(with_client(main), output)
