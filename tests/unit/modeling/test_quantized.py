"""A 4-bit base gives the gradients of its own weights, before and after an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.modeling import adapters, forward, load
from engine.profile.schema import Profile


def model_of(method):
    settings = Profile.model_validate(
        {
            "model": {"name_or_path": "demo", "dtype": "bf16", "max_length": 64},
            "quantization": {"method": method},
            "lora": {"r": 4},
            "data": {"datasets": [{"path": "none.jsonl"}]},
        }
    )
    base = load.load_base(settings, Path(), quantized=True, device="cpu", warn=lambda *words: None, packed=True)
    base.requires_grad_(False)
    return adapters.attach(base, settings)


def gradients(model, batch):
    model.train()
    model.zero_grad()
    forward.loss_sum(model, batch).backward()
    return {name: value.grad.float().clone() for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_an_evaluation_leaves_gradients_as_they_were(method):
    model = model_of(method)
    ids = torch.randint(5, 500, (2, 64), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "labels": ids.clone(),
        "position_ids": torch.arange(64).expand(2, 64),
        "cu_seq_lens": torch.tensor([0, 64, 128], dtype=torch.int32),
        "max_doc_length": 64,
    }
    before = gradients(model, batch)
    model.eval()
    with torch.no_grad():
        forward.loss_sum(model, batch)
    after = gradients(model, batch)
    assert any(value.abs().sum() > 0 for value in before.values())
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
