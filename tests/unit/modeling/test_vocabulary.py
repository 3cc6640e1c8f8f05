"""Added tokens: one id each, rows for them in the model, the same at every loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.demo.paths import model_dir
from engine.modeling.load import load_base, load_tokenizer
from engine.profile.schema import Profile

MARKS = ["<|system|>", "<|user|>", "<|assistant|>"]


def settings(**model: Any) -> Profile:
    return Profile.model_validate(
        {
            "model": {"name_or_path": str(model_dir()), "dtype": "fp32", **model},
            "data": {"datasets": [{"path": "none.jsonl"}]},
        }
    )


def ignore(code: str, message: str) -> None:
    pass


def test_each_mark_becomes_one_token_and_gets_the_mean_embedding() -> None:
    asked = settings(additional_special_tokens=MARKS)
    plain = load_base(settings(), Path(), quantized=False, device="cpu", warn=ignore)
    tokenizer = load_tokenizer(asked, Path(), ignore)
    ids = [tokenizer(mark, add_special_tokens=False)["input_ids"] for mark in MARKS]
    assert all(len(found) == 1 for found in ids)
    grown = load_base(asked, Path(), quantized=False, device="cpu", warn=ignore)
    old = plain.get_input_embeddings().weight
    new = grown.get_input_embeddings().weight
    assert new.shape[0] == max(len(tokenizer), old.shape[0])
    assert torch.equal(new[: len(old)], old)
    if new.shape[0] > len(old):
        assert torch.allclose(new[len(old) :], old.mean(dim=0).expand(new.shape[0] - len(old), -1))
    with torch.no_grad():
        logits = grown(input_ids=torch.tensor([[found[0] for found in ids]])).logits
    assert logits.shape[-1] == new.shape[0]
    assert logits.isfinite().all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizer_pads_and_cuts_on_the_asked_sides(side: str) -> None:
    tokenizer = load_tokenizer(settings(padding_side=side, truncation_side=side), Path(), ignore)
    assert (tokenizer.padding_side, tokenizer.truncation_side) == (side, side)
