"""Whole training steps for `branches.py`: a Llama of two layers in the widths of the 8B, each way that it trains."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import peft  # noqa: F401  (its import makes tensors, which must not be the card's)
import torch

from bench.dry.fake import on_card
from engine.memory.shape import TrainingShape
from engine.modeling import adapters, attention, checkpointing, forward, fused_lora, liger
from engine.modeling.load import DTYPES
from engine.models.catalog import catalog_index
from engine.oracle.build import config_of_spec, settings_for, transformers_config, with_layers
from engine.oracle.quantized import quantize_linears
from engine.train.optimizer import build_optimizer

MODEL, LAYERS = "llama-3.1-8b", 2
ROWS, LENGTH = 2, 1024
LENGTHS = (300, 724, 1000, 24)
_ALL = ("bf16", "fp16", "fp32")
_SIXTEEN = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Way:
    """How a step is taken."""

    name: str
    method: str = "lora"
    quantization: str = "none"
    fused: bool = True
    kernels: bool = False
    every: int = 1
    keep_last: bool = False
    offload: bool = False
    keep_attention: bool = False
    reentrant: bool = False
    whole_rows: bool = False
    """One document a row."""
    loss: str = "sum"
    """`sum`, or `documents`: the loss of each, for objectives that compare."""
    dtypes: tuple[str, ...] = _ALL


WAYS = (
    Way("PEFT's adapters", fused=False),
    Way("fused adapters"),
    Way("fused adapters, no checkpointing", every=0),
    Way("fused adapters, one document a row", whole_rows=True),
    Way("every 2nd layer checkpointed", every=2),
    Way("last layer kept", keep_last=True),
    Way("inputs in host memory", offload=True),
    Way("inputs in host memory, attention kept", offload=True, keep_attention=True),
    Way("attention kept", keep_attention=True),
    Way("attention kept, one document a row", keep_attention=True, whole_rows=True),
    Way("reentrant checkpointing", reentrant=True),
    Way("Liger kernels", kernels=True),
    Way("Liger kernels, PEFT's adapters", kernels=True, fused=False),
    Way("Liger kernels, inputs in host memory", kernels=True, offload=True),
    Way("nf4, PEFT's adapters", quantization="nf4", fused=False),
    Way("nf4, fused adapters", quantization="nf4"),
    Way("nf4, Liger kernels, inputs in host memory", quantization="nf4", kernels=True, offload=True),
    Way("fp4, fused adapters", quantization="fp4"),
    Way("int8, PEFT's adapters", quantization="int8", fused=False, dtypes=_SIXTEEN),
    Way("int8, fused adapters, reentrant", quantization="int8", reentrant=True, dtypes=_SIXTEEN),
    Way("full training", method="full"),
    Way("full training, Liger kernels", method="full", kernels=True),
    Way("loss of each document", loss="documents"),
    Way("loss of each document, Liger kernels", loss="documents", kernels=True),
)


def run_way(way: Way, dtype: str) -> list[str]:
    """Forward and backward; the kernels of attention. Raises AssertionError for a wrong loss or gradient."""
    lengths = (LENGTH, LENGTH) if way.whole_rows else LENGTHS
    with on_card(lengths) as watch:
        model = build(way, dtype)
        half = torch.autocast("cuda", dtype=torch.float16) if dtype == "fp16" else nullcontext()
        with half:
            loss = loss_of(way, model, batch_of(model, lengths))
        if loss.dtype != torch.float32 or loss.shape != ():
            raise AssertionError(f"the loss is {loss.dtype}, {tuple(loss.shape)}")
        loss.backward()  # type: ignore[no-untyped-call]
        check_gradients(model)
        update(model, way, dtype)
        return watch.kernels


def build(way: Way, dtype: str) -> Any:
    """The model as the worker loads and wraps it."""
    from transformers import AutoModelForCausalLM

    attention.register()
    spec = catalog_index()[MODEL]
    shape = TrainingShape(method=way.method, compute_dtype=dtype, quantization=way.quantization)
    settings = settings_for(spec, shape)
    config = with_layers(transformers_config(config_of_spec(spec)), LAYERS)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], attn_implementation=attention.NAME)
        model.config.use_cache = False
        if way.method == "lora":
            model.requires_grad_(False)
            if way.quantization != "none":
                quantize_linears(model, way.quantization, True)
            model = adapters.attach(model, settings)
        else:
            adapters.set_trainable_dtype(model, settings)
    checkpointing.enable(
        model,
        way.every,
        keep_last=way.keep_last,
        offload=way.offload,
        keep_attention=way.keep_attention,
        reentrant=way.reentrant,
        warn=no_warning,
    )
    if way.fused and way.method == "lora":
        fused_lora.fuse(model)
    if way.kernels and not liger.bind(model):
        raise AssertionError("no module was bound to Liger's functions")
    return model.train()


def no_warning(code: str, message: str) -> None:
    """A warning of the offload means that it does not do what it should."""
    raise AssertionError(f"{code}: {message}")


def batch_of(model: Any, lengths: tuple[int, ...]) -> dict[str, Any]:
    """A packed batch on the card, every token trained."""

    def ids(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.int64, device="cuda")

    count = ROWS * LENGTH - len(lengths)
    return {
        "input_ids": ids(ROWS, LENGTH),
        "labels": ids(ROWS, LENGTH),
        "position_ids": ids(ROWS, LENGTH),
        "trained": ids(count),
        "targets": ids(count),
        "cu_seq_lens": torch.empty(len(lengths) + 1, dtype=torch.int32, device="cuda"),
        "max_doc_length": max(lengths),
        "real_tokens": ROWS * LENGTH,
    }


def loss_of(way: Way, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """What is minimized."""
    if way.loss == "documents":
        losses, _ = forward.document_losses(model, batch)
        return losses.sum()
    return forward.loss_sum(model, batch)


def update(model: Any, way: Way, dtype: str) -> None:
    """One step of the optimizer that the engine takes for this model."""
    shape = TrainingShape(method=way.method, compute_dtype=dtype, quantization=way.quantization)
    build_optimizer(model, settings_for(catalog_index()[MODEL], shape), no_warning).step()


def check_gradients(model: Any) -> None:
    """Every parameter that learns has a gradient like itself, on the card."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = parameter.grad
        if gradient is None:
            raise AssertionError(f"{name} gets no gradient")
        if (gradient.shape, gradient.dtype, gradient.device.type) != (parameter.shape, parameter.dtype, "cuda"):
            raise AssertionError(f"the gradient of {name} is {gradient.dtype}, {tuple(gradient.shape)}")
