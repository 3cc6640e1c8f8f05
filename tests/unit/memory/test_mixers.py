"""Layers that pass tokens on beside attention: the closed form against one simulated step, and what a plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.hardware.machine import Gpu
from engine.memory.resident import adaptable
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models import alone
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec
from engine.speed.roofline import tokens_per_second

_A100 = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
_SIZES = {
    "hidden_size": 512,
    "intermediate_size": 2304,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_hidden_layers": 3,
    "vocab_size": 2000,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {
        "layer_types": ["conv", "conv", "full_attention"],
        "num_experts": 8,
        "moe_intermediate_size": 448,
        "num_dense_layers": 1,
    },
    "lfm3": {"layer_types": ["conv", "sliding_attention", "full_attention"]},
    "falcon_h1": {"mamba_d_ssm": 768, "mamba_n_heads": 12, "mamba_d_state": 64, "mamba_chunk_size": 128},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention", "mamba"],
        "shared_intermediate_size": 1024,
        "intermediate_size": 256,
        "num_local_experts": 8,
        "mamba_n_heads": 16,
        "mamba_d_state": 128,
    },
    "nemotron_h": {"layers_block_type": ["mamba", "mlp", "mamba"], "mamba_num_heads": 16, "n_groups": 2},
}


def known(family: str) -> tuple[ModelSpec, dict[str, Any]]:
    pytest.importorskip("torch")
    from transformers import AutoConfig

    config = AutoConfig.for_model(family, **{**_SIZES, **_OPTIONS[family]}).to_dict()
    return spec_from_config(config, family, "config.json", source="directory", path=None), config


@pytest.mark.parametrize("family", _OPTIONS)
@pytest.mark.parametrize("checkpoint_every", [0, 1])
def test_the_closed_form_is_that_of_a_simulated_step(family: str, checkpoint_every: int) -> None:
    spec, config = known(family)
    from engine.oracle.simulate import simulate

    shape = TrainingShape(
        lora_targets=adaptable(spec), micro_batch=2, max_length=1024, checkpoint_every=checkpoint_every
    )
    simulated = simulate(spec, shape, config=config, gpu=_A100, whole=True).allocated_bytes
    assert -0.02 <= estimate_memory(spec, shape, gpu=_A100).allocated_bytes / simulated - 1 <= 0.05


def test_a_plan_says_that_documents_do_not_share_rows_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = known("lfm2")
    shape = TrainingShape(lora_targets=adaptable(spec))
    monkeypatch.setattr(alone, "is_installed", lambda _: False)
    notes = " ".join(estimate_memory(spec, shape, gpu=_A100).notes)
    assert "one document a row" in notes
    assert "its short convolutions would pass tokens on" in notes
    assert "pip install causal-conv1d" in notes
    on_processor = " ".join(estimate_memory(spec, replace(shape, device="cpu")).notes)
    assert "one document a row" in on_processor
    assert "causal-conv1d" not in on_processor
    monkeypatch.setattr(alone, "is_installed", lambda _: True)
    assert "causal-conv1d" not in " ".join(estimate_memory(spec, shape, gpu=_A100).notes)


def test_what_kernels_read_past_an_adapter_carries_none_and_stays_plain() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from engine.modeling import adapters, state_spaces

    spec, config = known("falcon_h1")
    assert "out_proj" not in adaptable(spec)
    assert "in_proj" in adaptable(spec)
    kept = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kept)
    assert set(adapters.linear_names(model)) == set(adaptable(spec))
    assert state_spaces.kept_plain(kept) == ["out_proj", "lm_head"]
    assert "in_proj alone" in " ".join(estimate_memory(spec, TrainingShape(lora_targets=adaptable(spec))).notes)


def test_memory_says_which_way_of_a_state_space_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = known("falcon_h1")
    shape = TrainingShape(lora_targets=adaptable(spec))
    monkeypatch.setattr(alone, "is_installed", lambda _: False)
    assert "pip install mamba-ssm causal-conv1d" in " ".join(estimate_memory(spec, shape, gpu=_A100).notes)
    monkeypatch.setattr(alone, "is_installed", lambda _: True)
    assert "the kernels that are installed take less" in " ".join(estimate_memory(spec, shape, gpu=_A100).notes)


def test_kernels_that_take_no_such_convolution_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "is_installed", lambda _: False)
    assert alone.missing_kernels(known("lfm3")[0]) == ()


def test_speed_is_that_of_short_rows_however_long_they_may_be() -> None:
    spec, _ = known("lfm2")
    shape = TrainingShape(lora_targets=adaptable(spec), max_length=2048)
    short = replace(shape, max_length=alone.LONE_TOKENS)
    assert tokens_per_second(spec, shape, _A100, None) == tokens_per_second(spec, short, _A100, None)
