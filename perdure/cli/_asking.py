"""What `query` and `update` share: both send values to a run and print its answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from perdure.cli._context import with_client
from perdure.cli._follow import warn_if_idle
from perdure.cli._input import parse_args
from perdure.cli._outcome import print_result

if TYPE_CHECKING:
    from perdure.client import PerdureClient


def ask(
    how: "Callable[[PerdureClient], Callable[..., Awaitable[Any]]]",
    workflow_id: str,
    name: str,
    args: Sequence[str],
    output: str,
) -> None:
    """Send ARGS to a run, by the method of the client that `how` returns, and print the answer."""
    values = parse_args(args)

    async def main(client: "PerdureClient") -> Any:
        await warn_if_idle(client, workflow_id)
        return await how(client)(workflow_id, name, *values)

    print_result(with_client(main), output)
