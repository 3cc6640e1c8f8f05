"""Adapters go where they are asked to, and names that lead nowhere are refused with the right ones."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.errors import EngineError, ExitCode
from engine.modeling import adapters
from engine.profile.schema import Profile


def settings(**lora):
    return Profile.model_validate(
        {
            "model": {"name_or_path": "tiny", "dtype": "bf16"},
            "lora": lora,
            "data": {"datasets": [{"path": "none.jsonl"}]},
        }
    )


def llama(*, tied):
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.requires_grad_(False)
    return model


def test_all_linear_means_every_linear_layer_but_the_head():
    model = adapters.attach(llama(tied=False), settings(r=4))
    names = {
        name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name
    }
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {value.dtype for value in model.parameters() if value.requires_grad} == {torch.bfloat16}
    trainable, total = adapters.parameter_counts(model)
    assert trainable == sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert total > trainable


def test_every_unknown_name_is_told_with_what_there_is():
    with pytest.raises(EngineError) as caught:
        adapters.attach(llama(tied=False), settings(target_modules=["q_prj", "v_proj"], modules_to_save=["head"]))
    assert caught.value.code is ExitCode.PROFILE
    first, second = caught.value.problems
    assert "q_prj" in first.message
    assert "did you mean 'q_proj'" in first.hint
    assert "down_proj" in first.hint
    assert second.key == "lora.modules_to_save"


def test_an_adapter_that_stands_on_a_tied_embedding_is_no_beginning(tmp_path):
    from peft import LoraConfig

    LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], task_type="CAUSAL_LM").save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="tied to the output head") as caught:
        adapters.attach(llama(tied=True), settings(), tmp_path)
    assert (caught.value.code, caught.value.where) == (ExitCode.MODEL, "tuning.adapter")


def test_an_adapter_on_a_tied_embedding_is_refused():
    adapters.attach(llama(tied=False), settings(target_modules=["embed_tokens", "q_proj"]))
    with pytest.raises(EngineError, match="tied to the output head"):
        adapters.attach(llama(tied=True), settings(target_modules=["embed_tokens", "q_proj"]))
