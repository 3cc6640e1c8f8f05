"""The model of CUDA's caching allocator on traces small enough to work out by hand."""

from __future__ import annotations

import random

import pytest

from engine.memory.allocator import CachingAllocator, Event, OutOfMemoryError, minimum_capacity, replay, rounded
from engine.memory.shape import MIB


def test_sizes_are_rounded_to_blocks() -> None:
    assert [rounded(size) for size in (1, 512, 513, 0)] == [512, 512, 1024, 512]


@pytest.mark.parametrize(
    ("size", "reserved"), [(1, 2), (MIB, 2), (MIB + 1, 20), (10 * MIB - 1024, 20), (10 * MIB, 10), (11 * MIB + 1, 12)]
)
def test_segments_of_the_default_policy(size: int, reserved: int) -> None:
    assert replay([(1, size)]).reserved_bytes == reserved * MIB


def test_small_blocks_share_a_segment_and_large_ones_another() -> None:
    found = replay([(1, 512 * 1024), (2, 512 * 1024), (3, 512 * 1024), (4, 512 * 1024), (5, 5 * MIB), (6, 15 * MIB)])
    assert found.reserved_bytes == (2 + 20) * MIB


def test_the_smallest_fitting_hole_is_taken_and_neighbours_merge() -> None:
    allocator = CachingAllocator()
    for identity, size in ((1, 20 * MIB), (2, 40 * MIB)):
        allocator.malloc(identity, size)
    allocator.free(1)
    allocator.free(2)
    allocator.malloc(3, 20 * MIB)
    allocator.malloc(4, 36 * MIB)
    assert allocator.reserved_bytes == 60 * MIB, "20 into 20, 36 into 40"
    allocator.free(4)
    allocator.malloc(5, 40 * MIB)
    assert allocator.reserved_bytes == 60 * MIB, "the rest of 4 MiB is joined again"


def test_fragments_make_the_default_policy_reserve_more_than_the_expandable_one() -> None:
    trace: list[Event] = [(1, 100 * MIB), (-1, 0), (2, 120 * MIB), (-2, 0), (3, 140 * MIB)]
    assert replay(trace).peak_reserved_bytes == 360 * MIB
    assert replay(trace, expandable=True).peak_reserved_bytes == 140 * MIB


def test_expandable_segments_grow_in_pages_and_use_what_is_free_at_their_end() -> None:
    allocator = CachingAllocator(expandable=True)
    allocator.malloc(1, 30 * MIB)
    assert allocator.reserved_bytes == 40 * MIB
    allocator.malloc(2, 15 * MIB)
    assert allocator.reserved_bytes == 60 * MIB, "10 MiB were left at the end"
    allocator.free(1)
    allocator.malloc(3, 40 * MIB)
    assert allocator.reserved_bytes == 100 * MIB, "30 MiB before the used block do not fit 40"


def test_at_its_capacity_the_allocator_gives_back_what_is_free_and_tries_again() -> None:
    trace: list[Event] = [(1, 100 * MIB), (-1, 0), (2, 120 * MIB)]
    found = replay(trace, capacity_bytes=120 * MIB)
    assert found.retries == 1
    assert found.reserved_bytes == 120 * MIB
    with pytest.raises(OutOfMemoryError):
        replay(trace, capacity_bytes=118 * MIB)


def test_expandable_segments_unmap_holes_when_memory_is_short() -> None:
    trace: list[Event] = [(1, 100 * MIB), (2, 20 * MIB), (-1, 0), (3, 140 * MIB)]
    assert replay(trace, expandable=True).peak_reserved_bytes == 260 * MIB
    found = replay(trace, expandable=True, capacity_bytes=170 * MIB)
    assert found.retries == 1
    assert found.reserved_bytes <= 170 * MIB


@pytest.mark.parametrize("expandable", [False, True])
def test_random_traces_keep_the_books(expandable: bool) -> None:
    chance = random.Random(7)
    trace: list[Event] = []
    live: dict[int, int] = {}
    peak = 0
    for identity in range(1, 3000):
        size = chance.choice((700, 40_000, 3 * MIB, 17 * MIB, 90 * MIB))
        trace.append((identity, size))
        live[identity] = rounded(size)
        peak = max(peak, sum(live.values()))
        while live and chance.random() < 0.5:
            gone = chance.choice(list(live))
            del live[gone]
            trace.append((-gone, 0))
    trace += [(-identity, 0) for identity in live]
    found = replay(trace, expandable=expandable)
    assert found.allocated_bytes == 0
    assert peak <= found.peak_allocated_bytes <= found.peak_reserved_bytes
    assert found.peak_allocated_bytes <= peak * 1.02, "a block is handed out whole only when little is left of it"
    found.empty_cache()
    assert found.reserved_bytes == 0, "everything merged back into whole segments"
    needed = minimum_capacity(trace, expandable=expandable)
    assert peak <= needed <= found.peak_reserved_bytes
    replay(trace, expandable=expandable, capacity_bytes=needed)
