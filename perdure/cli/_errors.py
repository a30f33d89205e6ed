"""What an error means to whoever typed the command: one line on stderr and an exit code."""

import errno
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import click

DEBUG = "perdure.debug"
"""In a context's `meta`: whether tracebacks are wanted."""

_INVALID_WORKFLOW = "Failed validating workflow"
"""How the SDK says that a workflow can't be loaded in the sandbox."""

RUN_FAILED = 1
USAGE = 2
UNREACHABLE = 3
"""Or nobody answers yet: it may do to try again later."""
PROJECT = 4
INTERRUPTED = 130


class Failure(click.ClickException):
    """A line for the user, and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        """Exit with `code`."""
        super().__init__(message)
        self.exit_code = code  # pyright: ignore[reportAttributeAccessIssue] - click reads it from the instance


class RunFailed(click.ClickException):
    """A run that was waited for did not complete.

    Attributes:
        told: The error as programs read it: type, message, and what the run had by then.
    """

    exit_code = RUN_FAILED

    def __init__(self, kind: str, message: str, partial: str | None = None) -> None:
        """Tell an error of this type."""
        had = f"\n\nWhat it had by then:\n{partial}" if partial else ""
        super().__init__(f"{kind}: {message}{had}")
        self.told = {"type": kind, "message": message, "partial": partial}


class Interrupted(click.exceptions.Exit):
    """Ctrl-C, after the command has said what there is to say."""

    def __init__(self) -> None:
        """Exit with 130."""
        super().__init__(INTERRUPTED)


def explain(error: BaseException, ctx: click.Context) -> NoReturn:
    """Turn an error into its exit code and line.

    Raises:
        click.ClickException, click.exceptions.Exit: What click shows and exits with.
    """
    if isinstance(error, click.exceptions.Exit | click.UsageError | click.Abort) or _is_broken_pipe(error):
        raise error
    if isinstance(error, KeyboardInterrupt):
        raise Interrupted from None
    if ctx.meta.get(DEBUG) or os.environ.get("PERDURE_DEBUG", "0") not in ("", "0"):
        # click tells its own exceptions without a traceback, so it is written here.
        sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, click.ClickException):
        raise error
    code, message = describe(error)
    raise Failure(message, code) from error


def describe(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the text of an error of a command."""
    from temporalio.service import RPCError

    from perdure.errors import PerdureError, ProjectLoadError
    from perdure.history import storage_problem

    if isinstance(error, ProjectLoadError):
        return PROJECT, _with_traceback(error.message, error.attributes.get("traceback"))
    if isinstance(error, PerdureError):
        return _code_of(error), error.message
    if isinstance(error, RPCError):
        return _describe_rpc(error)
    if isinstance(error, RuntimeError) and str(error).startswith(_INVALID_WORKFLOW):
        cause = error.__cause__ or error.__context__
        return PROJECT, f"{error}: {_one_line(cause)} `perdure doctor` tells more."
    if isinstance(error, RuntimeError | ValueError) and (unreadable := storage_problem(error)) is not None:
        return PROJECT, unreadable.message
    kind = type(error).__name__
    return RUN_FAILED, f"Unexpected {kind}: {error} (`--debug` shows where it comes from.)"


@contextmanager
def run_outcome(output: str = "text", *, is_event: bool = False) -> Generator[None]:
    """Say that an error of a run, whatever its type, is the run's and not the command's; as JSON on stdout too.

    Args:
        output: How the command prints.
        is_event: The JSON is one of a stream of events, which have kinds.
    """
    from perdure.errors import PerdureError, ServerError, StillRunningError

    try:
        yield
    except StillRunningError as error:
        _print_failure(RunFailed(type(error).__name__, error.message, None), output, is_event=is_event)
        raise
    except ServerError:
        raise
    except PerdureError as error:
        failed = RunFailed(type(error).__name__, error.message, error.attributes.get("partial"))
        _print_failure(failed, output, is_event=is_event)
        raise failed from error


def _print_failure(failed: RunFailed, output: str, *, is_event: bool) -> None:
    if output != "text":
        value = {**({"kind": "error"} if is_event else {}), "error": failed.told}
        click.echo(json.dumps(value, indent=2 if output == "json" else None))


def _with_traceback(message: str, trace: str | None) -> str:
    return f"{message}\n\n{trace.rstrip()}" if trace else message


def _one_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first.rstrip('.')}."


def _code_of(error: BaseException) -> int:
    from perdure import errors

    if isinstance(error, errors.SettingsError) and str(error.attributes.get("source", "")).startswith("flag "):
        return USAGE  # the setting was typed with the command

    codes: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], int], ...] = (
        ((errors.ProjectLoadError, errors.SettingsError, errors.StorageError), PROJECT),
        (errors.EncryptionError, PROJECT),
        ((errors.DuplicateNameError, errors.InvalidNameError, errors.InvalidToolError), PROJECT),
        ((errors.ServerUnreachableError, errors.DevServerError), UNREACHABLE),
        ((errors.NoWorkerError, errors.StillRunningError, errors.InboxFullError), UNREACHABLE),
        ((errors.RunNotFoundError, errors.RunExistsError), USAGE),
        (errors.UserError, USAGE),
    )
    return next((code for types, code in codes if isinstance(error, types)), RUN_FAILED)


def _describe_rpc(error: Exception) -> tuple[int, str]:
    from temporalio.service import RPCError, RPCStatusCode

    assert isinstance(error, RPCError)
    lost = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
    if error.status in lost:
        return UNREACHABLE, f"The connection to Temporal was lost: {error.message}."
    if error.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
        return UNREACHABLE, f"Temporal refused: {error.message}. Check TEMPORAL_API_KEY and TEMPORAL_NAMESPACE."
    is_wrong = error.status is RPCStatusCode.INVALID_ARGUMENT
    return USAGE if is_wrong else RUN_FAILED, f"Temporal can't do that: {error.message}."


def _is_broken_pipe(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE
