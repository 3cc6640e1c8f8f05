"""What the memory model counts on in an optimizer's step with fp32 masters."""

from __future__ import annotations

import torch

from engine.train import masters
from engine.train.optimizer import MasterAdamW


def test_steps_in_portions_equal_a_step_at_once(monkeypatch):
    results = []
    for portion in (1 << 30, 64):
        monkeypatch.setattr(masters, "STEP_PORTION_BYTES", portion)
        torch.manual_seed(0)
        weights = [torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(5)]
        master = MasterAdamW([{"params": weights[:3]}, {"params": weights[3:]}], lr=1e-2)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.ones_like(weight)
            master.step()
            master.zero_grad()
        results.append((weights, master.state_dict()["masters"], len(master._portions)))
    assert results[0][2] == 1
    assert results[1][2] == 5
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(one, other)


def test_masters_are_exactly_what_fp32_training_would_hold():
    torch.manual_seed(0)
    start = torch.randn(16, 16).bfloat16()
    weight = start.clone().requires_grad_()
    plain = start.float().requires_grad_()
    ours, theirs = MasterAdamW([{"params": [weight]}], lr=1e-4), torch.optim.AdamW([plain], lr=1e-4)
    for seed in range(5):
        grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)).bfloat16()
        weight.grad, plain.grad = grad, grad.float()
        ours.step()
        theirs.step()
    assert torch.equal(ours._masters[0], plain.detach())
    assert torch.equal(weight.detach(), plain.detach().bfloat16())
