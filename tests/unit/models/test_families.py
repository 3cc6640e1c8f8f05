"""Every row of the table of families against transformers' own configuration and model, built without weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pytest

from engine.errors import EngineError
from engine.models.catalog import shipped_catalog
from engine.models.config import spec_from_config
from engine.models.families import _ROWS, FAMILIES, Family, family_of

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
OPTIONS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "smollm3": {"no_rope_layers": [1, 0]},
}
WRONG = {
    "qwen2_moe": "the shared expert is not counted",
    "qwen3_5_text": "linear attention layers are refused",
    "gemma3n_text": "shared and per-layer parts are refused",
    "gemma4_text": "norms, biases and per-layer embeddings are not counted",
    "gemma4_unified_text": "norms and wide global heads are not counted",
    "olmo3": "norms of queries and keys and both rotations are not counted",
    "exaone4": "norms of queries and keys are not counted",
    "glm4": "query, key and value are apart, norms after both parts are not counted",
    "gpt_oss": "biases and sinks are not counted",
    "nemotron": "biases of norms are not counted",
    "gemma3": "a wrapper: its text model is gemma3_text",
    "gemma3n": "a wrapper: its text model is gemma3n_text",
    "gemma4": "a wrapper: its text model is gemma4_text",
    "gemma4_unified": "a wrapper: its text model is gemma4_unified_text",
    "phi4": "transformers knows Phi-4 as phi3",
}
"""Families that nothing was checked for, and what their rows do not say yet."""
APART = {"smollm3": {"tied_by_default"}}
"""Columns in which a checked family keeps what it was checked with, where transformers has another default."""
OLDER = {"opt", "gpt_neox", "phi", "starcoder2", "gpt2", "gptj", "gpt_neo", "falcon"}
"""Other names for modules and sizes, learned positions, biases everywhere: sizes are rough, adapters not possible."""


@dataclass(frozen=True)
class Built:
    """transformers' model of a family: configuration, parameters, what a layer holds by name."""

    config: Any
    parameters: int
    linear: dict[str, tuple[int, int]]
    vectors: dict[str, int]


@cache
def built(name: str) -> Built:
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(name, **SIZES, **OPTIONS.get(name, {}))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layer = model.get_decoder().layers[-1]
    return Built(
        config,
        sum(each.numel() for each in model.parameters()),
        {
            path.rpartition(".")[2]: (each.in_features, each.out_features)
            for path, each in layer.named_modules()
            if isinstance(each, torch.nn.Linear)
        },
        {path: each.numel() for path, each in layer.named_parameters() if each.dim() == 1},
    )


def told_by_transformers(name: str) -> dict[str, Any]:
    """The columns of a row that transformers' own model decides."""
    found, fresh = built(name), type(built(name).config)()
    norms = [path for path in found.vectors if path.count(".") == 1 and "norm" in path]
    of_query = found.vectors.get("self_attn.q_norm.weight", 0)
    rope = fresh.rope_parameters or {}
    return {
        "alternating_windows": {"full_attention", "sliding_attention"}
        <= set(getattr(fresh, "layer_types", None) or ()),
        "gated_mlp": "down_proj" not in found.linear or bool({"gate_proj", "gate_up_proj"} & set(found.linear)),
        "fused_projections": "qkv_proj" in found.linear,
        "attention_bias": "self_attn.q_proj.bias" in found.vectors,
        "tied_by_default": bool(fresh.tie_word_embeddings),
        "norms_per_layer": len(norms),
        "query_key_norm": {0: "", SIZES["head_dim"]: "head"}.get(of_query, "width"),
        "norm_after_mlp": "post_feedforward_layernorm.weight" in norms,
        "rotary_kinds": 2 if "sliding_attention" in rope else 1,
        "scales_stream": hasattr(fresh, "residual_multiplier"),
        "soft_caps": getattr(fresh, "final_logit_softcapping", None) is not None,
    }


def rows() -> list[Any]:
    """All rows that are to agree with transformers; those in `WRONG` must not, so that a mended one is told."""
    return [
        pytest.param(row, id=row.name, marks=[pytest.mark.xfail(reason=WRONG[row.name], strict=True)])
        if row.name in WRONG
        else pytest.param(row, id=row.name)
        for row in FAMILIES.values()
        if row.name not in OLDER
    ]


@pytest.mark.parametrize("row", rows())
def test_a_row_says_what_transformers_builds(row: Family) -> None:
    told = told_by_transformers(row.name)
    different = {key for key, value in told.items() if asdict(row)[key] != value}
    assert different == APART.get(row.name, set())
    config = built(row.name).config
    spec = spec_from_config(config.to_dict(), row.name, "config.json", source="directory", path=None)
    assert spec.traits is row
    assert spec.sizes.computed_parameters == built(row.name).parameters
    assert dict(spec.sizes.linear_shapes) == built(row.name).linear


@pytest.mark.parametrize("row", [row for row in FAMILIES.values() if row.output_bias], ids=lambda row: row.name)
def test_biases_of_the_output_projection_are_counted(row: Family) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch = pytest.importorskip("torch")
    config = AutoConfig.for_model(row.name, **SIZES, attention_bias=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    if not any(name.endswith("o_proj.bias") for name, _ in model.named_parameters()):
        pytest.skip(f"this transformers has no biases in {row.name}")
    spec = spec_from_config(config.to_dict(), row.name, "config.json", source="directory", path=None)
    assert spec.sizes.computed_parameters == sum(each.numel() for each in model.parameters())


def test_names_are_distinct_and_checked_families_are_those_of_the_catalogue() -> None:
    assert len(FAMILIES) == len(_ROWS)
    assert {name for name, row in FAMILIES.items() if row.checked} == {spec.family for spec in shipped_catalog()}
    assert not {name for name in WRONG if FAMILIES[name].checked}


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


def test_an_unknown_family_counts_as_a_plain_llama() -> None:
    other = family_of("nobody-has-heard-of-it")
    assert (other.checked, other.kernels, other.gguf) == (False, None, None)
    assert (other.gated_mlp, other.norms_per_layer, other.query_key_norm) == (True, 2, "")
