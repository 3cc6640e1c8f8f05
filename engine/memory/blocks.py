"""Blocks and pools of the allocator model in `allocator.py`, which alone uses them. Torch-free."""

from __future__ import annotations

from bisect import bisect_left, insort

from engine.memory.shape import MIB

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
