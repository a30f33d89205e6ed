"""An app for tests of the test kit; workers in other processes import it."""

from perdure import Agent, App, Limits, tool
from perdure.testing import ScriptedModel, calls


@tool(idempotent=True)
def look(page: int) -> str:
    """Look at a page."""
    return f"page {page}"


@tool(idempotent=True)
def fetch(page: int) -> str:
    """Get a page, with its key."""
    return f"page {page}, by Bearer abc.def.ghi"


SCRIPT = [
    calls(("look", {"page": 1})),
    calls(("look", {"page": 2}), ("fetch", {"page": 3})),
    "three pages",
]
reader = Agent("reader", model="scripted:x", tools=[look, fetch], instructions="Read.")
app = App(agents=[reader], providers=[ScriptedModel(SCRIPT)])


def changed(**options: object) -> App:
    """Return the app with another reader, whose models and tools are not to be asked."""

    @tool(name="look", idempotent=True)
    def unwanted(page: int) -> str:
        """Look at a page."""
        raise AssertionError("a cassette answers")

    given = {"tools": [unwanted, fetch], "instructions": "Read.", "model": "scripted:x", **options}
    agent = Agent("reader", **given)  # pyright: ignore[reportArgumentType]
    return App(agents=[agent], providers=[ScriptedModel([AssertionError("a cassette answers")])])


FEW = Limits(max_turns=1)
