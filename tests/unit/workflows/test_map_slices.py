"""How items are cut into slices: each once, in order, by count and bytes, for a window that is never exceeded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.contracts.map import MAX_MAP_ITEMS, MapInput
from perdure.errors import PayloadTooLargeError
from perdure.workflows._map_slices import MAX_LANES, MAX_SLICE_BYTES, Slices, lane_windows
from perdure.workflows.mapping import item_sizes

counts = st.integers(1, MAX_MAP_ITEMS)
windows = st.integers(1, 2_000)


def cut(sizes: list[int], max_parallel: int) -> list[tuple[int, int]]:
    """Cut everything, the lanes taking turns."""
    lanes = lane_windows(len(sizes), max_parallel)
    slices = Slices(sizes, len(lanes))
    cut: list[tuple[int, int]] = []
    while (bounds := slices.take(lanes[len(cut) % len(lanes)])) is not None:
        cut.append(bounds)
    return cut


@given(counts, windows)
def test_the_windows_of_the_lanes_are_the_whole_window(count: int, max_parallel: int) -> None:
    lanes = lane_windows(count, max_parallel)
    assert sum(lanes) == max_parallel
    assert 1 <= len(lanes) <= MAX_LANES
    assert max(lanes) - min(lanes) <= 1
    assert min(lanes) >= 1


@given(counts, windows)
def test_every_item_is_in_one_slice(count: int, max_parallel: int) -> None:
    bounds = cut([10] * count, max_parallel)
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == count
    assert all(1 <= stop - start <= 200 for start, stop in bounds)


@given(counts, windows)
def test_a_node_has_at_most_200_children(count: int, max_parallel: int) -> None:
    assert len(cut([10] * count, max_parallel)) <= 200


@given(counts, windows)
def test_the_first_slices_fill_the_window(count: int, max_parallel: int) -> None:
    lanes = lane_windows(count, max_parallel)
    first = cut([10] * count, max_parallel)[: len(lanes)]
    at_work = sum(min(window, stop - start) for window, (start, stop) in zip(lanes, first, strict=False))
    assert at_work >= 0.7 * min(count, max_parallel, 200 * MAX_LANES)


@given(st.lists(st.integers(1, 2 * MAX_SLICE_BYTES), min_size=1, max_size=300), windows)
def test_a_slice_of_several_items_is_small(sizes: list[int], max_parallel: int) -> None:
    for start, stop in cut(sizes, max_parallel):
        assert stop - start == 1 or sum(sizes[start:stop]) <= MAX_SLICE_BYTES


@given(st.integers(1, 500), windows, st.data())
def test_what_is_given_back_is_cut_again(count: int, max_parallel: int, data: st.DataObject) -> None:
    lanes = lane_windows(count, max_parallel)
    slices = Slices([10] * count, len(lanes))
    done: list[int] = []
    while (bounds := slices.take(lanes[0])) is not None:
        start, stop = bounds
        reached = data.draw(st.integers(start + 1, stop))
        slices.give_back(reached, stop)
        done.extend(range(start, reached))
    assert sorted(done) == list(range(count))
    assert slices.left == 0


def test_slices_get_smaller_towards_the_end() -> None:
    lengths = [stop - start for start, stop in cut([10] * 10_000, 50)]
    assert lengths[0] == 200
    assert max(lengths[-16:]) <= 15


def test_an_item_is_measured_with_the_context_that_its_run_is_given() -> None:
    request = MapInput(agent="a", items=("small", "x" * 800_000))
    assert item_sizes(request) == [7, 800_002]
    with pytest.raises(PayloadTooLargeError, match=r"Item 1 takes 800002 bytes with the 800008 of the context"):
        item_sizes(request.model_copy(update={"context": {"k": "y" * 800_000}}))
