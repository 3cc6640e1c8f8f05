"""What is bound, to which model, beside which other changes of it; and the traps that the kernels have."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.llama import modeling_llama

from engine.modeling import forward, fused_lora, liger
from engine.modeling.adapters import base_of
from engine.models.families import FAMILIES
from engine.models.family import LigerKernels
from engine.train import acceleration
from engine.train.allowed import LIGER
from tests.unit.modeling.interpreted.models import SIZES, adapted, batch, step, tiny


def bound_modules(model: Any) -> list[str]:
    return [type(module).__name__ for module in model.modules() if "forward" in module.__dict__]


def test_words_say_what_was_bound() -> None:
    assert liger.bind(tiny("llama")) == ("2 rotations", "2 gates", "5 norms", "loss")
    assert liger.bind(tiny("qwen3_moe")) == ("2 rotations", "9 norms", "loss")
    assert liger.bind(tiny("gemma4_text")) == ("18 norms", "2 gates", "loss")


def test_another_model_and_transformers_stay_as_they_are() -> None:
    before = [vars(modeling_llama)[name] for name in ("LlamaRMSNorm", "LlamaMLP", liger.ROTATION)]
    forwards = [modeling_llama.LlamaAttention.forward, modeling_llama.LlamaRMSNorm.forward]
    one, other = tiny("llama"), tiny("llama")
    plain = step(other)
    liger.bind(one)
    step(one)
    assert bound_modules(other) == []
    assert torch.equal(step(other).gradient, plain.gradient)
    assert [vars(modeling_llama)[name] for name in ("LlamaRMSNorm", "LlamaMLP", liger.ROTATION)] == before
    assert [modeling_llama.LlamaAttention.forward, modeling_llama.LlamaRMSNorm.forward] == forwards


def test_a_copy_of_a_bound_model_runs_its_own_modules() -> None:
    model = tiny("llama")
    liger.bind(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in twin.model.layers[0].input_layernorm.parameters():
            weight.zero_()
    assert step(model).loss != step(twin).loss


def test_a_family_without_kernels_is_left_alone() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    model = OPTForCausalLM(
        OPTConfig(vocab_size=61, hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=4)
    )
    assert liger.bind(model) == ()
    assert bound_modules(model) == []


def test_a_reward_model_has_no_loss_to_bind() -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model("qwen3", **SIZES, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="tunedeck_packed")
    plain = forward.document_rewards(model, batch())
    assert liger.bind(model) == ("2 rotations", "9 norms", "2 gates")
    torch.testing.assert_close(forward.document_rewards(model, batch()), plain)


def test_the_part_of_a_model_that_sees_stays_plain() -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    sees = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8}
    text, vision = {"model_type": "ministral3", **SIZES}, {"model_type": "pixtral", **sees}
    config = AutoConfig.for_model("mistral3", text_config=text, vision_config=vision)
    model = AutoModelForImageTextToText.from_config(config)
    assert liger.bind(model) == ("2 rotations", "2 gates", "5 norms", "loss")
    assert not any("forward" in module.__dict__ for module in model.model.vision_tower.modules())


def test_an_activation_that_the_kernel_does_not_compute_stays_plain() -> None:
    model = tiny("gemma3_text", hidden_activation="gelu")
    assert not any("gate" in word for word in liger.bind(model))
    assert "Gemma3MLP" not in bound_modules(model)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_adapters_and_recomputed_layers_give_the_same(fused: bool, reentrant: bool) -> None:
    model = adapted(tiny("qwen3"))
    plain = step(model)
    liger.bind(model)
    if fused:
        fused_lora.fuse(model)
    base = base_of(model)
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    base.enable_input_require_grads()
    calls = []
    original = liger.silu_mul
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liger, "silu_mul", lambda *each: calls.append(1) or original(*each))
        bound = step(model)
    assert len(calls) == 4, "each of two layers runs twice"
    assert bound.loss == pytest.approx(plain.loss, rel=1e-5)
    assert plain.apart(bound) < 1e-5


def test_fused_adapters_stay_when_kernels_are_undone() -> None:
    model = adapted(tiny("llama"))
    fused_lora.fuse(model)
    fused = bound_modules(model)
    liger.bind(model)
    liger.unbind(model)
    assert bound_modules(model) == fused != []


def test_bind_twice_is_bind_once() -> None:
    model = tiny("llama")
    assert liger.bind(model) == liger.bind(model)
    liger.unbind(model)
    assert bound_modules(model) == []


def test_the_wrong_row_for_a_norm_before_a_sum_ruins_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why `norms_in_place` is False for Gemma: the loss would be right, and the gradient many times its norm off."""
    wrong = LigerKernels("gemma", 1.0, norms_in_place=True, gate="gelu_tanh")
    monkeypatch.setitem(FAMILIES, "gemma3_text", replace(FAMILIES["gemma3_text"], kernels=wrong))
    model = tiny("gemma3_text")
    plain = step(model)
    liger.bind(model)
    bound = step(model)
    assert bound.loss == pytest.approx(plain.loss, rel=1e-5)
    assert plain.apart(bound) > 0.5


