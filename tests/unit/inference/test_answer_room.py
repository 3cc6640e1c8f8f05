"""How many prompts are answered at once: the cache's bytes are those that transformers holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, MambaConfig

from engine.inference import answers
from engine.inference.answers import Room, Sampling, free_bytes, harness_batch
from engine.memory.evaluation import answer_bytes, cache_bytes, prompts_at_once
from engine.models.config import spec_from_config

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def spec_of(config: Any) -> Any:
    return spec_from_config(config.to_dict(), "m", "c", source="s", path=None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_has_the_bytes_of_the_formula(network: Any, dtype: torch.dtype) -> None:
    model = LlamaForCausalLM(network.config).to(dtype).eval()
    ids = torch.randint(3, 97, (5, 11))
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, min_new_tokens=7, do_sample=False,
            pad_token_id=0, return_dict_in_generate=True,
        )  # fmt: skip
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in found.past_key_values.layers
        for tensor in (layer.keys, layer.values)
    )
    # The last token is answered and never read.
    assert held == 5 * cache_bytes(spec_of(network.config), 11 + 7 - 1, torch.finfo(dtype).bits // 8)


def test_known_bytes_of_a_known_model() -> None:
    # Llama 3.1 8B: 32 layers, 8 key heads of 128, two bytes: 128 KiB a token.
    config = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256
    )
    assert cache_bytes(spec_of(config), 1, 2) == 128 * 1024
    one = answer_bytes(spec_of(config), 1000, 100, 2)
    assert 1100 * 128 * 1024 < one < 2 * 1100 * 128 * 1024
    assert prompts_at_once(spec_of(config), 1000, 100, 2, 10 * one + 5) == 10
    assert prompts_at_once(spec_of(config), 1000, 100, 2, 10) == 1


def test_a_batch_that_does_not_fit_is_lowered_once_aloud(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = answer_bytes(spec_of(network.config), 40, 16, 4)
    monkeypatch.setattr(answers, "free_bytes", lambda device: int(3.5 * one / answers.FREE_SHARE))
    told: list[tuple[str, str]] = []
    found = Room(network, Sampling(16, 8, (1,), 0), lambda *what: told.append(what))
    assert [found.for_prompt(tokens) for tokens in (40, 40, 4)] == [3, 3, 8]
    assert [code for code, _ in told] == ["generate_batch"]
    assert "8 prompts of 40 tokens" in told[0][1]
    assert "3 at once" in told[0][1]


def test_what_fits_is_as_asked(network: Any) -> None:
    told: list[Any] = []
    assert Room(network, Sampling(16, 8, (1,), 0), lambda *what: told.append(what)).for_prompt(100) == 8
    assert not told
    assert free_bytes(torch.device("cpu")) > 2**20


def test_a_quantized_or_strange_model(network: Any) -> None:
    told: list[tuple[str, str]] = []
    packed = LlamaForCausalLM(LlamaConfig(**SIZES))
    packed.config.quantization_config = BitsAndBytesConfig(load_in_4bit=True)
    assert Room(packed, Sampling(16, 8, (1,), 0), lambda *what: told.append(what)).for_prompt(10) == 8
    assert not told
    strange = LlamaForCausalLM(LlamaConfig(**SIZES))
    strange.config = MambaConfig(hidden_size=32, num_hidden_layers=1)
    assert Room(strange, Sampling(16, 8, (1,), 0), lambda *what: told.append(what)).for_prompt(10**9) == 8
    assert [code for code, _ in told] == ["generate_batch"]
    assert spec_of(LlamaConfig(**SIZES)).num_key_value_heads == LlamaConfig(**SIZES).num_key_value_heads


def test_whole_logits_of_a_harness(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(answers, "free_bytes", lambda device: int(2.5 * 64 * 97 * 12 / answers.FREE_SHARE))
    assert harness_batch(network, 64, 8, lambda code, text: told.append(code)) == 2
    assert told == ["harness_batch"]
    assert harness_batch(network, 64, 2, lambda code, text: told.append(code)) == 2
    assert len(told) == 1
