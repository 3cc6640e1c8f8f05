"""GGUF files of Gemma, Phi and Qwen's mixtures: logits, tensors, metadata, and what llama.cpp would do wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    Phi3Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from engine.errors import EngineError, ExitCode
from engine.export import gguf_read, parity
from engine.export.formats import OWN_GGUF
from engine.export.gguf_write import write_gguf
from tests.unit.export.test_export_gguf import SIZES, saved

_GEMMA = {**SIZES, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32}
_MOE = {**SIZES, "moe_intermediate_size": 32, "num_experts": 5, "num_experts_per_tok": 2}
LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 20_000.0},
}
CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "gemma2": (Gemma2Config, {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": (Gemma3TextConfig, {**_GEMMA, "num_hidden_layers": 7}),
    "gemma3 scaled": (Gemma3TextConfig, {**_GEMMA, "num_hidden_layers": 7, "rope_parameters": LINEAR}),
    "phi3": (Phi3Config, SIZES),
    "qwen2_moe": (Qwen2MoeConfig, {**_MOE, "shared_expert_intermediate_size": 96}),
    "qwen3_moe": (Qwen3MoeConfig, {**_MOE, "head_dim": 32, "norm_topk_prob": True}),
}
METADATA: dict[str, dict[str, Any]] = {
    "gemma2": {
        "attention.sliding_window": 32,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "attention.key_length": 16,
    },
    "gemma3": {"attention.sliding_window": 32, "rope.freq_base": 1e6, "rope.freq_base_swa": 1e4},
    "gemma3 scaled": {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0, "rope.freq_base_swa": 2e4},
    "phi3": {"rope.scaling.original_context_length": 4096, "attention.sliding_window": 0, "rope.dimension_count": 16},
    "qwen2_moe": {
        "expert_count": 5,
        "expert_used_count": 2,
        "expert_feed_forward_length": 32,
        "expert_shared_feed_forward_length": 96,
    },
    "qwen3_moe": {"expert_count": 5, "expert_used_count": 2, "expert_feed_forward_length": 32},
}
ROWS = [[5 + 7 * number % 1500 for number in range(120)], list(range(900, 1000))]


def written(folder: Path, family: str, **options: Any) -> Path:
    """The merged model whose file lies beside it."""
    make, own = CONFIGS[family]
    config = make(**{**own, **options})
    merged = saved(folder / "merged", config)
    # Norms at their start and tied matrices would hide a wrong order or a missing 1.
    model = Auto.from_pretrained(merged)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, mean=float(weight.detach().float().mean()), std=0.3)
        elif "gate.weight" in name or "shared_expert_gate" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.to(torch.bfloat16).save_pretrained(merged)
    return merged


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_reads_back_with_its_own_logits(tmp_path: Path, family: str) -> None:
    merged, file = written(tmp_path, family), tmp_path / "x.gguf"
    assert write_gguf(merged, file, "bf16", "x") == []
    again, tokenizer = gguf_read.read(file)
    own = Auto.from_pretrained(merged).float().eval()
    assert type(again) is type(own)
    assert parity.distance(parity.logits_of(own, ROWS), parity.logits_of(again, ROWS)).relative < 2e-4
    assert not gguf_read.positions_differ(file, own.get_decoder().rotary_emb)
    assert gguf_read.worst_weight(again, merged)[1] < 1e-3
    text = "What is 19 October 1944?\n  naïve 東京 <|im_end|>"
    plain = AutoTokenizer.from_pretrained(merged)
    assert tokenizer(text, add_special_tokens=False).input_ids == plain(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("family", CONFIGS)
def test_what_llama_cpp_reads_is_there(tmp_path: Path, family: str) -> None:
    write_gguf(written(tmp_path, family), tmp_path / "x.gguf", "f16", "x")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    name = str(reader.get_field("general.architecture").contents())
    for key, value in METADATA[family].items():
        field = reader.get_field(f"{name}.{key}")
        assert field is not None, key
        assert field.contents() == (value if isinstance(value, str) else pytest.approx(value)), key
    # llama.cpp refuses a file with a tensor that its architecture does not know.
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    known = {gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[arch]}
    for tensor in reader.tensors:
        stem = tensor.name.rsplit(".", 1)[0]
        layer = stem.split(".")[1] if stem.startswith("blk.") else ""
        assert stem.replace(f"blk.{layer}.", "blk.{bid}.") in known, tensor.name


def tensors(folder: Path, family: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the file holds in bf16, and what the merged model does."""
    merged = written(folder, family)
    write_gguf(merged, folder / "x.gguf", "bf16", "x")
    file = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(folder / "x.gguf").tensors
    }
    return file, {key: value.float().numpy() for key, value in load_file(merged / "model.safetensors").items()}


