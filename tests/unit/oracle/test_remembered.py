"""Remembered outputs are those that torch makes: layout, dtype and memory of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.oracle import remembered

aten = torch.ops.aten
WIDE = torch.empty(2, 8, 16, dtype=torch.bfloat16, device="meta")
ROW = torch.empty(16, dtype=torch.float32, device="meta")
CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "promotes": (aten.mul.Tensor, (WIDE, ROW), {}),
    "a whole number keeps a dtype": (aten.add.Tensor, (torch.empty(3, dtype=torch.int64, device="meta"), 1), {}),
    "a fraction does not": (aten.add.Tensor, (torch.empty(3, dtype=torch.int64, device="meta"), 1.0), {}),
    "keeps strides": (aten.neg.default, (WIDE.transpose(1, 2),), {}),
    "casts": (aten._to_copy.default, (WIDE,), {"dtype": torch.float32}),
    "several outputs": (aten.topk.default, (WIDE, 2), {}),
    "a list of inputs": (aten.cat.default, ([WIDE, WIDE], 1), {}),
    "a product": (aten.mm.default, (WIDE[0], WIDE[1].t()), {}),
}


def tensors(out: Any) -> list[torch.Tensor]:
    return [out] if isinstance(out, torch.Tensor) else list(out)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_second_answer_is_the_first_one_in_memory_of_its_own(call: Any) -> None:
    func, args, kwargs = call
    plain, first, second = func(*args, **kwargs), remembered.run(func, args, kwargs), remembered.run(func, args, kwargs)
    assert isinstance(second, tuple) is isinstance(plain, tuple)
    for one, other, given in zip(tensors(plain), tensors(second), tensors(first), strict=True):
        assert (one.shape, one.stride(), one.dtype, other.device) == (
            other.shape,
            other.stride(),
            other.dtype,
            one.device,
        )
        assert other.untyped_storage()._cdata != given.untyped_storage()._cdata


def test_views_and_writes_stay_what_they_are() -> None:
    for _ in range(2):
        for view in (aten.t.default(WIDE[0]), remembered.run(aten._unsafe_view.default, (WIDE, [16, 16]), {})):
            assert view.untyped_storage()._cdata == WIDE.untyped_storage()._cdata
        target = torch.empty(16, device="meta")
        assert remembered.run(aten.add_.Tensor, (target, ROW), {}) is target


def test_values_of_a_processor_are_computed() -> None:
    for number in (1.0, 2.0):
        assert float(remembered.run(aten.neg.default, (torch.tensor(number),), {})) == -number
