"""An adapter's file is what the model has afterwards, also where transformers renames parts of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from engine.errors import EngineError
from engine.export import merge
from engine.modeling.adapter_files import misplaced, names_as_they_are, put_in_place
from engine.modeling.adapters import load_adapter

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}

GLM = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


def model_of(kind: str) -> Any:
    options = {"laguna": EXPERTS, "glm4_moe": GLM}.get(kind, {})
    try:
        config = AutoConfig.for_model(kind, **SIZES, **options)
    except ValueError:
        pytest.skip(f"this transformers does not know {kind}")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def saved(kind: str, folder: Path) -> torch.Tensor:
    """An adapter that changes every answer, in `folder`; the logits of the model that has it."""
    names = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
    with names_as_they_are():
        adapted = get_peft_model(model_of(kind), LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    return logits(adapted)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=torch.arange(12)[None]).logits
    return found


@pytest.mark.parametrize("kind", ["llama", "laguna"])
def test_the_loaded_model_is_the_one_that_was_saved(kind: str, tmp_path: Path) -> None:
    wanted = saved(kind, tmp_path)
    assert torch.equal(logits(load_adapter(model_of(kind), tmp_path)), wanted)


@pytest.mark.parametrize(("kind", "alone"), [("llama", 0), ("laguna", 6), ("glm4_moe", 12)])
def test_an_export_counts_what_peft_alone_misplaces(
    kind: str, alone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT takes names of shared experts and dense layers for those of experts; with names as they are it does not."""
    wanted = saved(kind, tmp_path)
    monkeypatch.setattr(merge, "load_unmerged", lambda *_: model_of(kind))
    loaded, off = merge._put_on_by_peft(None, tmp_path)  # type: ignore[arg-type]
    assert off == alone
    assert torch.equal(logits(loaded), wanted)


def test_what_is_off_is_put_right(tmp_path: Path) -> None:
    wanted = saved("llama", tmp_path)
    loaded = PeftModel.from_pretrained(model_of("llama"), str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    assert put_in_place(loaded, file) == misplaced(loaded, file) == []
    damaged = next(parameter for name, parameter in loaded.named_parameters() if "lora_B" in name)
    damaged.data.zero_()
    assert len(misplaced(loaded, file)) == 1
    assert len(put_in_place(loaded, file)) == 1
    assert torch.equal(logits(loaded), wanted)


def test_a_tensor_without_a_place_is_an_error(tmp_path: Path) -> None:
    saved("llama", tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.layers.7.mlp.up_proj.lora_A.weight"] = torch.zeros(4, 32)
    save_file(tensors, file)
    with pytest.raises(EngineError, match=r"1 tensors that the model has no place for, such as .*layers\.7"):
        load_adapter(model_of("llama"), tmp_path)
