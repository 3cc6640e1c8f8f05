"""A faster path is judged layer by layer: right ones pass at any depth, wrong ones are named in any dtype."""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig

from engine.modeling import checkpointing, forward, fused_lora
from engine.modeling.adapters import base_of
from engine.train import acceleration, layer_check
from tests.tiny_llama import VOCABULARY, tiny_llama

DEPTH = 24


def make(dtype: torch.dtype, depth: int = DEPTH, kind: Any = LlamaConfig) -> Any:
    return tiny_llama(depth, kind=kind, stirred=False).to(dtype)


def batch() -> dict[str, Any]:
    ids = torch.randint(0, VOCABULARY, (1, 96), generator=torch.Generator().manual_seed(1))
    return {
        "input_ids": ids,
        "labels": ids.clone(),
        "position_ids": torch.arange(96)[None],
        "cu_seq_lens": torch.tensor([0, 40, 96], dtype=torch.int32),
        "max_doc_length": 56,
    }


def path(apply: Any, undo: Any = fused_lora.unfuse) -> acceleration.Acceleration:
    return acceleration.Acceleration("the path is left out", "path_fallback", apply, undo, "path", "Path")


def taken(model: Any, apply: Any) -> list[str]:
    """Warnings of taking a path; none where it was taken."""
    said: list[str] = []
    right = acceleration.take(path(apply), model, batch(), forward.loss_sum, lambda _, message: said.append(message))
    assert right == (not said)
    return said


@pytest.mark.parametrize("every", [0, 1])
def test_a_right_path_is_taken_in_a_deep_model_in_16_bits(every):
    model = make(torch.bfloat16)
    checkpointing.enable(model, every)
    assert taken(model, fused_lora.fuse) == []


def scaled(name: str, factor: float, number: int = 0) -> Any:
    """A path that makes one module's output of one layer larger."""

    def apply(model: Any) -> None:
        module = base_of(model).get_decoder().layers[number].get_submodule(name)
        plain = type(module).forward
        module.forward = MethodType(lambda self, *given, **named: plain(self, *given, **named) * factor, module)

    return apply


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["self_attn.q_proj", "mlp", "input_layernorm"])
def test_a_wrong_path_is_left_out_and_named(dtype, name):
    (said,) = taken(make(dtype, 3), scaled(name, 1.2))
    assert "in layer 0 is off by" in said


def test_a_gradient_that_is_wrong_alone_is_found():
    """The right output and the right loss, as kernels gave that wrote over a shared gradient."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return gradients[0] * 1.5

    def apply(model: Any) -> None:
        module = base_of(model).get_decoder().layers[2].mlp
        plain = type(module).forward
        module.forward = MethodType(lambda self, x: Doubled.apply(plain(self, x)), module)

    (said,) = taken(make(torch.bfloat16, 3), apply)
    assert "the gradient of mlp" in said
    assert "in layer 2" in said


def test_what_is_not_a_number_is_found():
    (said,) = taken(make(torch.bfloat16, 2), scaled("mlp", float("nan")))
    assert "nan%" in said


def test_layers_that_are_recomputed_the_reentrant_way_are_compared_too():
    model = make(torch.float32, 3)
    checkpointing.enable(model, 1, reentrant=True)
    assert taken(model, fused_lora.fuse) == []
    fused_lora.unfuse(model)
    assert taken(model, scaled("mlp", 1.2)) != []


def test_each_kind_of_layer_is_among_those_compared():
    model = make(torch.float32, 20, Gemma3TextConfig)
    layers = [each.layer for each in layer_check.chosen_layers(model)]
    assert len(layers) <= layer_check.MOST_LAYERS + 2
    decoder = base_of(model).get_decoder()
    assert {decoder.layers[0], decoder.layers[-1]} <= set(layers)
    kinds = {layer_check._kind(layer) for layer in decoder.layers}
    assert {layer_check._kind(layer) for layer in layers} == kinds


def test_nothing_is_left_behind():
    model = make(torch.float32, 2)
    taken(model, fused_lora.fuse)
    assert all(each.grad is None for each in model.parameters())
    assert not any(bool(each.any()) for name, each in model.named_parameters() if "lora_B" in name)
    layers = base_of(model).get_decoder().layers
    assert not any(layer._forward_pre_hooks for layer in layers)
