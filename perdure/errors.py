"""The errors that perdure raises. Both sides.

```
PerdureError
├── UserError                 a mistake in the user's code, configuration or input; never retryable
│   ├── ProjectLoadError      the app can't be found or imported (also an ImportError)
│   ├── InvalidNameError      a name that perdure can't register
│   ├── DuplicateNameError    two things of one name
│   ├── UnknownAgentError     no agent of that name
│   ├── NoCandidateError      no agent that could be chosen for a task
│   ├── UnknownToolError      no tool of that name
│   ├── UnknownModelError     no provider for the model's prefix, or no key for it
│   ├── InvalidToolError      a function or options that can't be a tool
│   ├── InvalidInputError     an input that a run can't start with
│   ├── InvalidPlanError      a plan that can't be executed
│   ├── SettingsError         a setting that can't be used
│   └── PayloadTooLargeError  data over Temporal's limits, found before it was sent
├── RunError                  how a run ended when it did not complete; never retryable
│   ├── LimitExceeded         a limit of the run was reached
│   ├── UnexpectedModelBehavior  replies that can't be used, time and again
│   ├── ApprovalDenied, ApprovalTimeout   a person said no, or nothing
│   ├── AnswerTimeout         nobody answered a question in time
│   ├── ModelUnavailable      the model could not be reached, or refused the call for good
│   ├── RunCancelled          somebody cancelled the run
│   ├── RunTerminated         somebody, or the server, ended it at once, or its time ran out
│   ├── HistoryFullError      an inline agent has no room left in its workflow's history
│   ├── TaskFailed            a step of a workflow failed, in a way that has no type of its own
│   ├── PlanFailed            a task of a plan failed, and the plan ends with it
│   └── AgentBug              a defect in workflow code, perdure's or the user's
├── CallError                 one attempt at a model or tool call
│   ├── ModelCallError        retryable if `kind` is transient or rate_limited
│   ├── UnsettledCallError    an attempt may be billed, and its reservation is used up
│   ├── ToolError             a tool failed; retryable, unless the tool is not idempotent
│   └── ConversationUnavailableError   nothing was called, for want of the conversation; retryable
└── ServerError               Temporal, or the embedded server
    ├── ServerUnreachableError   nothing answers; retryable
    ├── DevServerError           the embedded server can't start
    ├── RunNotFoundError         no run of that id
    ├── RunExistsError           a run of that id is open already
    ├── StorageError             external storage can't take a payload, or give it back
    ├── EncryptionError          a payload needs a key that isn't here; retryable
    ├── InboxFullError           the run can't take more messages just now; retryable
    ├── NoWorkerError            the run needs a worker to answer, and none did in time; retryable
    └── StillRunningError        the run was not over in time; retryable
```

`ToolRetry` stands outside of the tree: a tool raises it to send the model a hint.

Every error is a Temporal `ApplicationError`: its `type` is the class name and its attributes are its details,
so it crosses activity, workflow and client, and `revive` makes the class again on the other side.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from inspect import signature
from typing import Any, ClassVar, Literal, cast

from temporalio.exceptions import ApplicationError

ModelErrorKind = Literal["transient", "rate_limited", "fatal", "context_too_long"]
HeldBy = Literal["rate", "circuit"]


class PerdureError(ApplicationError):
    """The root of perdure's errors.

    Attributes:
        attributes: What is known about the error beside its message; JSON values.
    """

    is_retryable: ClassVar[bool] = False
    _types: ClassVar[dict[str, type["PerdureError"]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the class under its name, for `revive`."""
        PerdureError._types[cls.__name__] = cls

    def __init__(
        self,
        message: str,
        *,
        is_retryable: bool | None = None,
        next_retry_delay: timedelta | None = None,
        **attributes: Any,
    ) -> None:
        """Say what happened and what to do about it."""
        retryable = self.is_retryable if is_retryable is None else is_retryable
        self.attributes: dict[str, Any] = attributes
        super().__init__(
            message,
            *([attributes] if attributes else []),
            type=type(self).__name__,
            non_retryable=not retryable,
            next_retry_delay=next_retry_delay,
        )

    def told_by(self, prefix: str, **attributes: Any) -> "PerdureError":
        """Return the same error with a prefix to its message, and more attributes where its type takes them."""
        known = {**self.attributes, **attributes}
        return _rebuild(
            type(self).__name__, f"{prefix}{self.message}", known, not self.non_retryable, self.next_retry_delay
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by type and attributes."""
        retry = (not self.non_retryable, self.next_retry_delay)
        return _rebuild, (type(self).__name__, self.message, self.attributes, *retry)


def _rebuild(
    type_name: str,
    message: str,
    attributes: Mapping[str, Any],
    is_retryable: bool,
    next_retry_delay: timedelta | None,
) -> PerdureError:
    """Make an error again; attributes that only another version of its class knows are left out."""
    cls = PerdureError._types.get(type_name, PerdureError)  # pyright: ignore[reportPrivateUsage]
    named = signature(cls.__init__).parameters
    if "is_retryable" not in named:
        return cls(message, **{name: value for name, value in attributes.items() if name in named})
    given = {name: value for name, value in attributes.items() if name not in named}
    return cls(message, is_retryable=is_retryable, next_retry_delay=next_retry_delay, **given)


def revive(error: BaseException) -> BaseException:
    """Return the perdure error that `error` carried through Temporal, or `error` itself."""
    if isinstance(error, PerdureError) or not isinstance(error, ApplicationError):
        return error
    if error.type not in PerdureError._types:  # pyright: ignore[reportPrivateUsage]
        return error
    first: Any = error.details[0] if error.details else None
    attributes = cast("dict[str, Any]", first) if isinstance(first, dict) else {}
    try:
        revived = _rebuild(error.type, error.message, attributes, not error.non_retryable, error.next_retry_delay)
    except (TypeError, ValueError, ArithmeticError):
        return error  # the details are not ours: somebody else's class has the same name
    revived.__cause__ = error.__cause__
    return revived


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?` for the nearest known name, else a list of what is known, else nothing."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(names)}." if names else ""


class UserError(PerdureError):
    """A mistake in the user's code, configuration or input."""


class ProjectLoadError(UserError, ImportError):
    """The app can't be found or imported."""


class InvalidNameError(UserError):
    """A name that perdure can't register."""


class DuplicateNameError(UserError):
    """Two things of one name."""


class UnknownAgentError(UserError):
    """No agent of that name."""


class NoCandidateError(UserError):
    """No agent that could be chosen has the capabilities that the task asks for."""


class UnknownToolError(UserError):
    """No tool of that name."""


class UnknownModelError(UserError):
    """No provider is registered for the prefix of a model, or its key is missing."""


class InvalidToolError(UserError):
    """A function, or options, that can't be a tool."""


class InvalidInputError(UserError):
    """An input that a run can't start with."""


class InvalidPlanError(UserError):
    """A plan that can't be executed. `attributes`: `faults`, each with `message` and `path`."""


class SettingsError(UserError):
    """A setting that can't be used."""


class PayloadTooLargeError(UserError):
    """Data over Temporal's limits, found before it was sent."""


class RunError(PerdureError):
    """How a run ended when it did not complete."""


class LimitExceeded(RunError):
    """A limit was reached. `attributes`: `limit`, `value`, `partial`."""


class UnexpectedModelBehavior(RunError):
    """The model's replies could not be used, time and again. `attributes`: `problem`."""


class ApprovalDenied(RunError):
    """A tool call that the run can't go on without was denied, by a person or a rule. `attributes`: `tool`."""


class ApprovalTimeout(RunError):
    """Nobody decided in time, and the run was to fail then. `attributes`: `tool`, `wait`."""


class AnswerTimeout(RunError):
    """Nobody answered a question in time. `attributes`: `wait`."""


class ModelUnavailable(RunError):
    """The model could not be reached, or refused the call for good."""


class RunCancelled(RunError):
    """Somebody cancelled the run."""


class RunTerminated(RunError):
    """Somebody, or the server, ended the run at once, or its time ran out."""


class HistoryFullError(RunError):
    """An inline agent has no room left in its workflow's history. `attributes`: `partial`, `turns`.

    Run it as a child instead (`inline=False`): that has a history of its own, and continues as new.
    """


class TaskFailed(RunError):
    """A step of a workflow failed in a way that has no type of its own. `attributes`: `failure`."""


class PlanFailed(RunError):
    """A task failed, and its policy is to end the plan.

    `attributes`: `task`, `agent`, `failure` (type of the task's error), `workflow_id` (of the task's run),
    `states` (of every task, by id), `results` (outputs of finished tasks, by id, as far as 200 kB hold them).
    """


class AgentBug(RunError):
    """A defect in workflow code: perdure's or the user's."""


class CallError(PerdureError):
    """One attempt at a model or tool call failed."""


class ModelCallError(CallError):
    """The vendor, or the way to it, failed.

    Attributes:
        kind: `transient` and `rate_limited` are retryable, `fatal` and `context_too_long` are not.
        status_code: The HTTP status, if there was an answer.
        retry_after: How long the vendor asked to wait; already capped.
        may_be_billed: Whether the vendor may charge for the attempt.
        attempts: Set when it was the last of so many; then it is not retryable, whatever its kind.
        held_by: Set when the worker did not make the call: for the vendor's rate limit, or as the vendor is down.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ModelErrorKind = "transient",
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        may_be_billed: bool = False,
        attempts: int | None = None,
        held_by: HeldBy | None = None,
    ) -> None:
        """Describe a failed attempt; `message` must hold no secret."""
        self.attempts = attempts
        self.kind: ModelErrorKind = kind
        self.held_by: HeldBy | None = held_by
        self.status_code = status_code
        self.may_be_billed = may_be_billed
        self.retry_after = None if retry_after_seconds is None else timedelta(seconds=retry_after_seconds)
        super().__init__(
            message,
            is_retryable=kind in ("transient", "rate_limited") and attempts is None,
            next_retry_delay=self.retry_after,
            kind=kind,
            status_code=status_code,
            retry_after_seconds=retry_after_seconds,
            may_be_billed=may_be_billed,
            attempts=attempts,
            **({"held_by": held_by} if held_by else {}),
        )

    def delayed(self, delay: timedelta) -> "ModelCallError":
        """Return the same error, to be retried after `delay` or what the vendor asked for, if that is longer."""
        wait = delay if self.retry_after is None else max(delay, self.retry_after)
        return ModelCallError(
            self.message,
            kind=self.kind,
            status_code=self.status_code,
            retry_after_seconds=wait.total_seconds(),
            may_be_billed=self.may_be_billed,
        )

    def as_last_of(self, attempts: int) -> "ModelCallError":
        """Return the same error as the one that gives up."""
        return ModelCallError(
            f"{self.message} (gave up after {attempts} attempts)",
            kind=self.kind,
            status_code=self.status_code,
            may_be_billed=self.may_be_billed,
            attempts=attempts,
        )

    def as_final(self) -> "ModelCallError":
        """Return the same error, for a caller that has another model to turn to."""
        return ModelCallError(self.message, kind=self.kind, attempts=0, held_by=self.held_by)


class UnsettledCallError(CallError):
    """An attempt may be billed: the run settles it at its worst case, and reserves anew for the next.

    Attributes:
        tries: Attempts that failed so far.
        delay_seconds: How long to wait before the next.
    """

    def __init__(self, message: str, *, tries: int = 0, delay_seconds: float = 0) -> None:
        """Say what happened to the attempt."""
        self.tries = tries
        self.delay_seconds = delay_seconds
        super().__init__(message, tries=tries, delay_seconds=delay_seconds)


class ToolError(CallError):
    """A tool failed. `attributes`: `tool`, and `error`, the type of what it raised. Retryable with attempts left.

    A tool raises it to say more than an exception does: `next_retry_delay`, and with `outcome="unknown"` that the
    call may have taken effect. With `is_retryable=False` it is not tried again.
    """

    is_retryable = True


class ConversationUnavailableError(CallError):
    """The messages of a call could not be found just now; neither model nor tool was called."""

    is_retryable = True

    def __init__(self, message: str) -> None:
        """Say what was looked for; it is looked for again in two seconds."""
        super().__init__(message, next_retry_delay=timedelta(seconds=2))


class ServerError(PerdureError):
    """Temporal, or the embedded server, is not as it should be."""


class ServerUnreachableError(ServerError):
    """Nothing answers at Temporal's address."""

    is_retryable = True


class DevServerError(ServerError):
    """The embedded server can't start."""


class RunNotFoundError(ServerError):
    """There is no run of that id."""


class RunExistsError(ServerError):
    """A run of that id is open already."""


class StorageError(ServerError):
    """External storage can't take a payload, or give it back."""


class EncryptionError(ServerError):
    """A payload is encrypted with a key that isn't here, or is to be."""

    is_retryable = True


class InboxFullError(ServerError):
    """The run can't take more messages before its next turn."""

    is_retryable = True


class NoWorkerError(ServerError):
    """The run needs a worker to answer, and none did in time."""

    is_retryable = True


class StillRunningError(ServerError):
    """The run was not over in time; it goes on."""

    is_retryable = True


class ToolRetry(Exception):
    """Raised by a tool to tell the model what to do differently; the text becomes the tool's result."""
