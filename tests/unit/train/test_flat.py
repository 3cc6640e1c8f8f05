"""AdamW over flat masters: the numbers and the checkpoints of the one that goes tensor by tensor."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.train import masters
from engine.train.flat import MasterAdamW
from engine.train.masters import Masters
from engine.train.state import load_optimizer, save_optimizer

ODD = ((16, 48), (48, 16), (7, 5), (33,), (16, 64), (1,), (3, 3, 3), (130, 2))
EVEN = ((16, 48), (48, 16), (8, 32), (32,), (16, 64), (16,), (2, 4, 8), (96, 16))
"""Whole vectors of a processor, as adapters have them: its fused kernel rounds what is left over differently."""


class EachAdamW(Masters, torch.optim.AdamW):
    """As it was before masters lay end to end; checkpoints of then come from this."""


def weights(shapes: tuple[tuple[int, ...], ...] = EVEN) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).bfloat16().requires_grad_() for shape in shapes]


def built(kind: Any, parameters: list[torch.Tensor], *, fused: bool = True) -> Any:
    groups = [
        {"params": [each for each in parameters[:5] if each.ndim > 1], "weight_decay": 0.1},
        {"params": [each for each in parameters if each.ndim == 1], "weight_decay": 0.0},
        {"params": [each for each in parameters[5:] if each.ndim > 1], "weight_decay": 0.1, "lr": 3e-2},
    ]
    return kind(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, fused=fused)


def give_gradients(parameters: list[torch.Tensor], step: int, without: tuple[int, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for number, each in enumerate(parameters):
        gradient = torch.randn(each.shape, generator=generator).bfloat16()
        each.grad = None if number in without else gradient


def same(one: Any, other: Any, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for master, other_master in zip(one._masters, other._masters, strict=True):
        assert torch.equal(master, other_master)
        left, right = one.state[master], other.state[other_master]
        for name in right:
            assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize(("fused", "shapes"), [(True, EVEN), (False, EVEN), (False, ODD)])
@pytest.mark.parametrize("portion", [1 << 28, 2048])
def test_twenty_steps_are_bit_equal(monkeypatch: pytest.MonkeyPatch, fused: bool, shapes: Any, portion: int) -> None:
    monkeypatch.setattr(masters, "STEP_PORTION_BYTES", portion)
    ours, theirs = weights(shapes), weights(shapes)
    flat, each = built(MasterAdamW, ours, fused=fused), built(EachAdamW, theirs, fused=fused)
    assert len(flat._portions) == len(each._portions) > (0 if portion == 1 << 28 else 4)
    twenty_steps((ours, theirs), (flat, each))
    same(flat, each, ours, theirs)


def test_what_is_left_over_beside_whole_vectors_differs_by_rounding_alone() -> None:
    ours, theirs = weights(ODD), weights(ODD)
    flat, each = built(MasterAdamW, ours), built(EachAdamW, theirs)
    twenty_steps((ours, theirs), (flat, each))
    for one, other in zip(flat._masters, each._masters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def twenty_steps(sides: tuple[list[torch.Tensor], ...], optimizers: tuple[Any, ...]) -> None:
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: 1 / (1 + step)) for one in optimizers]
    for step in range(20):
        for parameters, optimizer, schedule in zip(sides, optimizers, schedules, strict=True):
            give_gradients(parameters, step)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert all(slab.steps for slabs in optimizers[0]._slabs for slab in slabs)


def test_a_weight_without_a_gradient_stands_still_as_before() -> None:
    ours, theirs = weights(), weights()
    flat, each = built(MasterAdamW, ours), built(EachAdamW, theirs)
    for step in range(6):
        for parameters, optimizer in ((ours, flat), (theirs, each)):
            give_gradients(parameters, step, without=(1, 3) if step in (2, 3) else ())
            optimizer.step()
    same(flat, each, ours, theirs)
    assert float(flat.state[flat._masters[1]]["step"]) == 4


def test_a_flag_on_the_device_skips_the_step() -> None:
    ours = weights()
    flat = built(MasterAdamW, ours)
    for step in range(3):
        give_gradients(ours, step)
        if step == 1:
            before = copy.deepcopy(flat.state_dict()), [each.detach().clone() for each in ours]
            ours[0].grad = torch.full_like(ours[0], math.nan)
            flat.found_inf = torch.ones(())
        flat.step()
        if step == 1:
            assert all(torch.equal(a, b) for a, b in zip(ours, before[1], strict=True))
            for number, state in flat.state_dict()["state"].items():
                assert all(torch.equal(state[name], before[0]["state"][number][name]) for name in state)
            flat.found_inf = torch.zeros(())
    assert all(each.isfinite().all() for each in ours)


@pytest.mark.parametrize(("writer", "reader"), [(EachAdamW, MasterAdamW), (MasterAdamW, EachAdamW)])
@pytest.mark.parametrize("uneven", [False, True])
def test_checkpoints_go_both_ways(tmp_path: Path, writer: Any, reader: Any, uneven: bool) -> None:
    before, after = weights(), weights()
    first, second = built(writer, before), built(reader, after)
    for step in range(4):
        give_gradients(before, step, without=(2,) if uneven and step < 2 else ())
        first.step()
    save_optimizer(first, tmp_path)
    load_optimizer(second, tmp_path)
    for old, new in zip(before, after, strict=True):
        new.detach().copy_(old.detach())
    for step in range(4, 8):
        for parameters, optimizer in ((before, first), (after, second)):
            give_gradients(parameters, step)
            optimizer.step()
    same(second, first, after, before)


def test_files_are_the_same_as_before(tmp_path: Path) -> None:
    for kind in (EachAdamW, MasterAdamW):
        parameters = weights()
        optimizer = built(kind, parameters)
        for step in range(2):
            give_gradients(parameters, step)
            optimizer.step()
        (tmp_path / kind.__name__).mkdir()
        save_optimizer(optimizer, tmp_path / kind.__name__)
    for name in ("optimizer.safetensors", "optimizer.json"):
        assert (tmp_path / "EachAdamW" / name).read_bytes() == (tmp_path / "MasterAdamW" / name).read_bytes()
