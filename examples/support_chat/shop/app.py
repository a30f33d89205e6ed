"""The agent that customers talk with, and its tools.

SHOP_MODEL chooses the model, with its vendor's key in the environment. Without it, `clerk:script` plays the agent
by the rules of `script.py`, which needs neither key nor network.
"""

import os
from datetime import timedelta

from perdure import Agent, App, ApprovalCall, ApprovalRule, ToolContext, ToolRetry, tool
from perdure.testing import ScriptedModel
from shop.orders import ORDERS, add_refund
from shop.script import reply

SMALL_USD = 5.0


@tool(idempotent=True, read_only=True)
def find_order(number: int) -> dict[str, object]:
    """Look an order up.

    Args:
        number: Of the order, as in the customer's letter.
    """
    order = ORDERS.get(number)
    if order is None:
        raise ToolRetry(f"There is no order {number}: ask the customer for the number again.")
    return {"number": order.number, "item": order.item, "price_usd": order.price_usd, "state": order.state}


def needs_a_person(call: ApprovalCall) -> ApprovalRule | bool:
    """Let small amounts pass; of others ask the group `support`, for at most two days."""
    if call.arguments["amount_usd"] <= SMALL_USD:
        return False
    return ApprovalRule(group="support", deadline=timedelta(days=2))


@tool(idempotent=True, needs_approval=needs_a_person)
def refund(number: int, amount_usd: float, reason: str, context: ToolContext) -> str:
    """Pay money of an order back; the same call again pays nothing more.

    Args:
        number: Of the order.
        amount_usd: US dollars, at most the price of the order.
        reason: In the customer's words.
        context: Of the call; a model doesn't see it.
    """
    order = ORDERS.get(number)
    if order is None or not 0 < amount_usd <= order.price_usd:
        raise ToolRetry("Look the order up first: the amount is at most its price.")
    total = add_refund(context.idempotency_key, number, amount_usd)
    return f"Refunded ${amount_usd:.2f} of order {number}, ${total:.2f} in all."


support = Agent(
    "support",
    description="Answers customers, looks their orders up, and asks for refunds.",
    instructions="Answer the customers of a shop in a sentence or two. Look an order up before you speak of it. "
    "Ask for a refund where goods came broken or not at all; if it is denied, tell the customer the reason.",
    model=os.environ.get("SHOP_MODEL") or "clerk:script",
    tools=[find_order, refund],
)

app = App(agents=[support], providers=[ScriptedModel(reply, name="clerk")])
