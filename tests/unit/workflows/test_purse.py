"""Trees of purses, simulated: what is billed never exceeds the root's limit, and most of the limit can be used."""

import os
import random
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from perdure.contracts.budget import NOTHING, Amount, Budget, LeaseReport, Ledger
from perdure.contracts.usage import Price
from perdure.workflows._leases import Need, share_of
from perdure.workflows._ledger import Hold, reserve, settle, worst_case
from perdure.workflows._purse import Purse

PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(4))
PROMPT, OUTPUT = 1000, 1000
WORST = worst_case(PRICE, PROMPT, OUTPUT)


@dataclass(eq=False)
class Node:
    """A run: makes calls until it has made enough, or is denied; an inner one waits for its children."""

    name: str
    purse: Purse
    parent: "Node | None" = None
    calls_left: int = 0
    hold: Hold | None = None
    is_asking: bool = False
    is_denied: bool = False
    children: "list[Node]" = field(default_factory=list["Node"])
    is_open: bool = True


class Tree:
    """A tree of runs, in which things happen in random order."""

    def __init__(
        self,
        seed: int,
        *,
        limit: Budget,
        children: int,
        calls: int,
        depth: int = 1,
        faults: bool = True,
        patience: float = 0,
    ):
        self.random = random.Random(seed)
        self.faults = faults
        self.billed = NOTHING
        self.delivered = 0
        self.calls = 0
        self.patience = patience
        self.nodes: dict[str, Node] = {}
        self.mail: dict[tuple[str, str], list[object]] = {}
        self.limit = limit
        self.root = self._add("root", Ledger(budget=limit), None, 0)
        self._grow(self.root, children, calls, depth)

    def _add(self, name: str, ledger: Ledger, parent: Node | None, calls: int) -> Node:
        node = Node(name, Purse(ledger, name=name), parent, calls)
        self.nodes[name] = node
        return node

    def _grow(self, node: Node, children: int, calls: int, depth: int) -> None:
        for number in range(children):
            name = f"{node.name}/{number}"
            lease = node.purse.lend(name, share_of(node.purse.free, children - number + 1))
            child = self._add(name, Ledger(lease=lease), node, 0 if depth > 1 else calls)
            node.purse.book.started(name)
            node.children.append(child)
            if depth > 1:
                self._grow(child, 3, calls, depth - 1)

    def run(self) -> None:
        for _ in range(200_000):
            letters = [key for key, queue in self.mail.items() if queue]
            if letters and self.random.random() < 0.6:
                self._deliver(self.random.choice(letters))
                continue
            steps = [node for node in self.nodes.values() if node.is_open and self._can_step(node)]
            if steps:
                self._step(self.random.choice(steps))
            elif letters:
                self._deliver(self.random.choice(letters))
            else:
                break
        if not self.patience:
            assert not any(node.is_open for node in self.nodes.values()), "a run waits for ever"

    def raise_to(self, limit: Budget) -> None:
        self.limit = limit
        self.root.purse.ledger = self.root.purse.ledger.model_copy(update={"budget": limit})
        self.root.purse.rebalance()
        self._post(self.root)

    def _can_step(self, node: Node) -> bool:
        return not (node.is_asking and node.purse.is_waiting) and not any(each.is_open for each in node.children)

    def _step(self, node: Node) -> None:
        if node.hold is not None:
            self._end_call(node)
        elif node.calls_left and not node.is_denied:
            self._begin_call(node)
        else:
            self._close(node)
        self._post(node)

    def _begin_call(self, node: Node) -> None:
        if node.is_asking and not node.purse.take_held():
            node.is_denied, node.is_asking = True, False
            return
        node.is_asking = False
        found = reserve(node.purse.ledger, Budget(), PRICE, prompt=PROMPT, output=OUTPUT)
        if node.purse.free.holds(WORST):
            assert found is not None
            node.purse.ledger, node.hold = found
        elif node.purse.ledger.lease is None:
            node.is_denied = True
        else:
            node.is_asking = True
            node.purse.ask(Need(WORST, WORST, self.random.random() < self.patience))

    def _end_call(self, node: Node) -> None:
        assert node.hold is not None
        end = self.random.choice(["ok", "ok", "ok", "free", "lost"]) if self.faults else "ok"
        actual = worst_case(PRICE, self.random.randint(1, PROMPT), self.random.randint(1, OUTPUT))
        self.billed += NOTHING if end == "free" else actual
        used = {"ok": actual, "free": NOTHING, "lost": node.hold.amount}[end]
        node.purse.ledger = settle(node.purse.ledger, node.hold, used)
        self.calls += 1
        node.hold, node.calls_left = None, node.calls_left - (end != "free")
        node.purse.rebalance()

    def _close(self, node: Node) -> None:
        node.is_open = False
        if node.parent is not None:
            crashed = self.faults and self.random.random() < 0.05
            node.parent.purse.close(node.name, None if crashed else node.purse.ledger.spent)
            self._post(node.parent)

    def _post(self, node: Node) -> None:
        if node is self.root:
            assert self.limit.holds(node.purse.taken), "more is lent than there is"
        for to, letter in node.purse.outbox:
            self.mail.setdefault((node.name, to), []).append(letter)
        node.purse.outbox.clear()

    def _deliver(self, key: tuple[str, str]) -> None:
        queue, node = self.mail[key], self.nodes[key[1]]
        letter = queue.pop(self.random.randrange(len(queue)))  # signals may overtake each other
        self.delivered += 1
        if node.is_open:
            if isinstance(letter, LeaseReport):
                node.purse.on_report(letter)
            else:
                node.purse.on_answer(letter)  # type: ignore[arg-type]
            self._post(node)


