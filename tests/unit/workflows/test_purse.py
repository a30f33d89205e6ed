"""Trees of purses, simulated: what is billed never exceeds the root's limit, and most of the limit can be used."""

import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from perdure.contracts.budget import NOTHING, Amount, Budget, LeaseAnswer, LeaseReport, Ledger
from perdure.contracts.usage import Price
from perdure.workflows._leases import Need, share_of, whole_of
from perdure.workflows._ledger import Hold, reserve, settle, worst_case
from perdure.workflows._purse import Purse

PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(4))
PROMPT, OUTPUT = 1000, 1000
WORST = worst_case(PRICE, PROMPT, OUTPUT)
ROUNDING = Decimal("1e-20")
"""Equal shares are rounded in the 28th digit."""


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
    keeps: bool = False
    """It makes a last call when it is denied another."""
    has_called: bool = False
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
        keepers: float = 0,
    ):
        self.random = random.Random(seed)
        self.denials = 0
        self.keepers = keepers
        self.last_calls: list[bool] = []
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
            child.keeps = self.random.random() < self.keepers
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
            self._deny(node)
            return
        node.is_asking = False
        kept = node.purse.kept = WORST if node.keeps else NOTHING
        if node.purse.left.holds(WORST + kept):
            self._reserve(node)
        elif node.purse.ledger.lease is None:
            self._deny(node)
        else:
            node.is_asking = True
            node.purse.ask(Need(WORST + kept, WORST + kept, self.random.random() < self.patience))

    def _reserve(self, node: Node) -> None:
        found = reserve(node.purse.ledger, Budget(), PRICE, prompt=PROMPT, output=OUTPUT)
        assert found is not None
        node.purse.ledger, node.hold = found
        node.has_called = True

    def _deny(self, node: Node) -> None:
        """Go no further, after a last call if it keeps room for one; it has room if it ever made a call."""
        node.is_denied, node.is_asking = True, False
        if node.keeps:
            node.keeps, node.purse.kept = False, NOTHING
            has_room = whole_of(node.purse.left).cost_usd >= WORST.cost_usd - ROUNDING
            self.last_calls += [has_room] if node.has_called else []
            if has_room:
                self._reserve(node)

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
        node.is_open, node.purse.kept = False, NOTHING
        if node.parent is not None:
            crashed = self.faults and self.random.random() < 0.05
            node.parent.purse.close(node.name, None if crashed else node.purse.ledger.spent)
            self._post(node.parent)

    def _post(self, node: Node) -> None:
        if node is self.root:
            assert self.limit.holds(node.purse.taken), "more is lent than there is"
        for to, letter in node.purse.outbox:
            self.mail.setdefault((node.name, to), []).append(letter)
            if isinstance(letter, LeaseAnswer) and letter.is_denied:
                self._check_denial(node)
        node.purse.outbox.clear()

    def _check_denial(self, node: Node) -> None:
        """Nobody below the run that denies holds more than one call that it doesn't make."""
        self.denials += 1
        below = [each for each in self.nodes.values() if each.is_open and each.name.startswith(f"{node.name}/")]
        for each in below:
            unused = whole_of(each.purse.left)
            assert unused.cost_usd <= WORST.cost_usd + ROUNDING, (each.name, unused)
            assert unused.model_calls <= WORST.model_calls, (each.name, unused)

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
    denials = 0
    for seed in range(first, first + 100):
        chance = random.Random(seed)
        limit = limit_of(chance.choice([0.02, 0.3, 1, 3]), 12)
        keepers = chance.choice([0, 0, 0.5, 1])
        tree = Tree(
            seed,
            limit=limit,
            children=chance.randint(1, 12),
            calls=5,
            depth=chance.choice([1, 1, 2]),
            keepers=keepers,
        )
        tree.run()
        assert limit.holds(tree.billed), seed
        assert limit.holds(tree.root.purse.ledger.spent), seed
        denials += tree.denials
    assert denials > 100


