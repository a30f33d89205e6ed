"""What came with perdure: an agent, and its App.

SHOP_MODEL chooses the model, with its vendor's key in the environment. Without it, `offline:reader` answers by
rules, which needs neither key nor network.
"""

import os

from perdure import Agent, App, tool

TERMS = """Refunds are paid within fourteen days.
A refund over one hundred euros is looked at by a person.
Parcels that were opened can be sent back."""


@tool(idempotent=True, read_only=True)
def search_terms(query: str) -> str:
    """Search the shop's terms; every line with one of the words comes back as `path:line: text`.

    Args:
        query: Words to look for, separated by spaces.
    """
    words = set(query.lower().split())
    lines = enumerate(TERMS.splitlines(), start=1)
    return "\n".join(f"terms:{number}: {line}" for number, line in lines if words & set(line.lower().split()))


clerk = Agent(
    "clerk",
    description="Knows the terms of the shop.",
    instructions="Answer from the terms alone.",
    model=os.environ.get("SHOP_MODEL") or "offline:reader",
    tools=[search_terms],
)
app = App(agents=[clerk])
