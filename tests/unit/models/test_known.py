"""What the closed form would count wrong is refused, with what to do instead; nothing falls back to a plain Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.fit import fit, recommend
from engine.errors import EngineError, ExitCode
from engine.models.alone import why_alone
from engine.models.config import spec_from_config
from engine.models.families import FAMILIES
from engine.models.spec import ModelSpec

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}


def read(*, simulated: bool = False, **changes: Any) -> ModelSpec:
    config = {**LLAMA, **changes}
    return spec_from_config(config, "m", "config.json", source="directory", path=None, simulated=simulated)


def refusal(**changes: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        read(**changes)
    assert caught.value.code is ExitCode.MODEL
    return caught.value


def test_an_unknown_family_is_refused_with_the_way_round_and_the_nearest_name() -> None:
    error = refusal(model_type="qwen3_moee")
    assert "'qwen3_moee'" in error.message
    assert "--exact" in error.hint
    assert "'qwen3_moe'" in error.hint
    assert "nearest" not in refusal(model_type="zzz").hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hybrid_override_pattern": "M-M*"}, "hybrid_override_pattern"),
        ({"mamba_d_state": 128}, "state-space layers (mamba_d_state)"),
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"hidden_size_per_layer_input": 256}, "embeddings for each layer"),
        ({"shared_expert_intermediate_size": 96}, "an expert that every token meets"),
        ({"num_experts": 8}, "experts (num_experts)"),
        ({"use_qk_norm": True}, "norms of queries and keys"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu'"),
        ({"hidden_act": "relu2"}, "hidden_act = 'relu2'"),
        ({"model_type": "arcee", "hidden_act": "silu"}, "hidden_act = 'silu'"),
        ({"intermediate_size": [128, 256]}, "intermediate_size = [128, 256]"),
        ({"layer_types": ["full_attention", "conv"]}, "conv layers"),
    ],
)
def test_what_changes_the_count_is_refused_where_the_family_does_not_have_it(
    changes: dict[str, Any], words: str
) -> None:
    error = refusal(**changes)
    assert words in error.message
    assert error.hint
    assert "download" not in error.hint


@pytest.mark.parametrize("value", [None, 0, False, [], ""])
def test_a_key_that_says_nothing_is_no_reason(value: object) -> None:
    assert read(mlp_only_layers=value, mamba_d_state=value, use_qk_norm=value).sizes.computed_parameters > 0


def test_a_step_of_one_between_experts_is_no_reason() -> None:
    assert read(decoder_sparse_step=1).num_experts == 0


@pytest.mark.parametrize("name", sorted(name for name, row in FAMILIES.items() if row.refused))
def test_a_family_that_cannot_be_trained_says_why(name: str) -> None:
    error = refusal(model_type=name)
    assert FAMILIES[name].refused in error.message
    with pytest.raises(EngineError):
        read(model_type=name, simulated=True)


def test_the_simulation_takes_what_only_the_count_would_miss() -> None:
    assert read(model_type="hyperclovax", simulated=True).family == "hyperclovax"
    assert read(hidden_act="relu2", use_qk_norm=True, simulated=True).hidden_size == 64
    with pytest.raises(EngineError, match="state-space"):
        read(mamba_d_state=128, simulated=True)


def test_names_in_refusals_are_made_safe() -> None:
    assert "\x1b" not in str(refusal(model_type="\x1b[31mred"))
    assert "\x1b" not in str(refusal(**{"mamba_\x1b[31m": 1}))


@pytest.mark.parametrize("command", [fit, recommend], ids=lambda command: command.name)
def test_commands_show_no_number_for_an_unknown_family(tmp_path: Path, command: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "model_type": "from_tomorrow"}))
    result = CliRunner().invoke(command, [str(tmp_path), "--gpu", "A100-SXM4-80GB"])
    assert isinstance(result.exception, EngineError)
    assert result.exception.code is ExitCode.MODEL
    assert result.output == ""


def test_a_refused_family_is_told_with_its_size() -> None:
    error = refusal(
        model_type="gemma3n_text",
        num_key_value_heads=2,
        head_dim=16,
        vocab_size_per_layer_input=320,
        hidden_size_per_layer_input=8,
        laurel_rank=8,
    )
    assert "parameters)" in error.message
    assert "AltUp" in error.message


def test_nemotron_3_nano_is_counted_from_its_letters() -> None:
    """As published: a letter for each layer."""
    found = read(
        model_type="nemotron_h",
        hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        num_hidden_layers=52,
        hidden_size=2688,
        intermediate_size=1856,
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=128,
        vocab_size=131072,
        mamba_num_heads=64,
        mamba_head_dim=64,
        n_groups=8,
        ssm_state_size=128,
        n_routed_experts=128,
        num_experts_per_tok=6,
        n_shared_experts=1,
        moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712,
        tie_word_embeddings=False,
    )
    assert round(found.sizes.computed_parameters / 1e9, 2) == 31.58
    assert round(found.sizes.active_parameters / 1e9, 1) == 3.2
    assert found.num_hidden_layers == 52
    assert why_alone(found)


def test_a_format_that_can_be_dequantized_is_read_and_counted() -> None:
    assert read(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}).stored == "fp8"
    assert read().stored == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "mxfp4"}, "mxfp4, which is known of gpt-oss alone"),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "fp8 with experts in fp4"),
        ({"quant_method": "awq"}, "awq"),
        ({}, "unknown"),
    ],
)
def test_any_other_format_asks_for_the_original_weights(settings: dict[str, Any], words: str) -> None:
    error = refusal(quantization_config={"bits": 4, **settings})
    assert f"already quantized ({words})" in error.message
    assert error.hint.startswith("use the original weights")


@pytest.mark.parametrize("sides", [[128], [0, 128], ["a", "b"], 128, [True, True]])
def test_blocks_of_scales_are_two_whole_numbers(sides: Any) -> None:
    assert (
        "weight_block_size" in refusal(quantization_config={"quant_method": "fp8", "weight_block_size": sides}).message
    )


def test_granite_4_micro_is_a_plain_dense_model() -> None:
    """As published: layers named `attention`, keys of a state-space model that no layer uses."""
    found = spec_from_config(
        {
            "model_type": "granitemoehybrid",
            "hidden_size": 2560,
            "intermediate_size": 8192,
            "shared_intermediate_size": 8192,
            "num_hidden_layers": 40,
            "layer_types": ["attention"] * 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "mamba_n_heads": 64,
            "mamba_d_state": 128,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "vocab_size": 100352,
        },
        "granite-4.0-micro",
        "config.json",
        source="directory",
        path=None,
    )
    assert found.sizes.computed_parameters == pytest.approx(3.40e9, rel=0.005)
    assert found.num_experts == 0