def test_patient_runs_wait_and_go_on_when_the_root_is_raised() -> None:
    for seed in range(20):
        limit = limit_of(0.7, 6)
        tree = Tree(seed, limit=limit, children=6, calls=5, depth=seed % 2 + 1, faults=False, patience=1)
        tree.run()
        waiting = [node for node in tree.nodes.values() if node.is_open and node.purse.is_waiting]
        assert waiting, seed
        assert limit.holds(tree.billed), seed
        tree.raise_to(limit_of(40, 6))
        tree.run()
        assert not any(node.is_open or node.is_denied for node in tree.nodes.values()), seed


def test_who_is_patient_keeps_nobody_waiting() -> None:
    for seed in range(20):
        tree = Tree(seed, limit=limit_of(1, 6), children=6, calls=5, patience=0.5, faults=False)
        tree.run()
        hurried = [node for node in tree.nodes.values() if node.is_open and not node.purse.is_waiting]
        assert [node.name for node in hurried] in ([], ["root"]), seed


def test_scarcity_costs_few_letters() -> None:
    tree = Tree(1, limit=limit_of(8), children=50, calls=10_000, faults=False)
    tree.run()
    assert tree.calls > 400
    assert tree.delivered < 6 * tree.calls


def limit_of(factor: float, children: int = 50) -> Budget:
    return Budget(cost_usd=WORST.cost_usd * children * Decimal(str(factor)))


TREES = int(os.environ.get("TREES", "200"))
"""How many are simulated: `TREES=1000 pytest tests/unit/workflows/test_purse.py` for the figure of the docs."""


@pytest.mark.parametrize("first", range(0, TREES, 100))
def test_no_tree_is_ever_over(first: int) -> None:
    for seed in range(first, first + 100):
        chance = random.Random(seed)
        limit = limit_of(chance.choice([0.02, 0.3, 1, 3]), 12)
        tree = Tree(seed, limit=limit, children=chance.randint(1, 12), calls=5, depth=chance.choice([1, 1, 2]))
        tree.run()
        assert limit.holds(tree.billed), seed
        assert limit.holds(tree.root.purse.ledger.spent), seed


@pytest.mark.parametrize(("factor", "least"), [(20, 0.9), (2, 0.6)])
def test_most_of_a_limit_can_be_used(factor: float, least: float) -> None:
    limit = limit_of(factor)
    tree = Tree(1, limit=limit, children=50, calls=10_000, faults=False)
    tree.run()
    assert limit.cost_usd is not None
    assert least * float(limit.cost_usd) <= float(tree.billed.cost_usd) <= float(limit.cost_usd)


def test_no_run_is_denied_while_its_siblings_hold_what_they_do_not_use() -> None:
    tree = Tree(3, limit=limit_of(2, 4), children=4, calls=0, faults=False)
    busy = tree.root.children[0]
    busy.calls_left = 5
    for sibling in tree.root.children[1:]:
        sibling.calls_left = 1
    tree.run()
    assert not busy.is_denied


def test_a_child_that_ends_without_a_result_is_wholly_spent() -> None:
    purse = Purse(Ledger(budget=Budget(tokens=100)), name="root")
    purse.lend("child", Amount(tokens=60))
    purse.close("child", None)
    assert purse.ledger.spent == Amount(tokens=60)


def test_a_report_that_comes_twice_or_late_changes_nothing() -> None:
    purse = Purse(Ledger(budget=Budget(tokens=100)), name="root")
    purse.lend("child", Amount(tokens=60))
    purse.on_report(LeaseReport(child="child", seq=2, returned=Amount(tokens=50)))
    purse.on_report(LeaseReport(child="child", seq=2, returned=Amount(tokens=50)))
    purse.on_report(LeaseReport(child="child", seq=1, returned=Amount(tokens=10)))
    assert purse.free == Budget(tokens=90)