def test_one_is_added_to_every_norm_of_gemma(tmp_path: Path) -> None:
    file, own = tensors(tmp_path, "gemma3")
    for place, key in (
        ("blk.1.attn_norm", "layers.1.input_layernorm"),
        ("blk.1.post_attention_norm", "layers.1.post_attention_layernorm"),
        ("blk.1.ffn_norm", "layers.1.pre_feedforward_layernorm"),
        ("blk.1.post_ffw_norm", "layers.1.post_feedforward_layernorm"),
        ("blk.1.attn_q_norm", "layers.1.self_attn.q_norm"),
        ("blk.1.attn_k_norm", "layers.1.self_attn.k_norm"),
        ("output_norm", "norm"),
    ):
        np.testing.assert_allclose(file[f"{place}.weight"], own[f"model.{key}.weight"] + 1, rtol=1e-6)
    np.testing.assert_array_equal(file["blk.1.attn_q.weight"], own["model.layers.1.self_attn.q_proj.weight"])


def test_experts_are_stacked_in_their_order_and_routers_keep_fp32(tmp_path: Path) -> None:
    file, own = tensors(tmp_path, "qwen2_moe")
    for kind in ("gate", "up", "down"):
        stacked = file[f"blk.1.ffn_{kind}_exps.weight"]
        assert stacked.shape == ((5, 64, 32) if kind == "down" else (5, 32, 64))
        for number in range(5):
            key = f"model.layers.1.mlp.experts.{number}.{kind}_proj.weight"
            np.testing.assert_array_equal(stacked[number], own[key])
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    types = {tensor.name: (tensor.tensor_type.name, list(tensor.shape)) for tensor in reader.tensors}
    assert types["blk.1.ffn_gate_inp.weight"] == ("F32", [64, 5])
    assert types["blk.1.ffn_gate_inp_shexp.weight"] == ("F32", [64])
    assert types["blk.1.ffn_gate_shexp.weight"] == ("BF16", [64, 96])


@pytest.mark.parametrize("kind", OWN_GGUF)
def test_experts_are_stored_as_every_type_says(tmp_path: Path, kind: str) -> None:
    merged = written(tmp_path, "qwen3_moe")
    assert write_gguf(merged, tmp_path / "x.gguf", kind, "x") == []
    stored = gguf_read.stored(tmp_path / "x.gguf")
    assert stored[kind] >= 2 * 3 * 5 * 32 * 64
    again, _ = gguf_read.read(tmp_path / "x.gguf")
    key, off = gguf_read.worst_weight(again, merged)
    assert off < gguf_read.WEIGHT_LIMIT
    assert ".experts." in key or kind in ("f16", "bf16", "q8_0") or "proj" in key


