"""A model of CUDA's caching allocator: replays allocations and frees, tells what would be reserved.

Follows c10/cuda/CUDACachingAllocator.cpp (torch 2.11 to 2.13) for one stream: 512-byte rounding, pools for
small (up to 1 MiB) and large blocks, best fit, splitting, merging with free neighbours, and, when a
capacity is given, releasing what is wholly free before giving up. `expandable` models the option
`expandable_segments:True`, which the engine's launcher sets: one growing segment a pool. Blocks of one size go by
their address, and the driver puts each new segment below those before it (its source is closed: 18 of 20 published
16-bit runs come out within 2 MiB that way, 12 the other way round). Not here: where traces come from
(`engine.oracle`). Torch-free.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from engine.memory.shape import MIB

Event = tuple[int, int]
"""`(id, size in bytes)` allocates, `(-id, 0)` frees; ids are above 0 and used once."""

ROUND_BYTES = 512
SMALL_BYTES = MIB
HUGE_STEP_BYTES = 2 * MIB
_HUGE_FROM_BYTES = 10 * MIB
_ENDLESS_BYTES = 1 << 62


class OutOfMemoryError(Exception):
    """The capacity is not enough for this trace."""


class CachingAllocator:
    """One device's allocator. `capacity_bytes` 0 = endless; raises OutOfMemoryError beyond it."""

    def __init__(self, *, expandable: bool = False, capacity_bytes: int = 0) -> None:
        self.expandable, self.capacity_bytes = expandable, capacity_bytes
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self.allocated_bytes = self.peak_allocated_bytes = 0
        self.retries = 0
        self._small, self._large = Pool(True), Pool(False)
        self._used: dict[int, Block] = {}
        self._next_address, self._lowest_address = 0, _ENDLESS_BYTES

    def malloc(self, identity: int, size_bytes: int) -> None:
        """Hand out `size_bytes` under a new `identity`."""
        size = rounded(size_bytes)
        pool = self._small if size <= SMALL_BYTES else self._large
        block = pool.best(size)
        if block is not None:
            pool.drop(block)
        else:
            block = self._grow(pool, size)
        self._split(block, size)
        block.used = True
        self._used[identity] = block
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)

    def free(self, identity: int) -> None:
        """Take back what was handed out under `identity`."""
        block = self._used.pop(identity)
        block.used = False
        self.allocated_bytes -= block.size
        self._release(block)

    def reset_peaks(self) -> None:
        """Peaks start again from what is held now."""
        self.peak_allocated_bytes, self.peak_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def empty_cache(self) -> None:
        """Give wholly free memory back, as the allocator does before it fails."""
        for pool in (self._small, self._large):
            for block in list(pool.blocks.values()):
                if self.expandable:
                    self._unmap(block)
                elif block.previous is None and block.next is None:
                    pool.drop(block)
                    self.reserved_bytes -= block.size

    # growing ----------------------------------------------------------------------------------------

    def _grow(self, pool: Pool, size: int) -> Block:
        grow = self._grow_expandable if self.expandable else self._new_segment
        try:
            return grow(pool, size)
        except OutOfMemoryError:
            self.retries += 1
            self.empty_cache()
            return grow(pool, size)

    def _reserve(self, size: int) -> None:
        if self.capacity_bytes and self.reserved_bytes + size > self.capacity_bytes:
            raise OutOfMemoryError(f"{self.reserved_bytes} + {size} bytes of {self.capacity_bytes}")
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def _new_segment(self, pool: Pool, size: int) -> Block:
        segment = _segment_bytes(size)
        self._reserve(segment)
        self._lowest_address -= segment + _HUGE_FROM_BYTES
        return Block(self._lowest_address, segment, pool)

    def _grow_expandable(self, pool: Pool, size: int) -> Block:
        block = self._candidate(pool, size)
        if block.mapped:
            pool.drop(block)
        else:
            block = self._map(block, size)
        try:
            while block.size < size:
                self._take_following(block, size - block.size)
        except OutOfMemoryError:
            pool.put(block)
            raise
        return block

    def _take_following(self, block: Block, missing: int) -> None:
        following = block.next
        assert following is not None
        if following.mapped:
            block.pool.drop(following)
        else:
            self._map(following, missing)
        self._join(block, following)

    def _candidate(self, pool: Pool, size: int) -> Block:
        for block in pool.unmapped:
            before = block.previous
            first = before if before is not None and not before.used else block
            room, at = 0, first
            while room < size and at is not None and not at.used:
                room += at.size
                at = at.next  # type: ignore[assignment]
            if room >= size:
                return first
        tail = Block(self._next_address, _ENDLESS_BYTES, pool, mapped=False)
        self._next_address += 2 * _ENDLESS_BYTES
        pool.unmapped.append(tail)
        return tail

    def _map(self, block: Block, size: int) -> Block:
        """Back the start of an unmapped block with memory, in whole pages."""
        pages = -(-size // block.pool.segment_bytes) * block.pool.segment_bytes
        pages = min(pages, block.size)
        self._reserve(pages)
        block.pool.unmapped.remove(block)
        if pages < block.size:
            rest = self._cut(block, pages)
            rest.mapped = False
            block.pool.unmapped.append(rest)
            block.pool.unmapped.sort(key=lambda each: (each.size, each.address))
        block.mapped = True
        return block

    def _unmap(self, block: Block) -> None:
        pool, page = block.pool, block.pool.segment_bytes
        start = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if end <= start:
            return
        pool.drop(block)
        middle = block
        if start > block.address:
            middle = self._cut(block, start - block.address)
            pool.put(block)
        if end < middle.address + middle.size:
            pool.put(self._cut(middle, end - middle.address))
        middle.mapped = False
        self.reserved_bytes -= middle.size
        for neighbour in (middle.next, middle.previous):
            if neighbour is not None and not neighbour.mapped:
                pool.unmapped.remove(neighbour)
                if neighbour is middle.next:
                    self._join(middle, neighbour)
                else:
                    self._join(neighbour, middle)
                    middle = neighbour
        pool.unmapped.append(middle)
        pool.unmapped.sort(key=lambda each: (each.size, each.address))

    # blocks -----------------------------------------------------------------------------------------

    def _split(self, block: Block, size: int) -> None:
        rest = block.size - size
        if rest >= ROUND_BYTES if block.pool.small or self.expandable else rest > SMALL_BYTES:
            block.pool.put(self._cut(block, size))

    def _cut(self, block: Block, size: int) -> Block:
        """Shorten `block` to `size`; the rest is a new block behind it."""
        rest = Block(block.address + size, block.size - size, block.pool, block.mapped)
        rest.previous, rest.next = block, block.next
        if block.next is not None:
            block.next.previous = rest
        block.next, block.size = rest, size
        return rest

    def _join(self, block: Block, following: Block) -> None:
        block.size += following.size
        block.next = following.next
        if following.next is not None:
            following.next.previous = block

    def _release(self, block: Block) -> None:
        following, before = block.next, block.previous
        if following is not None and following.mapped and not following.used:
            block.pool.drop(following)
            self._join(block, following)
        if before is not None and before.mapped and not before.used:
            block.pool.drop(before)
            self._join(before, block)
            block = before
        block.pool.put(block)


def rounded(size_bytes: int) -> int:
    """`size_bytes` as the allocator hands it out."""
    return max(ROUND_BYTES, -(-size_bytes // ROUND_BYTES) * ROUND_BYTES)


def _segment_bytes(size: int) -> int:
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < _HUGE_FROM_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // HUGE_STEP_BYTES) * HUGE_STEP_BYTES


def replay(trace: Iterable[Event], *, expandable: bool = False, capacity_bytes: int = 0) -> CachingAllocator:
    """The allocator after `trace`. Raises OutOfMemoryError where `capacity_bytes` is not enough."""
    allocator = CachingAllocator(expandable=expandable, capacity_bytes=capacity_bytes)
    for identity, size in trace:
        if identity > 0:
            allocator.malloc(identity, size)
        else:
            allocator.free(-identity)
    return allocator


def minimum_capacity(trace: Sequence[Event], *, expandable: bool = False, step_bytes: int = 32 * MIB) -> int:
    """Smallest device memory, to `step_bytes`, that the trace survives with the allocator's own retry."""
    whole = replay(trace, expandable=expandable)
    low, high = whole.peak_allocated_bytes, whole.peak_reserved_bytes
    while high - low > step_bytes:
        middle = (low + high) // 2
        try:
            replay(trace, expandable=expandable, capacity_bytes=middle)
            high = middle
        except OutOfMemoryError:
            low = middle
    return high


SMALL_SEGMENT_BYTES, LARGE_SEGMENT_BYTES = 2 * MIB, 20 * MIB


class Block:
    """A range of one segment: used, free or (expandable segments only) not mapped to memory."""

    __slots__ = ("address", "mapped", "next", "pool", "previous", "size", "used")

    def __init__(self, address: int, size: int, pool: Pool, mapped: bool = True) -> None:
        self.address, self.size, self.pool, self.mapped, self.used = address, size, pool, mapped, False
        self.previous: Block | None = None
        self.next: Block | None = None


class Pool:
    """Free blocks of one kind, in order of size and address."""

    __slots__ = ("blocks", "keys", "segment_bytes", "small", "unmapped")

    def __init__(self, small: bool) -> None:
        self.small = small
        self.segment_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self.keys: list[tuple[int, int]] = []
        self.blocks: dict[int, Block] = {}
        self.unmapped: list[Block] = []

    def put(self, block: Block) -> None:
        """Take in a free block."""
        insort(self.keys, (block.size, block.address))
        self.blocks[block.address] = block

    def drop(self, block: Block) -> None:
        """Take a block out."""
        del self.keys[bisect_left(self.keys, (block.size, block.address))]
        del self.blocks[block.address]

    def best(self, size: int) -> Block | None:
        """The smallest free block of at least `size`; one that could still grow comes last."""
        for index in range(bisect_left(self.keys, (size, -1)), len(self.keys)):
            block = self.blocks[self.keys[index][1]]
            if block.next is None or block.next.mapped or index + 1 == len(self.keys):
                return block
        return None
