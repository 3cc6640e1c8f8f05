"""Lion against its definition, masters around every optimizer, and states that survive saving."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from engine.profile.schema import Profile
from engine.train.lion import Lion
from engine.train.optimizer import MasterAdafactor, MasterAdamW, MasterLion, build_optimizer


def settings(optim: str, dtype: str = "fp32", **train: Any) -> Profile:
    tree = {
        "model": {"name_or_path": "m", "dtype": dtype},
        "tuning": {"method": "full"},
        "data": {"datasets": [{"path": "a.jsonl"}]},
        "train": {"optim": optim, "learning_rate": 1e-3, **train},
        "launch": {"device": "cpu"},
    }
    return Profile.model_validate(tree)


def model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).to(dtype)


def fit(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(64, 8, generator=generator)
    targets = inputs.sum(dim=1, keepdim=True)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(inputs.to(next(net.parameters()).dtype)).float() - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_lion_is_the_published_update() -> None:
    """Algorithm 2 of arXiv 2302.06675, written out."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = Lion([{"params": [weight]}], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    theta, moment = weight.detach().clone(), torch.zeros(3)
    for number in range(5):
        gradient = torch.tensor([0.3, -0.2 * number, 1.0 - number])
        weight.grad = gradient.clone()
        optimizer.step()
        update = torch.sign(0.9 * moment + 0.1 * gradient)
        theta = theta - 0.1 * (update + 0.5 * theta)
        moment = 0.99 * moment + 0.01 * gradient
        torch.testing.assert_close(weight.detach(), theta)


@pytest.mark.parametrize("optim", ["adafactor", "lion_32bit", "adamw_torch"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_each_optimizer_learns(optim: str, dtype: str) -> None:
    net = model(torch.bfloat16 if dtype == "bf16" else torch.float32)
    optimizer = build_optimizer(net, settings(optim, dtype, learning_rate=3e-3), lambda *_: pytest.fail("a fall-back"))
    losses = fit(net, optimizer, 150)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("optim", "kind"), [("adafactor", MasterAdafactor), ("lion_32bit", MasterLion), ("adamw_torch_fused", MasterAdamW)]
)
def test_16_bit_weights_have_masters_that_are_saved(optim: str, kind: type) -> None:
    nets = [model(torch.bfloat16) for _ in range(2)]
    first, second = (build_optimizer(net, settings(optim, "bf16"), lambda *_: None) for net in nets)
    assert isinstance(first, kind)
    fit(nets[0], first, 6)
    nets[1].load_state_dict(nets[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert fit(nets[0], first, 6) == fit(nets[1], second, 6)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.parametrize("optim", ["lion_8bit", "adamw_bnb_8bit"])
def test_without_a_gpu_the_8_bit_ones_fall_back_aloud(optim: str) -> None:
    told: list[str] = []
    made = build_optimizer(model(), settings(optim), lambda _, message: told.append(message))
    assert type(made) is (Lion if optim == "lion_8bit" else torch.optim.AdamW)
    assert told == [f"{optim} needs a GPU: {'Lion' if optim == 'lion_8bit' else 'AdamW'} with fp32 states is used"]
