"""Documents of unlike length through the memory-efficient kernel: in runs, with plain products in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.batch import collate
from engine.memory.device import UNEVEN_SHARE
from engine.modeling import attention, attention_operators, forward
from engine.modeling.attention_documents import Documents, runs_of
from engine.modeling.attention_kernels import fused_attention
from engine.modeling.attention_operators import Call

LENGTHS = (200, 90, 30, 30, 20, 10, 4, 300, 40, 20, 10, 8, 6)
"""Two rows of 384, the longest documents first as packing puts them."""


def documents(lengths: Sequence[int] = LENGTHS, *, known: bool = True) -> Documents:
    borders = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return Documents(borders, max(lengths), 2, sum(lengths) // 2, tuple(lengths) if known else ())


def plain(parts: Sequence[torch.Tensor], offsets: torch.Tensor, call: Call) -> torch.Tensor:
    """[1, T, H, D] three times -> [1, T, H, D], by one document at a time."""
    heads = [part.transpose(1, 2) for part in parts]
    found = attention._by_document(*heads, offsets, attention.Scores(call.scale, call.window, None))
    return found.reshape(parts[0].shape)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of blocks of each backward call, which plain products stand in for."""
    taken: list[int] = []

    def ahead(parts: Any, offsets: torch.Tensor, longest: int, call: Call) -> Any:
        assert int(offsets.diff().max()) == longest
        empty = torch.empty(0)
        return plain(parts, offsets, call), empty, empty, empty

    def back(grad: torch.Tensor, parts: Any, _: Any, offsets: torch.Tensor, longest: int, call: Call) -> Any:
        taken.append((len(offsets) - 1) * -(-longest // 64) * 64)
        with torch.enable_grad():
            own = [part.detach().requires_grad_() for part in parts]
            return torch.autograd.grad(plain(own, offsets, call), own, grad)

    monkeypatch.setattr(attention_operators, "efficient_forward", ahead)
    monkeypatch.setattr(attention_operators, "efficient_backward", back)
    return taken


def outcome(found: Documents, window: int | None) -> list[torch.Tensor]:
    torch.manual_seed(0)
    parts = [torch.randn(2, count, found.length, 8, requires_grad=True) for count in (4, 2, 2)]
    out = fused_attention(*parts, Call("efficient", found, 0.3, window))
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out.detach(), *torch.autograd.grad(out, parts, weights)]


@pytest.mark.parametrize("window", [None, 5])
def test_runs_give_what_one_call_gives_in_less_memory(blocks: list[int], window: int | None) -> None:
    apart = outcome(documents(), window)
    split = max(blocks)
    blocks.clear()
    together = outcome(documents(known=False), window)
    assert len(blocks) == 1
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)
    assert split < blocks[0] / 3


@pytest.mark.parametrize(
    "lengths",
    [LENGTHS, (64,) * 12, (700, *(4,) * 17), (*range(1, 40), 1, 1), (5, 300, 5, 300, 5, 153), (384, 384)],
    ids=str,
)
def test_no_run_takes_more_than_its_share(lengths: tuple[int, ...]) -> None:
    runs = runs_of(documents(lengths), 64)
    assert [number for run in runs for number in range(run.first, run.end)] == list(range(len(lengths)))
    for run in runs:
        own = sum(-(-length // 64) * 64 for length in lengths[run.first : run.end])
        assert (run.end - run.first) * -(-run.longest // 64) * 64 <= UNEVEN_SHARE * own
        assert run.longest == max(lengths[run.first : run.end])


def test_lengths_of_another_batch_are_left_alone() -> None:
    found = documents()
    for wrong in (LENGTHS[:-1], (*LENGTHS[:-1], 7)):
        other = Documents(found.offsets, found.longest, 2, found.length, wrong)
        assert [run.tokens for run in runs_of(other, 64)] == [slice(None)]


def test_a_batch_brings_its_lengths_to_attention() -> None:
    row = {
        "input_ids": np.arange(8), "labels": np.arange(8), "position_ids": np.array([0, 1, 2, 3, 4, 0, 1, 0]),
        "lengths": np.array([5, 2, 1], dtype=np.int32), "padding": 1,
    }  # fmt: skip
    batch = collate([row, row])
    passed = forward._inputs(batch)
    assert getattr(passed["cu_seq_lens_q"], attention.LENGTHS) == (5, 2, 1, 5, 2, 1)