def test_a_second_backward_pass_is_wrong_in_silence() -> None:
    """The documented limit of the gate's kernel, which writes over what it kept."""
    gate, up = (torch.randn(4, 16, requires_grad=True) for _ in range(2))
    loss = liger.silu_mul(gate * 1.0, up * 1.0).sum()
    first, second = (torch.autograd.grad(loss, gate, retain_graph=True)[0] for _ in range(2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("casting", ["llama", "gemma"])
def test_casting_decides_what_is_rounded(casting: str) -> None:
    """Each way equals its own family's norm to the bit, and not the other's."""
    x = torch.randn(8, 64).bfloat16()
    weight = torch.randn(64).bfloat16()
    wide = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
    ways = {"llama": weight * wide.bfloat16(), "gemma": (weight.float() * wide).bfloat16()}
    found = liger.rms_norm(x, weight, 1e-6, 0.0, casting, False)
    other = ways["gemma" if casting == "llama" else "llama"]
    assert float((found != ways[casting]).float().mean()) < 0.01 < float((found != other).float().mean())


def test_heads_before_tokens_are_not_copied() -> None:
    """Gemma 3 norms a transposed query; what is kept is the projection's own output."""
    module = modeling_gemma3.Gemma3RMSNorm(8)
    model = torch.nn.ModuleList([module])
    module.forward = liger._norm(LigerKernels("gemma", 1.0, norms_in_place=False)).__get__(module)
    query = torch.randn(2, 5, 4, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.data_ptr()) or each, lambda each: each):
        out = module(query.transpose(1, 2))
    assert query.data_ptr() in kept
    torch.testing.assert_close(out, type(module).forward(module, query.transpose(1, 2)))
    assert out.transpose(1, 2).is_contiguous()
    liger.unbind(model)


def test_rotation_of_wider_cosines_stays_plain_where_transformers_would_widen() -> None:
    model = tiny("llama")
    liger.bind(model)
    rotation = model.model.layers[0].self_attn.forward.__func__.__globals__[liger.ROTATION]
    query, key = torch.randn(1, 4, 3, 8).bfloat16(), torch.randn(1, 2, 3, 8).bfloat16()
    cos, sin = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    assert rotation(query, key, cos, sin)[0].dtype == torch.float32


def test_several_rows_are_one_batch() -> None:
    model = tiny("llama")
    plain = step(model, batch(rows=2))
    liger.bind(model)
    assert plain.apart(step(model, batch(rows=2))) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_the_kernels_are_taken_after_they_were_compared(family: str) -> None:
    """And undone aloud where they compute something else."""
    model = adapted(tiny(family))
    told: list[str] = []
    right = acceleration.take(LIGER, model, batch(), forward.loss_sum, lambda *said: told.append(": ".join(said)))
    assert right
    assert told == []
    assert bound_modules(model)
    LIGER.undo(model)
    assert bound_modules(model) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liger, "silu_mul", lambda gate, up: gate * up)
        patch.setattr(liger, "gelu_mul", lambda gate, up: gate * up)
        assert not acceleration.take(
            LIGER, model, batch(), forward.loss_sum, lambda *said: told.append(": ".join(said))
        )
    assert told[0].startswith("kernels_fallback: norms, rotation, gate and loss go transformers' own way: the ")
    assert bound_modules(model) == []
