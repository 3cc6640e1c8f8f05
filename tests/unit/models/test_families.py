"""Every row of the table of families against transformers' own configuration and model, built without weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import pytest

from engine.errors import EngineError
from engine.models.catalog import shipped_catalog
from engine.models.config import spec_from_config
from engine.models.families import _ROWS, FAMILIES, family_of, known_family
from engine.models.family import Family
from engine.models.spec import ModelSpec

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_TURNS = ["sliding_attention", "full_attention"]
_INPUTS = {"hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 50}
OPTIONS: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 24},
    "qwen3_moe": _EXPERTS,
    "smollm3": {"no_rope_layers": [1, 0]},
    "internlm3": {"bias": False, "qkv_bias": False},
    "mixtral": {"num_local_experts": 4},
    "granitemoe": {"num_local_experts": 4},
    "olmoe": {"num_experts": 4},
    "minimax_m2": {"num_local_experts": 4},
    "phimoe": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 80},
    "glm4_moe": {"num_hidden_layers": 3, "n_routed_experts": 4, "moe_intermediate_size": 16},
    "laguna": {**_EXPERTS, "num_hidden_layers": 3, "shared_expert_intermediate_size": 24},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_5_moe_text": {**_EXPERTS, "num_hidden_layers": 4, "shared_expert_intermediate_size": 24},
    "qwen3_next": {**_EXPERTS, "num_hidden_layers": 4, "shared_expert_intermediate_size": 24},
    "exaone4": {"num_hidden_layers": 4},
    "gemma3n_text": {
        "num_hidden_layers": 6,
        "layer_types": _TURNS * 3,
        "num_kv_shared_layers": 2,
        "intermediate_size": [40, 48, 48, 48, 48, 40],
        "activation_sparsity_pattern": [0.0] * 6,
        "laurel_rank": 4,
        **_INPUTS,
    },
    "gemma4_text": {"num_hidden_layers": 8, "layer_types": _TURNS * 4, "num_kv_shared_layers": 2, **_INPUTS},
    "gemma4_unified_text": {"num_hidden_layers": 6},
    "lfm2_moe": {**_EXPERTS, "num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    "lfm3": {"num_hidden_layers": 5},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_ssm": 64},
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 24,
    },
    "granitemoehybrid": {
        "layer_types": ["attention", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 48,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
    },
}
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {"attention_bias": True}) for name, row in FAMILIES.items() if not row.refused),
    *((name, {"mlp_bias": True}) for name, row in FAMILIES.items() if not row.refused),
    ("deepseek_v2", {"q_lora_rank": None}),
    ("lfm2", {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "conv_bias": True}),
    ("lfm3", {"use_attention_gate": False, "use_sandwich_norm": False, "conv_bias": True}),
    ("falcon_h1", {"mamba_rms_norm": True, "mamba_d_ssm": None, "mamba_n_heads": 8}),
    ("glm4_moe_lite", {"num_hidden_layers": 3}),
    ("granitemoehybrid", {"layer_types": ["mamba", "attention"], "num_local_experts": 4}),
    ("qwen2_moe", {"qkv_bias": False, "num_hidden_layers": 4, "decoder_sparse_step": 2}),
    ("qwen3_moe", {"mlp_only_layers": [0]}),
    ("glm4_moe", {"use_qk_norm": True, "n_shared_experts": 2, "first_k_dense_replace": 2}),
    ("laguna", {"num_attention_heads_per_layer": [4, 6, 4], "gating": "per-element"}),
    ("phimoe", {"lm_head_bias": True}),
    ("llama4_text", {"num_hidden_layers": 4, "interleave_moe_layer_step": 2, "attention_bias": True}),
    ("llama4_text", {"moe_layers": [0]}),
    ("gemma3n_text", {"altup_num_inputs": 2, "altup_correct_scale": False}),
    ("gemma4_text", {"use_double_wide_mlp": True, "global_head_dim": 16}),
    ("gemma4_text", {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
    (
        "gemma4_text",
        {
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 16,
        },
    ),
    ("gemma4_unified_text", {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0}),
)
"""What configurations of a family may say besides, and what changes the count."""
APART = {"smollm3": {"tied_by_default"}}
"""Columns in which a checked family keeps what it was checked with, where transformers has another default."""
OLDER = {"opt", "gpt_neox", "gpt2", "gptj", "gpt_neo", "falcon"}
"""Refused for their names alone: nothing of their rows is read."""


@dataclass(frozen=True)
class Built:
    """transformers' model of a family: configuration, parameters, linear layers by layer, vectors by name.

    Without the output of a state space, which is neither quantized nor adapted.
    """

    config: Any
    parameters: int
    biases: int
    linear: Counter[tuple[tuple[str, int, int], ...]]
    vectors: dict[str, int]
    norms: int
    """Over the residual stream of a layer."""

    @property
    def names(self) -> set[str]:
        """Linear layers of any layer."""
        return {name for layer in self.linear for name, _, _ in layer}


@cache
def built(name: str) -> Built:
    return build(name, {})


def build(name: str, options: dict[str, Any]) -> Built:
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(name, **{**SIZES, **OPTIONS.get(name, {}), **options})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # Llama 4 does not know its decoder by this name.
    layers = getattr(model.get_decoder(), "layers", None) or model.model.layers
    modules = [
        [(path.rpartition(".")[2], each) for path, each in layer.named_modules() if isinstance(each, torch.nn.Linear)
         and not (path.endswith(".out_proj") and hasattr(layer.get_submodule(path.rpartition(".")[0]), "D"))]
        for layer in layers
    ]  # fmt: skip
    return Built(
        config,
        sum(each.numel() for each in model.parameters()),
        sum(each.bias.numel() for layer in modules for _, each in layer if each.bias is not None),
        Counter(tuple(sorted((key, each.in_features, each.out_features) for key, each in layer)) for layer in modules),
        {path: each.numel() for path, each in layers[-1].named_parameters() if each.dim() == 1},
        sum(path.endswith("norm") for path, _ in layers[-1].named_children()),
    )


def told_by_transformers(name: str) -> dict[str, Any]:
    """The columns of a row that transformers' own model decides."""
    found, fresh = built(name), type(built(name).config)()
    heads = ("self_attn.q_norm.weight", "self_attn.query_layernorm.weight", "self_attn.q_layernorm.weight")
    of_query = next((found.vectors[path] for path in heads if path in found.vectors), 0)
    rope = getattr(fresh, "rope_parameters", None) or {}
    return {
        "gated_mlp": not found.names & {"up_proj", "down_proj", "c_proj", "fc2"}
        or bool({"gate_proj", "gate_up_proj"} & found.names),
        "fused_projections": "qkv_proj" in found.names,
        "fused_gate": bool({"gate_up_proj", "input_linear"} & found.names) and "qkv_proj" not in found.names,
        "attention_bias": "self_attn.q_proj.bias" in found.vectors,
        "tied_by_default": bool(fresh.tie_word_embeddings),
        "query_key_norm": {0: "", SIZES["head_dim"]: "head", 512: "head"}.get(of_query, "width"),
        "rotary_kinds": 2 if "sliding_attention" in rope else 1,
        "scales_stream": hasattr(fresh, "residual_multiplier") or hasattr(fresh, "scale_depth"),
        "soft_caps": getattr(fresh, "attn_logit_softcapping", None) is not None,
        "caps_logits": getattr(fresh, "final_logit_softcapping", None) is not None,
    }