@pytest.mark.parametrize(("factor", "least"), [(20, 0.9), (2, 0.6)])
def test_most_of_a_limit_can_be_used(factor: float, least: float) -> None:
    limit = limit_of(factor)
    tree = Tree(1, limit=limit, children=50, calls=10_000, faults=False)
    tree.run()
    assert limit.cost_usd is not None
    assert least * float(limit.cost_usd) <= float(tree.billed.cost_usd) <= float(limit.cost_usd)
    assert tree.denials


@pytest.mark.parametrize("depth", [1, 2])
def test_all_calls_of_a_limit_of_calls_can_be_made(depth: int) -> None:
    for seed in range(20):
        limit = Budget(model_calls=20)
        tree = Tree(seed, limit=limit, children=6, calls=10, depth=depth, faults=False)
        tree.run()
        assert tree.calls == tree.billed.model_calls == 20, seed
        assert tree.denials, seed


def test_who_has_made_a_call_has_room_for_a_last_one() -> None:
    for seed in range(40):
        tree = Tree(seed, limit=limit_of(4, 6), children=6, calls=50, depth=seed % 2 + 1, keepers=1, faults=False)
        tree.run()
        assert tree.last_calls, seed
        assert all(tree.last_calls), seed


def test_a_deadline_is_told_below_and_an_older_one_that_comes_late_changes_nothing() -> None:
    first, later, last = (datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (1, 2, 3))
    root = Purse(Ledger(budget=Budget(tokens=100), deadline=first), name="root")
    child = Purse(Ledger(lease=root.lend("child", Amount(tokens=60))), name="child")
    assert child.ledger.ends_at == first
    root.set_deadline(later)
    assert root.outbox == [], "the child can't be written to yet"
    root.tell_started("child")
    root.set_deadline(last)
    ((_, one), (_, two)) = root.outbox
    below = child.lend("below", NOTHING)
    child.tell_started("below")
    assert below.deadline == first
    for answer in (two, one, two):
        assert isinstance(answer, LeaseAnswer)
        child.on_answer(answer)
    assert child.ledger.ends_at == last
    ((_, told),) = [each for each in child.outbox if isinstance(each[1], LeaseAnswer)]
    assert isinstance(told, LeaseAnswer)
    assert (told.deadline, told.deadlines) == (last, 1)


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


def test_who_reports_before_a_grant_has_come_is_not_taken_for_one_that_has_nothing() -> None:
    """What is on its way will be used, or come back: nobody is denied meanwhile, and nothing is granted twice."""
    root = Purse(Ledger(budget=Budget(tokens=100)), name="root")
    for child in ("one", "two"):
        root.lend(child, NOTHING)
        root.tell_started(child)
    need = Amount(tokens=30)
    root.on_report(LeaseReport(child="one", seq=1, need=need, granted=NOTHING))
    ((_, grant),) = root.outbox
    assert isinstance(grant, LeaseAnswer)
    lent, root.outbox = root.free, []
    root.on_report(LeaseReport(child="one", seq=2, need=need, granted=NOTHING))
    assert root.free == lent
    root.on_report(LeaseReport(child="two", seq=1, need=Amount(tokens=90), granted=NOTHING))
    assert not any(isinstance(each, LeaseAnswer) and each.is_denied for _, each in root.outbox)
    root.on_report(LeaseReport(child="one", seq=3, returned=grant.granted, granted=grant.granted))
    assert [to for to, each in root.outbox if isinstance(each, LeaseAnswer) and each.granted.tokens >= 90] == [
        "two"
    ]


def test_a_report_that_comes_twice_or_late_changes_nothing() -> None:
    purse = Purse(Ledger(budget=Budget(tokens=100)), name="root")
    purse.lend("child", Amount(tokens=60))
    purse.on_report(LeaseReport(child="child", seq=2, returned=Amount(tokens=50)))
    purse.on_report(LeaseReport(child="child", seq=2, returned=Amount(tokens=50)))
    purse.on_report(LeaseReport(child="child", seq=1, returned=Amount(tokens=10)))
    assert purse.free == Budget(tokens=90)
