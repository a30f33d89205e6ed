"""`@tool`: a Python function that a model may call. Both sides declare it; only activities run it."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, overload

from pydantic import ValidationError

from perdure.agents._names import check_name
from perdure.agents._schema import Signature
from perdure.agents.approvals import Policy, policy_name
from perdure.agents.context import ToolContext
from perdure.contracts.spec import ToolSpec
from perdure.errors import InvalidToolError

_LOCAL_LIMIT = timedelta(seconds=10)
_MAX_RESULT_BYTES = 50_000_000


class Tool:
    """A function with the policy of its calls. Made by `@tool`; still callable as the function.

    Attributes:
        spec: What a run records of it.
        policy: Says for each call whether it needs approval.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        spec: ToolSpec,
        signature: Signature | None,
        *,
        policy: Policy | None = None,
    ) -> None:
        """Use `@tool` instead; without a signature a subclass says how a call is bound and run."""
        self.spec = spec
        self.policy = policy
        self._function = function
        self._signature = signature
        self.__doc__ = function.__doc__
        self.__name__ = spec.name

    @property
    def name(self) -> str:
        """The name that the model sees."""
        return self.spec.name

    def __repr__(self) -> str:
        """Show the name."""
        return f"Tool({self.name!r})"

    @property
    def sees_context(self) -> bool:
        """Whether the function is given a `ToolContext`."""
        return self._signature is not None and self._signature.context_parameter is not None

    def is_same(self, other: "Tool") -> bool:
        """Say whether `other` is made of the same function, with the same policy."""
        return self._function == other._function and self.spec == other.spec and self.policy == other.policy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as in a test."""
        return self._function(*args, **kwargs)

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments, converted to the function's types.

        Raises:
            ValidationError: pydantic's; the arguments don't fit the signature.
        """
        assert self._signature is not None
        model = self._signature.arguments.model_validate(arguments)
        return {name: model.__dict__[name] for name in type(model).model_fields}

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Call the function with bound arguments; a plain function runs in a thread."""
        if self._signature is not None and self._signature.context_parameter is not None:
            arguments = {**arguments, self._signature.context_parameter: context}
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        value = await asyncio.to_thread(self._function, **arguments)
        return await value if inspect.isawaitable(value) else value


def describe_invalid_arguments(error: ValidationError) -> str:
    """Return what is wrong with a call's arguments, for the model to mend."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'arguments'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    return "Invalid arguments. " + "; ".join(faults[:10])


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    local: bool = False,
    timeout: timedelta | None = None,
    max_attempts: int | None = None,
    max_result_bytes: int = 256 * 1024,
    cache: Literal["run", "shared"] | None = None,
    ttl: timedelta | None = None,
    version: str = "",
    needs_approval: bool | Policy = False,
    read_only: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    local: bool = False,
    timeout: timedelta | None = None,
    max_attempts: int | None = None,
    max_result_bytes: int = 256 * 1024,
    cache: Literal["run", "shared"] | None = None,
    ttl: timedelta | None = None,
    version: str = "",
    needs_approval: bool | Policy = False,
    read_only: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a plain or async function.

    The model sees the function's name, its docstring and a JSON schema of its parameters. A parameter
    annotated `ToolContext` is not shown to the model.

    Args:
        function: The function, when used as a bare decorator.
        name: What the model calls it; the function's name by default.
        description: What the model is told; the docstring by default.
        idempotent: Running a call twice does no more than running it once. Only then is a call run
            again after a worker died in the middle; otherwise the model is told that the outcome is unknown.
        local: Run it inside of the workflow's task: quicker, and one event of history rather than six.
            For quick tools (up to a second, no network); needs `idempotent`.
        timeout: Time for one attempt; 5 minutes by default, 5 seconds for a local tool.
        max_attempts: Tries when the function raises; 3 for an idempotent tool, else 1.
        max_result_bytes: Longer results are cut, with a notice. At most 50 MB where workers have external
            storage; without it results are cut at 1 MiB, whatever this says.
        cache: Answer an identical call from the run (`run`) or across runs (`shared`); needs `idempotent`.
        ttl: How old an answer from another run may be; `shared` needs it. At most the retention of the namespace.
        version: Change it when the answers change though signature and docstring don't: older ones are not
            reused then.
        needs_approval: A person must approve each call; or a function of the call (`ApprovalCall`) says so: by a
            bool, by the reason as a text, or by an `ApprovalRule`. Rules of the app, or of a run, go over it.
        read_only: It changes nothing outside: with `approvals="strict"` it needs no approval.

    Raises:
        InvalidToolError: The function or an option can't be used. Not retryable.
    """

    def make(decorated: Callable[..., Any]) -> Tool:
        signature = Signature(decorated, ToolContext)
        spec = ToolSpec(
            name=decorated.__name__ if name is None else name,
            description=description if description is not None else signature.description,
            parameters=signature.schema(),
            idempotent=idempotent,
            local=local,
            timeout=timedelta(seconds=5 if local else 300) if timeout is None else timeout,
            max_attempts=(3 if idempotent else 1) if max_attempts is None else max_attempts,
            max_result_bytes=max_result_bytes,
            cache=cache,
            cache_ttl=ttl,
            version=version,
            needs_approval=bool(needs_approval),
            read_only=read_only,
            approval_policy=policy_name(needs_approval),
        )
        check_options(spec)
        return Tool(
            decorated, spec, signature, policy=None if isinstance(needs_approval, bool) else needs_approval
        )

    return make if function is None else make(function)


def check_options(spec: ToolSpec) -> None:
    """Raise InvalidToolError if the options of a tool contradict one another."""
    check_name("Tool", spec.name)
    faults = {
        "local needs idempotent=True: a signal that arrives meanwhile can make it run twice": (
            spec.local and not spec.idempotent
        ),
        f"a local tool's timeout is at most {_LOCAL_LIMIT.seconds} seconds": (
            spec.local and spec.timeout > _LOCAL_LIMIT
        ),
        "cache needs idempotent=True: an answer from the cache stands for a run": (
            spec.cache is not None and not spec.idempotent
        ),
        "cache='shared' needs a ttl, of at least a second": (
            spec.cache == "shared" and (spec.cache_ttl is None or spec.cache_ttl < timedelta(seconds=1))
        ),
        "ttl is for cache='shared'": spec.cache_ttl is not None and spec.cache != "shared",
        "a local tool's calls can't be shared; use cache='run'": spec.cache == "shared" and spec.local,
        "max_attempts above 1 needs idempotent=True": spec.max_attempts > 1 and not spec.idempotent,
        "max_attempts is from 1 to 100": not 1 <= spec.max_attempts <= 100,
        "timeout must be positive": spec.timeout <= timedelta(0),
        "max_result_bytes is from 1 to 50,000,000": not 1 <= spec.max_result_bytes <= _MAX_RESULT_BYTES,
    }
    for fault, is_present in faults.items():
        if is_present:
            raise InvalidToolError(f"Tool {spec.name!r}: {fault}.")
