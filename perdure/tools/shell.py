"""`shell_tool`: a tool that runs programs which its author lists. Both sides declare it; activities run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure.agents.approvals import Policy, policy_name
from perdure.agents.context import ToolContext
from perdure.agents.schema_tool import SchemaTool
from perdure.agents.tool import Tool
from perdure.contracts.spec import JsonSchema, ToolSpec
from perdure.errors import InvalidToolError

_TIMEOUT = timedelta(minutes=2)
_MARGIN = timedelta(seconds=15)
_MAX_OUTPUT_BYTES = 64 * 1024
_LARGEST_OUTPUT = 10_000_000
_DESCRIPTION = (
    "Run a program with arguments, and return its exit code and what it wrote. There is no shell: no pipes, no "
    "variables, no wildcards. Programs: {commands}."
)


def shell_tool(
    commands: Sequence[str],
    *,
    name: str = "run_command",
    description: str | None = None,
    sandbox: Sequence[str] = (),
    cwd: str | None = None,
    env_pass: Sequence[str] = (),
    timeout: timedelta = _TIMEOUT,
    max_output_bytes: int = _MAX_OUTPUT_BYTES,
    needs_approval: bool | Policy = True,
    idempotent: bool = False,
    read_only: bool = False,
) -> Tool:
    """Return a tool that runs programs on the worker, or in the sandbox that a command makes.

    The list of programs is no sandbox: most programs can be made to do anything (`git`, `find` and `python` run
    others). What holds a program back is `sandbox`; without it, it may do all that the worker's user may.

    Args:
        commands: What may be run: names that are looked up in the worker's PATH, or absolute paths.
        name: What the model calls the tool.
        description: What the model is told; that, and the list, by default.
        sandbox: Arguments before the program's, such as `["bwrap", "--unshare-all", "--ro-bind", "/", "/"]` or
            `["docker", "run", "--rm", "--init", "python:3.12"]`.
        cwd: The folder to run in; the worker's own when None.
        env_pass: Variables of the worker's environment that the program gets, beside PATH, HOME, LANG and TMPDIR.
        timeout: After which the program and its process group are killed.
        max_output_bytes: Kept of each stream: the beginning and the end.
        needs_approval: As in `@tool`.
        idempotent: Running a call twice does no more than running it once.
        read_only: No program of the list changes anything.

    Raises:
        InvalidToolError: An option can't be used. Not retryable.
    """
    for option, value in (("commands", commands), ("sandbox", sandbox), ("env_pass", env_pass)):
        if isinstance(value, str):
            raise InvalidToolError(f"shell_tool: {option} is a list, not the text {value!r}.")
    if not commands or not all(each and "\0" not in each for each in (*commands, *sandbox, *env_pass)):
        raise InvalidToolError("shell_tool: list the programs that may be run; nothing is allowed by default.")
    if timeout <= timedelta(0):
        raise InvalidToolError("shell_tool: timeout must be positive.")
    if not 1 <= max_output_bytes <= _LARGEST_OUTPUT:
        raise InvalidToolError(f"shell_tool: max_output_bytes is from 1 to {_LARGEST_OUTPUT:,}.")
    spec = ToolSpec(
        name=name,
        description=description or _DESCRIPTION.format(commands=", ".join(commands)),
        parameters=_parameters(tuple(commands)),
        idempotent=idempotent,
        read_only=read_only,
        timeout=timeout + _MARGIN,
        max_attempts=1,
        max_result_bytes=2 * max_output_bytes + 4096,
        needs_approval=bool(needs_approval),
        approval_policy=policy_name(needs_approval),
    )
    run = _Run(
        sandbox=tuple(sandbox),
        cwd=cwd,
        env_pass=tuple(env_pass),
        total_seconds=timeout.total_seconds(),
        max_output_bytes=max_output_bytes,
    )
    return SchemaTool(run, spec, policy=None if isinstance(needs_approval, bool) else needs_approval)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How a program is run. Compared by value, so that two agents may have the same tool."""

    sandbox: tuple[str, ...]
    cwd: str | None
    env_pass: tuple[str, ...]
    total_seconds: float
    max_output_bytes: int

    async def __call__(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Run a program."""
        from perdure.tools._process import run_program

        return await run_program(
            [*self.sandbox, arguments["command"], *arguments.get("arguments", ())],
            cwd=self.cwd,
            env_pass=self.env_pass,
            total_seconds=self.total_seconds,
            max_output_bytes=self.max_output_bytes,
        )


def _parameters(commands: tuple[str, ...]) -> JsonSchema:
    return {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": list(commands), "description": "The program."},
            "arguments": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Its arguments, one by one, without quotes.",
            },
        },
        "required": ["command"],
        "additionalProperties": False,
    }
