"""The orders and refunds of the shop; a real one has a database."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """What a customer bought."""

    number: int
    item: str
    price_usd: float
    state: str


ORDERS = {
    order.number: order
    for order in (
        Order(1001, "a brass compass", 24.0, "delivered on Monday"),
        Order(1002, "an oak sea chest", 310.0, "on its way, with you on Friday"),
    )
}


def refunds() -> dict[str, dict[str, float]]:
    """Return the refunds by the key of the call that made them."""
    path = _path()
    return json.loads(path.read_text()) if path.exists() else {}


def add_refund(key: str, number: int, amount_usd: float) -> float:
    """Add a refund, once for a key, and return what the order has been refunded in all."""
    known = {**refunds(), key: {"order": number, "amount_usd": amount_usd}}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=2))
    return sum(each["amount_usd"] for each in known.values() if each["order"] == number)


def _path() -> Path:
    return Path(os.environ.get("SHOP_REFUNDS", "out/refunds.json"))
