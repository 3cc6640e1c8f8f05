"""Automatic casts by hand: values as with torch's own autocast, and what the closed form promises for fp16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.oracle.autocast import half_precision
from engine.oracle.simulate import simulate

AMPERE, T4 = Gpu("NVIDIA A100", compute_capability=(8, 0)), Gpu("Tesla T4", compute_capability=(7, 5))
Context = Callable[[], AbstractContextManager[object]]


def block(x: torch.Tensor, frozen: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """A frozen fp16 product with a trained fp32 adapter beside it, and products of their results."""
    made = F.linear(x, frozen) + F.linear(F.linear(x.float(), down), up) * 2.0
    return torch.matmul(made, made.transpose(-1, -2)) @ made


def trained(context: Context) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(4, 8, generator=generator) / 4).half().requires_grad_()
    frozen = (torch.randn(8, 8, generator=generator) / 4).half()
    down, up = (torch.randn(*size, generator=generator).requires_grad_() for size in ((2, 8), (8, 2)))
    with context():
        found = block(x, frozen, down, up)
    found.float().tanh().sum().backward()
    assert down.grad is not None
    assert up.grad is not None
    assert x.grad is not None
    return found.detach(), x.grad, down.grad, up.grad


def test_values_and_gradients_are_those_of_torchs_autocast() -> None:
    theirs = trained(lambda: torch.autocast("cpu", dtype=torch.float16))
    ours = trained(half_precision)
    assert ours[0].dtype == torch.float16
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def cast_of(product: torch.Tensor) -> object:
    """The node that cast the weight of a linear product: behind the product and its transpose."""
    node = product.grad_fn
    assert node is not None
    for _ in range(2):
        node = node.next_functions[-1][0]
        assert node is not None
    assert "ToCopy" in node.name()
    return node


def test_a_trained_weight_is_cast_once_and_let_go_at_the_end() -> None:
    weight, x = torch.ones(4, 4, requires_grad=True), torch.ones(2, 4)
    with half_precision():
        assert torch.is_autocast_enabled()
        first, second = F.linear(x, weight), F.linear(x, weight)
    assert cast_of(first) is cast_of(second)
    assert not torch.is_autocast_enabled()
    assert checkpoint(F.linear, x, weight, use_reentrant=False).dtype == torch.float32


def test_a_view_of_a_trained_weight_is_cast_each_time() -> None:
    weight, x = torch.ones(4, 4, requires_grad=True), torch.ones(2, 4)
    with torch.no_grad():
        view = weight.t().requires_grad_()
    with half_precision() as _:
        first, second = F.linear(x, view), F.linear(x, view)
    assert cast_of(first) is not cast_of(second)


@pytest.mark.parametrize("gpu", [AMPERE, T4], ids=["ampere", "t4"])
@pytest.mark.parametrize(
    ("shape", "highest"),
    [
        (TrainingShape(compute_dtype="fp16", micro_batch=2, max_length=1024), 0.01),
        (TrainingShape(compute_dtype="fp16", micro_batch=2, max_length=1024, quantization="nf4"), 0.01),
        (TrainingShape(compute_dtype="fp16", micro_batch=2, max_length=1024, checkpoint_every=0), 0.03),
        (TrainingShape(compute_dtype="fp16", max_length=1024, quantization="int8"), 0.01),
        (TrainingShape(compute_dtype="fp16", max_length=1024, method="full"), 0.01),
        (TrainingShape(compute_dtype="fp16", max_length=4096, method="full"), 0.01),
    ],
    ids=["lora", "nf4", "uncheckpointed", "int8", "full", "full-4096"],
)
def test_closed_form_of_fp16(shape: TrainingShape, highest: float, gpu: Gpu) -> None:
    spec = catalog_index()["qwen2.5-0.5b-instruct"]
    simulated, estimate = simulate(spec, shape, gpu=gpu), estimate_memory(spec, shape, gpu=gpu)
    assert -0.005 <= estimate.allocated_bytes / simulated.allocated_bytes - 1 <= highest
    assert estimate.reserved_bytes >= simulated.reserved_bytes