def test_experts_in_another_order_are_found(tmp_path: Path) -> None:
    merged = written(tmp_path, "qwen3_moe")
    write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    again, _ = gguf_read.read(tmp_path / "x.gguf")
    joined = again.model.layers[1].mlp.experts.gate_up_proj
    with torch.no_grad():
        joined.copy_(joined.flip(0))
    key, off = gguf_read.worst_weight(again, merged)
    assert ".experts." in key
    assert off > 1


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "other caps": ("gemma2", {"final_logit_softcapping": None}, "has no soft cap"),
    "other layers": ("gemma2", {"layer_types": ["full_attention"] * 2}, "every second layer"),
    "other scores": ("gemma3", {"query_pre_attn_scalar": 24}, "root of 16"),
    "other period": ("gemma3", {"sliding_window_pattern": 3}, "every sixth layer"),
    "capped logits": ("gemma3", {"final_logit_softcapping": 30.0}, "does not cap"),
    "own head": ("gemma2", {"tie_word_embeddings": False}, "has its own"),
    "normalized": ("qwen2_moe", {"norm_topk_prob": True}, "does not normalize"),
    "not normalized": ("qwen3_moe", {"norm_topk_prob": False}, "this model does not"),
    "dense layers": ("qwen3_moe", {"mlp_only_layers": [0]}, "experts in every layer"),
    "part of a head": (
        "phi3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "part of each head",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_llama_cpp_would_run_otherwise_is_refused(tmp_path: Path, case: str) -> None:
    family, options, said = WRONG[case]
    make, own = CONFIGS[family]
    merged = saved(tmp_path / "merged", make(**{**own, **options}))
    with pytest.raises(EngineError, match=said) as caught:
        write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    assert caught.value.code is ExitCode.MODEL
    assert "convert_hf_to_gguf" in caught.value.hint


def test_a_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    # As `<image_soft_token>` of Gemma 3 1B, beyond the embedding.
    merged = written(tmp_path, "gemma3")
    before = len(AutoTokenizer.from_pretrained(merged))
    tokenizer = AutoTokenizer.from_pretrained(merged)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(SIZES["vocab_size"] - before + 1)])
    assert len(tokenizer) == SIZES["vocab_size"] + 1
    tokenizer.save_pretrained(merged)
    write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    tokens = gguf.GGUFReader(tmp_path / "x.gguf").get_field("tokenizer.ggml.tokens").contents()
    assert len(tokens) == SIZES["vocab_size"]


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    """A Gemma whose sentencepiece tokenizer has runs of blanks as tokens of their own."""
    from sentencepiece import SentencePieceTrainer

    made = {"vocab_size": 600, "model_type": "bpe", "byte_fallback": True, "split_digits": True, "minloglevel": 2}
    named = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "normalization_rule_name": "identity"}
    options = {"remove_extra_whitespaces": False, "add_dummy_prefix": False, "user_defined_symbols": ["\u2581" * 2]}
    SentencePieceTrainer.train(input=__file__, model_prefix=str(tmp_path / "tokenizer"), **options, **made, **named)
    (tmp_path / "config.json").write_text('{"model_type": "gemma3_text"}')
    settings = {"tokenizer_class": "GemmaTokenizer", "chat_template": "{{ messages }}", "add_bos_token": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = tmp_path / "merged"
    make, own = CONFIGS["gemma3"]
    Auto.from_config(make(**{**own, "vocab_size": 640})).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([AddedToken("\u2581" * 2, normalized=False)])
    tokenizer.save_pretrained(folder)
    return folder


def test_tokens_of_gemma_read_back(tmp_path: Path, pieces: Path) -> None:
    assert write_gguf(pieces, tmp_path / "x.gguf", "f16", "x") == []
    assert gguf_read.is_sentencepiece(tmp_path / "x.gguf")
    fields = gguf.GGUFReader(tmp_path / "x.gguf")
    # No blank is put before a text, and a run of blanks is written as llama.cpp finds it in a text.
    assert fields.get_field("tokenizer.ggml.add_space_prefix").contents() is False
    tokens = fields.get_field("tokenizer.ggml.tokens").contents()
    kinds = fields.get_field("tokenizer.ggml.token_type").contents()
    assert kinds[tokens.index("  ")] == gguf.TokenType.USER_DEFINED
    _, tokenizer = gguf_read.read(tmp_path / "x.gguf")
    own = AutoTokenizer.from_pretrained(pieces)
    for text in ("the tokenizer reads 1944 texts of naïve 東京\n    assert x", Path(__file__).read_text()[:4000]):
        assert tokenizer(text, add_special_tokens=False).input_ids == own(text, add_special_tokens=False).input_ids
