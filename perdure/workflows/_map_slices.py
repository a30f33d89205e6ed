"""How the items of a map are cut into slices for the nodes of its tree. Workflow side; pure.

The window over the whole tree is dealt to a few lanes; in each lane nodes come one after the other, and each works
with the window of its lane. Slices get smaller towards the end, so that the lanes end together.

What is decided here is in the histories of open maps: a change needs `workflow.patched`.
"""

from collections.abc import Sequence

MAX_LANES = 20
"""Nodes at work at once. Few, since each is a run that has to be served, and shares in a cancellation."""
MAX_SLICE_BYTES = 256_000
_MANY = 4_000
_MANY_SLICES = 700
"""A slice is at least this part of all items: then a node has no more than 200 children."""
_SLICE = 100
_MIN_SLICE = 5


def lane_windows(count: int, max_parallel: int) -> list[int]:
    """Deal `max_parallel` to lanes, as evenly as can be; their sum is at most `max_parallel`."""
    lanes = max(1, min(MAX_LANES, max_parallel, -(-count // _MIN_SLICE)))
    share, rest = divmod(max_parallel, lanes)
    return [share + (lane < rest) for lane in range(lanes)]


class Slices:
    """Cuts a list of items into consecutive slices, on demand."""

    def __init__(self, sizes: Sequence[int], lanes: int) -> None:
        """Cut items of these sizes, in bytes, for so many lanes."""
        self._sizes = sizes
        self._lanes = lanes
        self._ranges = [(0, len(sizes))] if sizes else []

    @property
    def left(self) -> int:
        """Return how many items are in no slice."""
        return sum(stop - start for start, stop in self._ranges)

    def give_back(self, start: int, stop: int) -> None:
        """Take back what a node did not get to; it comes next."""
        if self._ranges and self._ranges[-1][0] == stop:
            stop = self._ranges.pop()[1]
        if start < stop:
            self._ranges.append((start, stop))

    def take(self, window: int) -> tuple[int, int] | None:
        """Return the next slice for a lane, as start and stop; None when no item is left."""
        if not self._ranges:
            return None
        count = self._count(window)
        start, end = self._ranges.pop()
        stop = start + 1
        size = self._sizes[start]
        while stop < min(end, start + count) and size + self._sizes[stop] <= MAX_SLICE_BYTES:
            size += self._sizes[stop]
            stop += 1
        self.give_back(stop, end)
        return start, stop

    def _count(self, window: int) -> int:
        """Return the size of the next slice: a part of what is left, but worth a node."""
        share = -(-self.left // (2 * self._lanes))
        even = -(-len(self._sizes) // self._lanes)
        largest = _SLICE if len(self._sizes) <= _MANY else 2 * _SLICE
        return min(largest, max(share, min(max(2 * window, _MIN_SLICE, len(self._sizes) // _MANY_SLICES), even)))
