"""Leaving the process, without the interpreter's finalisation where Temporal's threads are around.

A thread of the SDK's Rust core that still holds a Python object when the interpreter finalises aborts the process
with "Fatal Python error: PyGILState_Release", seen in one `perdure start` of three on a busy machine. So the exit
functions are run and the streams flushed, and then the process ends at once.
"""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(exit: SystemExit) -> NoReturn:
    """End the process with the code of `exit`.

    Raises:
        SystemExit: `exit` itself, where Temporal was not used.
    """
    if "temporalio.bridge" not in sys.modules:
        raise exit
    code = exit.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - there is no public way
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a closed pipe has nothing to say
            stream.flush()
    os._exit(code or 0)
