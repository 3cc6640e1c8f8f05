"""GGUF files that this engine reads back itself: logits, positions, tensors and tokens are those of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer

from bench import gguf_models
from engine.errors import EngineError, ExitCode
from engine.export import gguf_read, parity
from engine.export.gguf_write import described, write_gguf
from engine.modeling import gguf_reading
from engine.models.gguf import spec_from_gguf

ROWS = [[5 + 7 * number % 1500 for number in range(90)]]
FAMILIES = (
    "gemma",
    "smollm3",
    "apertus",
    "hunyuan_v1_dense",
    "cohere2",
    "olmo3 yarn",
    "olmoe",
    "granite",
    "glm4",
    "mixtral",
    "nemotron",
)
WRAPPERS = ("gemma3", "mistral3 of ministral3", "qwen3_vl")


@pytest.mark.parametrize("case", [*FAMILIES, *WRAPPERS])
def test_each_family_reads_back_with_its_own_logits(tmp_path: Path, case: str) -> None:
    merged, file = gguf_models.write_model(case, tmp_path / "merged"), tmp_path / "x.gguf"
    told = write_gguf(merged, file, "bf16", "x")
    assert bool(told) is (case in WRAPPERS)
    again, tokenizer = gguf_read.read(file)
    own = gguf_models.load(merged)
    assert parity.distance(parity.logits_of(own, ROWS), parity.logits_of(again, ROWS)).relative < 1e-5
    assert not gguf_read.positions_differ(file, own.get_decoder().rotary_emb)
    assert gguf_read.worst_weight(again, merged)[1] < 1e-3
    text = "What is 19 October 1944?\n  naïve 東京 <|im_end|>"
    plain = AutoTokenizer.from_pretrained(merged)
    assert tokenizer(text, add_special_tokens=False).input_ids == plain(text, add_special_tokens=False).input_ids
    spec = spec_from_gguf(file)
    assert spec.sizes.computed_parameters == sum(each.numel() for each in again.parameters())


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another rule of experts": ("phimoe", {}, "another rule"),
    "other layers without positions": ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 1]}, "every fourth layer"),
    "windows of a small EXAONE": ("exaone4", {"sliding_window": 32}, "64 layers"),
    "fewer heads of keys": ("olmoe", {"num_key_value_heads": 2}, "as many heads"),
    "clipped queries": ("olmoe", {"clip_qkv": 8.0}, "clip"),
    "no YaRN": ("ministral3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "YaRN"),
    "norms of queries": ("cohere2", {"use_qk_norm": True}, "norms of queries"),
    "other windows": ("cohere2", {"layer_types": ["full_attention"] * 4}, "every fourth layer"),
    "another rate": (
        "olmo3",
        {"rope_parameters": {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 5e3}}},
        "another",
    ),
    "biases": ("arcee", {"mlp_bias": True}, "no biases"),
    "positions left out": (
        "qwen3_vl",
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "mrope_section": [2, 3, 3]}},
        "mrope_section",
    ),
    "unknown": ("minimax_m2", {}, "'minimax_m2' are not written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_run_otherwise_is_refused(tmp_path: Path, case: str) -> None:
    family, changes, said = REFUSED[case]
    known = family if family in gguf_models.CASES else "llama"
    config = gguf_models.config_of(known).to_dict()
    if family not in gguf_models.CASES:
        config["model_type"] = family
    config.get("text_config", config).update(changes)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=said) as caught:
        described(tmp_path)
    assert caught.value.code is ExitCode.MODEL


def test_a_tensor_that_is_missing_or_left_over_is_an_error(tmp_path: Path) -> None:
    merged = gguf_models.write_model("arcee", tmp_path / "merged")
    write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    left = {tensor.name: tensor for tensor in reader.tensors}
    with pytest.raises(ValueError, match=r"blk\.0\.nothing\.weight is missing"):
        gguf_reading._taken(left, "blk.0.nothing.weight", "model.layers.0.nothing")
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(EngineError, match="has no place"):
        write_gguf(merged, tmp_path / "y.gguf", "f16", "x")
