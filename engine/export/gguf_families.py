"""The metadata of a GGUF file: the shape that all families share, and what only one of them has.

Keys and values are those of llama.cpp's converter. `gguf_judges.py` says which models llama.cpp would run otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from engine.files import read_json
from engine.modeling import gguf_rope
from engine.models.families import Gguf

Config = dict[str, Any]
WRAPPED = "wrapped_by"
"""Key that a text model's configuration gets here: the `model_type` of the model around it, which also sees."""
AS_METADATA = (".act_fn.alpha_p", ".act_fn.alpha_n", ".act_fn.beta", ".act_fn.eps")
"""Tensors of one number (Apertus' activation) that stand in the metadata, a list a layer long."""
_OF_WHOLE = ("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")


def text_of(folder: Path) -> Config:
    """The configuration of the text model in `folder`; of a model that also sees, with every default filled in."""
    raw = read_json(folder / "config.json")
    if not isinstance(raw.get("text_config"), dict):
        return raw
    from transformers import AutoConfig

    whole = AutoConfig.from_pretrained(folder, local_files_only=True)
    text: Config = whole.get_text_config().to_dict()
    told = {key: getattr(whole, key, None) for key in _OF_WHOLE}
    vision = {"vision_config": raw.get("vision_config") or {}}
    return {**text, **{key: value for key, value in told.items() if value is not None}, **vision} | {
        WRAPPED: str(raw.get("model_type"))
    }


def experts_of(config: Config) -> int:
    """Experts of a layer; 0 for a dense model."""
    return int(config.get("num_experts") or config.get("num_local_experts") or 0)


def told(config: Config, covered: Gguf) -> Iterator[str]:
    """What of the model is not in the file, in words."""
    if WRAPPED in config:
        yield (
            "the file holds the text model alone: what sees or hears is left out. For pictures, llama.cpp takes a"
            " second file (mmproj), which its convert_hf_to_gguf.py --mmproj makes from the merged model"
        )
    window, context = config.get("sliding_window"), int(config["max_position_embeddings"])
    if covered.knows_windows or not window or int(window) >= context or config.get("use_sliding_window") is False:
        return
    yield f"llama.cpp knows no sliding window of this family: texts of more than {window} tokens are read otherwise"


def add_shape(writer: Any, config: Config) -> None:
    """Write what every family's files have."""
    heads, width = int(config["num_attention_heads"]), gguf_rope.width_of(config)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(width)
    writer.add_value_length(width)
    if config.get("rms_norm_eps") is not None:
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    else:
        writer.add_layer_norm_eps(float(config.get("layer_norm_eps") or config["norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    gguf_rope.add_rope(writer, config, width)


def add_metadata(writer: Any, config: Config, merged: Path) -> None:
    """Write what this family's files have beside the shape of a Llama."""
    add = _METADATA.get(str(config.get("model_type")))
    if add is not None:
        add(writer, config)
    if config.get("model_type") == "apertus":
        _add_activation(writer, merged)


def _add_gemma2(writer: Any, config: Config) -> None:
    writer.add_attn_logit_softcapping(float(config["attn_logit_softcapping"]))
    writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))
    _add_window(writer, config)


def _add_window(writer: Any, config: Config) -> None:
    writer.add_sliding_window(int(config["sliding_window"]))


def _add_turns(writer: Any, config: Config) -> None:
    """The window and which layers have it, where any has."""
    narrow = [kind == "sliding_attention" for kind in config.get("layer_types") or ()]
    if any(narrow):
        _add_window(writer, config)
        writer.add_sliding_window_pattern(narrow)


def _add_phi3(writer: Any, config: Config) -> None:
    known = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(int(known))
    # llama.cpp tells Phi-4 from the others by a window of 0.
    writer.add_sliding_window(int(config.get("sliding_window") or 0))


def _add_experts(writer: Any, config: Config) -> None:
    writer.add_expert_count(experts_of(config))
    writer.add_expert_used_count(int(config["num_experts_per_tok"]))


def _add_qwen3_moe(writer: Any, config: Config) -> None:
    _add_experts(writer, config)
    writer.add_expert_feed_forward_length(int(config["moe_intermediate_size"]))


def _add_qwen2_moe(writer: Any, config: Config) -> None:
    _add_qwen3_moe(writer, config)
    writer.add_expert_shared_feed_forward_length(int(config["shared_expert_intermediate_size"]))


def _add_ministral3(writer: Any, config: Config) -> None:
    rope = gguf_rope.parameters_of(config)
    writer.add_rope_scaling_yarn_log_mul(float(rope["mscale_all_dim"]))
    writer.add_attn_temperature_scale(float(rope["llama_4_scaling_beta"]))


def _add_granite(writer: Any, config: Config) -> None:
    writer.add_attention_scale(float(config["attention_multiplier"]))
    writer.add_embedding_scale(float(config["embedding_multiplier"]))
    writer.add_residual_scale(float(config["residual_multiplier"]))
    writer.add_logit_scale(float(config["logits_scaling"]))


def _add_cohere2(writer: Any, config: Config) -> None:
    writer.add_logit_scale(float(config["logit_scale"]))
    _add_window(writer, config)


def _add_sections(writer: Any, config: Config) -> None:
    """How a head's positions are shared out to time, height and width; text has the same in each."""
    if WRAPPED in config:
        sections = [int(size) for size in gguf_rope.parameters_of(config).get("mrope_section") or ()]
        writer.add_rope_dimension_sections((sections + [0] * 4)[:4])


def _add_qwen3(writer: Any, config: Config) -> None:
    _add_sections(writer, config)
    if WRAPPED in config:
        writer.add_num_deepstack_layers(len(config["vision_config"].get("deepstack_visual_indexes") or ()))


def _add_activation(writer: Any, merged: Path) -> None:
    """Four numbers a layer of Apertus' activation, in the order of its layers."""
    found: dict[str, dict[int, float]] = {end: {} for end in AS_METADATA}
    for path in sorted(merged.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                end = next((end for end in AS_METADATA if key.endswith(end)), None)
                if end is not None:
                    found[end][int(key.split(".")[2])] = float(file.get_tensor(key).float().item())
    for add, end in zip(
        (writer.add_xielu_alpha_p, writer.add_xielu_alpha_n, writer.add_xielu_beta, writer.add_xielu_eps),
        AS_METADATA,
        strict=True,
    ):
        add([value for _, value in sorted(found[end].items())])


_METADATA: dict[str, Callable[[Any, Config], None]] = {
    "cohere2": _add_cohere2,
    "exaone4": _add_turns,
    "gemma2": _add_gemma2,
    "gemma3_text": _add_window,
    "granite": _add_granite,
    "ministral3": _add_ministral3,
    "mixtral": _add_experts,
    "olmo3": _add_turns,
    "olmoe": _add_experts,
    "phi3": _add_phi3,
    "qwen2_5_vl_text": _add_sections,
    "qwen2_moe": _add_qwen2_moe,
    "qwen2_vl_text": _add_sections,
    "qwen3_moe": _add_qwen3_moe,
    "qwen3_vl_text": _add_qwen3,
}