def norms_told_by_transformers(name: str) -> dict[str, Any]:
    """The columns about norms, for families whose layers are all alike."""
    vectors, fresh = built(name).vectors, type(built(name).config)()
    weights = [path for path in vectors if path.count(".") == 1 and path.endswith("norm.weight")]
    return {
        "alternating_windows": set(_TURNS) <= set(getattr(fresh, "layer_types", None) or ()),
        "norms_per_layer": built(name).norms,
        "bare_norms": not weights,
        "biased_norms": "input_layernorm.bias" in vectors,
        "norm_after_mlp": bool({"post_feedforward_layernorm.weight", "post_mlp_layernorm.weight"} & set(weights)),
    }


def counted(row: Family, found: Built, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The spec of a built model, of a family that is refused for training too."""
    if row.refused:
        monkeypatch.setattr("engine.models.config.check_family", lambda *_, **__: replace(row, refused=""))
    return spec_from_config(found.config.to_dict(), row.name, "config.json", source="directory", path=None)


def assert_counted(spec: ModelSpec, found: Built) -> None:
    assert spec.sizes.computed_parameters == found.parameters
    assert spec.sizes.bias_parameters == found.biases
    layers: Counter[tuple[tuple[str, int, int], ...]] = Counter()
    for group in spec.sizes.groups:
        layers[tuple(sorted(group.linear))] += group.layers
    assert layers == found.linear


def rows() -> list[Any]:
    """All rows that say anything of a model."""
    return [pytest.param(row, id=row.name) for row in FAMILIES.values() if row.name not in OLDER]


@pytest.mark.parametrize("row", rows())
def test_a_row_says_what_transformers_builds(row: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_by_transformers(row.name) | ({} if row.layout else norms_told_by_transformers(row.name))
    different = {key for key, value in told.items() if asdict(row)[key] != value}
    assert different == APART.get(row.name, set())
    assert_counted(counted(row, built(row.name), monkeypatch), built(row.name))


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(name, options, id=f"{name}-{'-'.join(options)}") for name, options in VARIANTS if name not in OLDER],
)
def test_what_a_configuration_says_besides_is_counted(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = build(name, options)
    assert_counted(counted(FAMILIES[name], found, monkeypatch), found)


def test_names_are_distinct_and_checked_families_are_those_of_the_catalogue() -> None:
    assert len(FAMILIES) == len(_ROWS)
    assert {name for name, row in FAMILIES.items() if row.checked} <= {spec.family for spec in shipped_catalog()}
    names = [name for row in _ROWS for name in (row.name, *row.also)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", [row for row in FAMILIES.values() if row.gguf], ids=lambda row: row.name)
def test_gguf_names_are_llama_cpps(row: Family) -> None:
    gguf = pytest.importorskip("gguf")
    assert row.gguf is not None
    assert row.gguf.architecture in gguf.MODEL_ARCH_NAMES.values()


@pytest.mark.parametrize("row", [row for row in FAMILIES.values() if row.kernels], ids=lambda row: row.name)
def test_a_kernel_for_the_gate_has_its_activation(row: Family) -> None:
    assert row.kernels is not None
    if row.kernels.gate:
        config = built(row.name).config
        activation = getattr(config, "hidden_activation", None) or config.hidden_act
        assert activation == {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}[row.kernels.gate]


def test_a_new_row_is_all_that_a_family_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer kinds, biases, norms and width come from the row when a configuration is read and counted."""
    config = {**SIZES, "model_type": "newmodel", "layer_types": ["conv", "full_attention"]}
    with pytest.raises(EngineError, match="not known here, 'newmodel'"):
        spec_from_config(config, "new", "config.json", source="directory", path=None)
    monkeypatch.setitem(FAMILIES, "newmodel", Family(name="newmodel"))
    with pytest.raises(EngineError, match="conv layers"):
        spec_from_config(config, "new", "config.json", source="directory", path=None)
    row = Family(
        name="newmodel",
        layer_kinds=frozenset({"full_attention", "conv"}),
        gated_mlp=False,
        attention_bias=True,
        norms_per_layer=4,
        tied_by_default=True,
    )
    monkeypatch.setitem(FAMILIES, "newmodel", row)
    spec = spec_from_config(config, "new", "config.json", source="directory", path=None)
    layer = 32 * 32 * 2 + 2 * 32 * 16 + 2 * 32 * 48 + (32 + 2 * 16) + 4 * 32
    assert spec.sizes.computed_parameters == 2 * layer + 32 + 61 * 32


def test_a_family_without_a_row_has_no_kernels_and_no_gguf() -> None:
    other = family_of("nobody-has-heard-of-it")
    assert known_family("nobody-has-heard-of-it") is None
    assert (other.checked, other.kernels, other.gguf) == (False, None, None)


def test_a_wrapper_has_the_row_of_its_text_model() -> None:
    assert known_family("gemma3") is FAMILIES["gemma3_text"]
