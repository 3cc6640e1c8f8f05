"""Weight-decomposed adapters on quantized layers: under automatic casting hidden states stay as wide as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.modeling import adapters, forward, load
from engine.oracle.autocast import half_precision
from engine.profile.schema import Profile
from engine.train.optimizer import build_optimizer

IDS = torch.randint(5, 500, (1, 48), generator=torch.Generator().manual_seed(0))
BATCH = {
    "input_ids": IDS,
    "labels": IDS.clone(),
    "position_ids": torch.arange(48)[None],
    "cu_seq_lens": torch.tensor([0, 48], dtype=torch.int32),
    "max_doc_length": 48,
}


def settings(method: str, dtype: str) -> Profile:
    return Profile.model_validate(
        {
            "model": {"name_or_path": "demo", "dtype": dtype, "max_length": 64},
            "quantization": {"method": method},
            "lora": {"r": 4, "use_dora": True},
            "data": {"datasets": [{"path": "none.jsonl"}]},
            "train": {"learning_rate": 1e-2, "optim": "adamw_torch"},
            "launch": {"device": "cpu"},
        }
    )


def model_of(asked: Profile) -> Any:
    base = load.load_base(asked, Path(), quantized=True, device="cpu", warn=lambda *words: None, packed=True)
    return adapters.attach(base.requires_grad_(False), asked).train()


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_under_automatic_casting_hidden_states_stay_in_fp16_and_the_loss_falls(method: str) -> None:
    asked = settings(method, "fp16")
    model, losses = model_of(asked), []
    optimizer = build_optimizer(model, asked, lambda code, message: None)
    for _ in range(4):
        with half_precision():
            states = forward.hidden_states(model, BATCH)
            assert states.dtype == torch.float16
            loss = forward.loss_sum(model, BATCH)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < 0.98 * losses[0]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_without_casting_outputs_are_pefts_own(dtype: str) -> None:
    model = model_of(settings("nf4", dtype))
    mended = forward.hidden_states(model, BATCH)
    for module in model.modules():
        if getattr(module, "lora_magnitude_vector", None):
            module._forward_hooks.clear()
    assert torch.equal(mended, forward.hidden_states(model, BATCH))
