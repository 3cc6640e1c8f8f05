"""A GGUF file becomes a model directory: positions, biases, widths and tokens are those of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bench import gguf_models
from engine.errors import EngineError, ExitCode
from engine.export import parity
from engine.export.gguf_write import write_gguf
from engine.modeling import gguf_positions, gguf_rope
from engine.modeling.gguf_import import import_gguf

ROWS = [[5 + 7 * number % 1500 for number in range(260)]]
META = {"rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize("case", ["llama", "mistral", "gemma3_text", "qwen3", "olmo3 yarn"])
def test_what_is_trained_from_a_file_is_the_model_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    merged = gguf_models.write_model(case, tmp_path / "merged")
    write_gguf(merged, tmp_path / "x.gguf", "bf16", "x")
    told: list[str] = []
    folder = import_gguf(tmp_path / "x.gguf", lambda code, text: told.append(code))
    assert told == ["gguf_converted"]
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    wanted = parity.logits_of(gguf_models.load(merged), ROWS)
    assert parity.distance(wanted, parity.logits_of(again, ROWS)).relative < 1e-4


def test_biases_of_a_llama_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(gguf_models.CASES, "biased", ("llama", {"attention_bias": True, "mlp_bias": True}))
    merged = gguf_models.write_model("biased", tmp_path / "merged")
    write_gguf(merged, tmp_path / "x.gguf", "bf16", "x")
    config = AutoConfig.from_pretrained(import_gguf(tmp_path / "x.gguf", lambda code, text: None))
    assert config.attention_bias
    assert config.mlp_bias


def test_a_gemma_with_byte_level_tokens_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The class of Gemma's own tokenizer asks for an unknown token, which a byte-level vocabulary has not.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    merged = gguf_models.write_model("gemma2", tmp_path / "merged")
    write_gguf(merged, tmp_path / "x.gguf", "bf16", "x")
    again = AutoTokenizer.from_pretrained(import_gguf(tmp_path / "x.gguf", lambda code, text: None))
    plain = AutoTokenizer.from_pretrained(merged)
    text = "On 19 October 1944, naïve 東京"
    assert again(text).input_ids == plain(text).input_ids


def test_a_file_without_a_usable_tokenizer_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    merged = gguf_models.write_model("qwen2", tmp_path / "merged")
    write_gguf(merged, tmp_path / "x.gguf", "bf16", "x")
    content = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(content.replace(b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez"))
    with pytest.raises(EngineError, match="its tokenizer cannot be made") as caught:
        import_gguf(tmp_path / "x.gguf", lambda code, text: None)
    assert caught.value.code is ExitCode.MODEL


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"original_max_position_embeddings": 8192}, 128),
        ({"original_max_position_embeddings": 8192, "factor": 32.0}, 64),
        ({"original_max_position_embeddings": 4096, "low_freq_factor": 2.0, "high_freq_factor": 16.0}, 128),
        ({"original_max_position_embeddings": 32, "rope_theta": 10_000.0}, 16),
    ],
)
def test_numbers_of_llama_3_are_found_again_from_their_divisors(changes: dict[str, Any], width: int) -> None:
    rope = {**META, **changes}
    divisors = gguf_rope.llama3_divisors(rope, width).astype(np.float64)
    found = gguf_positions.llama3_parameters(divisors, float(rope["rope_theta"]))
    np.testing.assert_allclose(gguf_rope.llama3_divisors(found, width), divisors, rtol=1e-3)
    assert found["factor"] == rope["factor"]
    ratio = rope["high_freq_factor"] / rope["low_freq_factor"]
    assert width < 128 or found["high_freq_factor"] == pytest.approx(ratio, rel=1e-3)


def test_other_divisors_are_refused() -> None:
    with pytest.raises(ValueError, match="not Llama 3's"):
        gguf_positions.llama3_parameters(np.array([1.0, 5.0, 2.0, 7.0, 3.0, 8.0, 8.0, 1.0]), 10_000.0)
