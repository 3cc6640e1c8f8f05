"""Token-weighted loss against a plain, unpadded reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from engine.inference import losses
from engine.inference.losses import Encoded, batches, score

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def model(kind: str = "llama") -> Any:
    torch.manual_seed(0)
    if kind == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=0.05)).eval()
    if kind == "granite":
        return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=0.01)).eval()
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def rows() -> list[Encoded]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for length, prompt in ((5, 2), (40, 30), (17, 0), (40, 39), (9, 9), (64, 3)):
        ids = torch.randint(3, 97, (length,), generator=generator).tolist()
        found.append(Encoded(tuple(ids), tuple([-100] * prompt + ids[prompt:])))
    return found


def reference(network: Any, row: Encoded) -> tuple[float, int]:
    """One row alone, through the model's own logits, without padding."""
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([row.ids])).logits[0].float()
    targets = torch.tensor(row.labels[1:])
    kept = targets != -100
    return float(F.cross_entropy(logits[:-1][kept], targets[kept], reduction="sum")) if kept.any() else 0.0, int(
        kept.sum()
    )


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize("chunk_bytes", [4 * 97 * 3, 1 << 28])
def test_equals_an_unpadded_reference(kind: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_BYTES", chunk_bytes)
    network, seen, told = model(kind), [], []
    found = score(network, rows(), 0, lambda done, total: seen.append((done, total)), lambda *what: told.append(what))
    expected = [reference(network, row) for row in rows()]
    assert [row.nll for row in found] == pytest.approx([nll for nll, _ in expected], rel=1e-5, abs=1e-5)
    assert [row.tokens for row in found] == [tokens for _, tokens in expected] == [3, 10, 16, 1, 0, 61]
    assert seen[-1] == (6, 6)
    assert not told


def test_a_head_that_does_more_falls_back_loudly_and_stays_exact() -> None:
    network, told = model(), []
    network.lm_head.register_forward_hook(lambda _module, _given, made: made.roll(1, -1) if made.dim() == 3 else made)
    found = score(network, rows(), 0, lambda *_: None, lambda *what: told.append(what))
    assert [row.nll for row in found] == pytest.approx(
        [reference(network, row)[0] for row in rows()], rel=1e-5, abs=1e-4
    )
    assert [code for code, _ in told] == ["loss_fallback"]


def test_no_rows() -> None:
    assert score(model(), [], 0, lambda *_: None, lambda *_: None) == []


def test_batches_hold_the_budget_and_every_row() -> None:
    lengths = [5, 40, 17, 40, 9, 64]
    groups = list(batches(lengths, 80))
    assert sorted(place for group in groups for place in group) == list(range(6))
    assert all(max(lengths[place] for place in group) * len(group) <= 80 for group in groups)
    assert list(batches([500, 3], 80)) == [[0], [1]]
