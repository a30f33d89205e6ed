"""What is only said by the way ends no command: where the server can't tell, nothing is said."""

from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from perdure.cli._context import warn_without_workers
from perdure.cli._follow import warn_if_idle
from perdure.errors import RunNotFoundError


def client(status: RPCStatusCode) -> Any:
    """Return a client whose server refuses whatever it is asked."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise RPCError("no", status, b"")

    service = SimpleNamespace(describe_task_queue=refuse, describe_workflow_execution=refuse)
    return SimpleNamespace(
        temporal=SimpleNamespace(namespace="default", workflow_service=service), task_queue="queue"
    )


@pytest.mark.parametrize("status", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.PERMISSION_DENIED])
async def test_a_warning_that_cannot_be_given(status: RPCStatusCode, capsys: pytest.CaptureFixture[str]) -> None:
    await warn_without_workers(client(status))
    await warn_if_idle(client(status), "w")
    assert capsys.readouterr() == ("", "")


async def test_a_run_that_is_not_there_is_told() -> None:
    with pytest.raises(RunNotFoundError):
        await warn_if_idle(client(RPCStatusCode.NOT_FOUND), "w")
