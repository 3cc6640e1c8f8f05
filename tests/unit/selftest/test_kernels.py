"""The comparisons find fast paths that compute something else: each is broken here on purpose."""

from __future__ import annotations

import pytest
import torch

from engine.modeling import attention, checkpointing, fused_lora, loss
from engine.selftest.checks import FAILED, PASSED
from engine.selftest.device import kernels
from engine.selftest.kernel_table import ROWS

MODEL = {"family": "llama", "dtype": "fp32", "device": "cpu"}


def test_every_row_names_a_function():
    for row in ROWS:
        module, _, name = row.run.partition(":")
        assert module == kernels.__name__
        assert callable(getattr(kernels, name))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3"])
def test_packing_as_it_is_passes(family):
    assert kernels.packed({**MODEL, "family": family}).status == PASSED


def test_documents_that_see_each_other_are_found(monkeypatch):
    real = attention.packed_attention

    def leaky(*parts, cu_seq_lens_q=None, max_length_q=None, **options):
        whole = cu_seq_lens_q[[0, -1]] if cu_seq_lens_q is not None else None
        return real(*parts, cu_seq_lens_q=whole, max_length_q=10**6, **options)

    monkeypatch.setattr(attention, "packed_attention", leaky)
    assert kernels.packed(MODEL).status == FAILED
    assert kernels.attention({"dtype": "fp32", "device": "cpu"}).status == FAILED


@pytest.mark.parametrize("broken", [{"scale": 1.02}, {"window": 6}])
def test_an_attention_kernel_that_is_a_little_off_is_found(monkeypatch, broken):
    real = attention.packed_attention
    params = {"dtype": "fp32", "device": "cpu", "window": 5}
    assert kernels.attention(params).status == PASSED

    def off(module, query, *parts, sliding_window=None, **options):
        query = query * broken.get("scale", 1.0)
        return real(module, query, *parts, sliding_window=broken.get("window", sliding_window), **options)

    monkeypatch.setattr(attention, "packed_attention", off)
    assert kernels.attention(params).status == FAILED


def test_a_loss_whose_gradient_is_off_is_found(monkeypatch):
    params = {**MODEL, "method": "full"}
    assert kernels.chunked_loss(params).status == PASSED
    real = loss.ChunkedCrossEntropy.backward

    def backward(ctx, *grads):
        hidden, weight, *rest = real(ctx, *grads)
        return hidden * 1.01, weight, *rest

    monkeypatch.setattr(loss.ChunkedCrossEntropy, "backward", staticmethod(backward))
    found = kernels.chunked_loss(params)
    assert found.status == FAILED
    assert found.figures["loss_error"] < found.figures["tolerance"] < found.figures["gradient_error"]


def test_adapters_with_another_scale_are_found(monkeypatch):
    assert kernels.fused_adapters(MODEL).status == PASSED
    real = fused_lora.fuse

    def fuse(model):
        real(model)
        for layer in fused_lora.adapted_layers(model):
            layer.scaling["default"] *= 1.5

    monkeypatch.setattr(fused_lora, "fuse", fuse)
    assert kernels.fused_adapters(MODEL).status == FAILED


def test_checkpointing_that_keeps_everything_is_found(monkeypatch):
    assert kernels.checkpointing({**MODEL, "every": 1}).status == PASSED
    monkeypatch.setattr(checkpointing, "enable", lambda model, every, **options: None)
    found = kernels.checkpointing({**MODEL, "every": 1})
    assert found.status == FAILED
    assert "ran 1 times in a step in place of twice" in found.text


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_packed_weights_that_unpack_to_others_are_found(monkeypatch, quantization):
    params = {"quantization": quantization, "dtype": "bf16", "device": "cpu"}
    assert kernels.quantized(params).status == PASSED
    real = kernels._unpack

    def others(model, dtype):
        real(model, dtype)
        for layer in model.modules():
            if type(layer) is torch.nn.Linear and not layer.weight.requires_grad:
                layer.weight.data *= 1.2

    monkeypatch.setattr(kernels, "_unpack", others)
    assert kernels.quantized(params).status == FAILED


def test_an_optimizer_with_another_decay_is_found(monkeypatch):
    params = {"dtype": "bf16", "device": "cpu"}
    assert kernels.optimizer(params).status == PASSED
    real = kernels.build_optimizer

    def build(model, settings, warn):
        more = settings.train.model_copy(update={"adam_beta2": 0.99})
        return real(model, settings.model_copy(update={"train": more}), warn)

    monkeypatch.setattr(kernels, "build_optimizer", build)
    assert kernels.optimizer(params).status == FAILED


def test_no_number_is_never_right():
    nan = (1.0, [torch.tensor([float("nan")])])
    assert kernels.compared((1.0, [torch.ones(1)]), nan, 0.1).status == FAILED
    assert kernels.compared((float("nan"), [torch.ones(1)]), (1.0, [torch.ones(1)]), 0.1).status == FAILED
