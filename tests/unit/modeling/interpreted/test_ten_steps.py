"""Ten optimizer steps with every fast path at once against plain ones, four for more families: both stay together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.modeling import checkpointing, forward, fused_lora, liger
from tests.unit.modeling.interpreted.models import adapted, batch, tiny


def trained(model: Any, steps: int) -> tuple[list[float], torch.Tensor]:
    """Losses of the steps, and the adapters after them."""
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = forward.loss_sum(model.train(), batch())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, torch.cat([weight.detach().flatten() for weight in learned])


@pytest.mark.parametrize(("family", "steps"), [("llama", 10), ("gemma3_text", 4), ("phi3", 4)])
def test_losses_and_weights_stay_together(family: str, steps: int) -> None:
    torch.manual_seed(0)
    losses, weights = trained(adapted(tiny(family)), steps)
    torch.manual_seed(0)
    model = adapted(tiny(family))
    fused_lora.fuse(model)
    assert liger.bind(model)
    checkpointing.enable(model, 1)
    found, fast = trained(model, steps)
    assert found == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0]
    assert float((fast - weights).norm()) < 1e-3 * float(weights.norm())
