"""An app whose workflows begin more at once than one workflow task may hold."""

from typing import Any

from temporalio import workflow

from perdure import Agent, App, Limits, tool
from perdure.contracts.map import MapInput
from perdure.contracts.messages import Message
from perdure.contracts.plan import Plan, Task
from perdure.testing import ScriptedModel, calls
from perdure.workflows import call_tool, gather, run_agent, run_plan
from perdure.workflows.mapping import _run_tree, item_sizes

COUNT = 12
KB = 1000


def document(number: int, size: int = 450 * KB) -> str:
    return f"{number} " + "x" * size


def name(text: str) -> str:
    return text.split()[0]


@tool(idempotent=True)
def file(text: str) -> str:
    """File a text."""
    return name(text)


@tool(idempotent=True, local=True)
def page(number: int) -> str:
    """Read a page."""
    return document(number, 250 * KB)


@tool(idempotent=True, local=True, max_result_bytes=1000 * KB)
def book(number: int) -> str:
    """Read a book."""
    return document(number, 900 * KB)


def _reply(request: Any, messages: list[Message]) -> Any:
    """Say what was asked about; where that are tools, call all of them at once first."""
    text = messages[0].text
    if not text.startswith("read "):
        return name(text)
    if len(messages) == 1:
        called, count = text.split()[1:3]
        return calls(*((called, {"number": number}) for number in range(int(count))))
    results = [part for each in messages for part in each.parts if part.kind == "tool_result"]
    return " ".join(name(part.content[0].text) for part in results)  # pyright: ignore[reportAttributeAccessIssue]


@workflow.defn
class AtOnce:
    """Does one of these, all at once."""

    @workflow.run
    async def run(self, what: str) -> list[str]:
        numbers = range(COUNT)
        match what:
            case "runs":
                return await gather(*(run_agent("reader", document(n)) for n in numbers))
            case "inline":
                return await gather(*(run_agent("reader", document(n), inline=True) for n in numbers))
            case "tools":
                texts = (document(n, 1400 * KB) for n in range(4))
                return await gather(*(call_tool("file", {"text": text}) for text in texts))
            case "local":
                pages = await gather(*(call_tool("page", {"number": n}) for n in range(2 * COUNT)))
                return [name(each) for each in pages]
            case "plan":
                tasks = tuple(Task(id=f"t{n}", agent="reader", input=document(n)) for n in numbers)
                return list((await run_plan(Plan(tasks=tasks))).outputs.values())  # pyright: ignore
            case "map":
                context: Any = {"all know": document(0, 900 * KB)}
                items = tuple(f"{n}" for n in numbers)
                request = MapInput(agent="reader", items=(*items, *items), context=context, max_parallel=8)
                return await _run_tree(request, item_sizes(request), f"{workflow.info().workflow_id}/map")
            case _:
                raise ValueError(what)


def _agent(name: str, **options: Any) -> Agent:
    return Agent(name, model="scripted:x", tools=[page, book], **options)


app = App(
    agents=[
        _agent("reader"),
        _agent("wide", limits=Limits(max_parallel_tool_calls=40)),
        _agent("narrow", limits=Limits(max_parallel_tool_calls=1)),
    ],
    tools=[file, page],
    workflows=[AtOnce],
    providers=[ScriptedModel(_reply)],
)
