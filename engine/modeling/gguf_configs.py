"""What a GGUF file says of its model, as transformers' configuration: architectures that transformers' reader has not.

Every number comes from the file, so that a wrong one shows in the logits. What llama.cpp has in its code and not in the
file (which layers turn, which see a window) is said here as llama.cpp does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gguf

from engine.modeling import gguf_positions

Values = Callable[[str], Any]
"""A value of the file by its key without the architecture's name; None where it is not there."""
Options = dict[str, Any]
_SHAPE = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How the files of one architecture are read: as which `model_type`, and with what beside the shape."""

    model_type: str
    options: Callable[[Values, frozenset[str]], Options]
    """From the values and the names of tensors."""
    epsilon: str = "rms_norm_eps"


def reading_of(reader: gguf.GGUFReader) -> Reading | None:
    """How this file is read here; None where transformers does, or nobody."""
    name = architecture_of(reader)
    if name == "llama" and _value(reader, "llama.expert_count"):
        return _MIXTRAL
    if name == "olmo2" and _value(reader, "olmo2.attention.sliding_window"):
        return _OLMO3
    return _READINGS.get(name)


def architecture_of(reader: gguf.GGUFReader) -> str:
    """llama.cpp's name of the model's architecture."""
    return str(reader.get_field("general.architecture").contents())


def config_of(reader: gguf.GGUFReader, reading: Reading) -> Any:
    """transformers' configuration of the file's model."""
    from transformers import AutoConfig

    name = architecture_of(reader)
    names = frozenset(tensor.name for tensor in reader.tensors)

    def value(key: str) -> Any:
        return _value(reader, f"{name}.{key}")

    shape = {theirs: value(ours) for ours, theirs in _SHAPE.items()}
    kind = "rms_" if reading.epsilon == "rms_norm_eps" else ""
    own = {
        reading.epsilon: value(f"attention.layer_norm_{kind}epsilon"),
        "tie_word_embeddings": "output.weight" not in names,
        "rope_parameters": gguf_positions.parameters_in(reader),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }
    return AutoConfig.for_model(reading.model_type, **{**shape, **own, **reading.options(value, names)})


def _value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _biases(value: Values, names: frozenset[str]) -> Options:
    """Biases where the file has some."""
    return {
        "attention_bias": "blk.0.attn_q.bias" in names or "blk.0.attn_qkv.bias" in names,
        "mlp_bias": "blk.0.ffn_up.bias" in names,
    }


def _nothing(value: Values, names: frozenset[str]) -> Options:
    return {}


def _turns(value: Values) -> Options:
    """Windows in all but every fourth layer, as llama.cpp has them where the file names a window."""
    window, layers = value("attention.sliding_window"), value("block_count")
    if not window:
        return {"sliding_window": None, "layer_types": ["full_attention"] * layers}
    kinds = ["full_attention" if (layer + 1) % 4 == 0 else "sliding_attention" for layer in range(layers)]
    return {"sliding_window": window, "layer_types": kinds}


def _seed_oss(value: Values, names: frozenset[str]) -> Options:
    return {**_biases(value, names), "attention_out_bias": "blk.0.attn_output.bias" in names}


def _smollm3(value: Values, names: frozenset[str]) -> Options:
    turning = [int((layer + 1) % 4 != 0) for layer in range(value("block_count"))]
    return {**_biases(value, names), "no_rope_layers": turning, "use_sliding_window": False}


def _granite(value: Values, names: frozenset[str]) -> Options:
    return {
        **_biases(value, names),
        "attention_multiplier": value("attention.scale"),
        "embedding_multiplier": value("embedding_scale"),
        "residual_multiplier": value("residual_scale"),
        "logits_scaling": value("logit_scale"),
    }


def _cohere2(value: Values, names: frozenset[str]) -> Options:
    return {**_turns(value), "logit_scale": value("logit_scale")}


def _exaone4(value: Values, names: frozenset[str]) -> Options:
    return {**_turns(value), "sliding_window_pattern": 4}


def _olmo3(value: Values, names: frozenset[str]) -> Options:
    return {**_turns(value), **_biases(value, names)}


def _mixtral(value: Values, names: frozenset[str]) -> Options:
    known = {"num_local_experts": value("expert_count"), "num_experts_per_tok": value("expert_used_count")}
    return {**known, "sliding_window": None}


def _olmoe(value: Values, names: frozenset[str]) -> Options:
    known = {"num_experts": value("expert_count"), "num_experts_per_tok": value("expert_used_count")}
    return {**known, "norm_topk_prob": False}


def _ministral3(value: Values, names: frozenset[str]) -> Options:
    return {"sliding_window": None}


_MIXTRAL = Reading("mixtral", _mixtral)
_OLMO3 = Reading("olmo3", _olmo3)
_READINGS: dict[str, Reading] = {
    "apertus": Reading("apertus", _biases),
    "arcee": Reading("arcee", _biases),
    "cohere2": Reading("cohere2", _cohere2, "layer_norm_eps"),
    "ernie4_5": Reading("ernie4_5", _nothing),
    "exaone4": Reading("exaone4", _exaone4),
    "gemma": Reading("gemma", _nothing),
    "glm4": Reading("glm4", _biases),
    "granite": Reading("granite", _granite),
    "hunyuan-dense": Reading("hunyuan_v1_dense", _biases),
    "mistral3": Reading("ministral3", _ministral3),
    "nemotron": Reading("nemotron", _biases, "norm_eps"),
    "olmo2": Reading("olmo2", _biases),
    "olmoe": Reading("olmoe", _olmoe),
    "qwen2vl": Reading("qwen2", _nothing),
    "qwen3vl": Reading("qwen3", _biases),
    "seed_oss": Reading("seed_oss", _seed_oss),
    "smollm3": Reading("smollm3", _smollm3),
}
READ_HERE = tuple(sorted(_READINGS))
"""Architectures that are read here, by llama.cpp's names."""
