"""Evaluation's memory in closed form against transformers' own passes on the meta device, bfloat16, two layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from engine.memory.evaluation import cache_bytes, forward_bytes
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index
from engine.models.spec import ModelSpec
from engine.oracle.build import config_of_spec, transformers_config, with_layers
from engine.oracle.kernels import LATE_SCRATCH, SCRATCH
from engine.oracle.quantized import quantize_linears
from engine.oracle.tracker import StorageTracker, model_tensors

LAYERS = 2


class Efficient(TorchFunctionMode):
    """The kernel that takes a mask, which it wants in numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        bias = torch.empty(kwargs["attn_mask"].shape, dtype=args[0].dtype, device="meta")
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(*args[:3], bias, False, 0.0, False, scale=kwargs.get("scale"))[0]


def simulated(spec: ModelSpec, rows: int, length: int, quantization: str) -> tuple[int, int]:
    """Peaks above the weights in bytes: hidden states of padded rows, and a first pass that fills the cache."""
    from transformers import AutoModelForCausalLM

    config = with_layers(transformers_config(config_of_spec(spec)), LAYERS)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
        if quantization != "none":
            quantize_linears(model, quantization, True)
        tracker = StorageTracker(SCRATCH, None, LATE_SCRATCH)
        for name, tensor in model_tensors(model):
            tracker.add(tensor, name)
        weights = tracker.live_bytes
        batch = {"attention_mask": torch.empty((rows, 1, length, length), dtype=torch.bool)}
        batch |= {name: torch.empty((rows, length), dtype=torch.long) for name in ("input_ids", "position_ids")}
        with torch.inference_mode(), tracker, Efficient():
            tracker.section("scoring")
            model.get_decoder()(**batch, use_cache=False)
            tracker.section("answering")
            model(**batch, use_cache=True, logits_to_keep=1)
            tracker.section("end")
    return tracker.peaks["scoring"] - weights, tracker.peaks["answering"] - weights


@pytest.mark.parametrize(
    ("name", "rows", "length", "quantization", "highest"),
    [
        ("llama-3.2-1b-instruct", 4, 512, "none", 0.02),
        ("llama-3.2-1b-instruct", 1, 512, "nf4", 0.02),
        ("mistral-7b-instruct-v0.3", 1, 2048, "nf4", 0.02),
        ("gemma-3-1b-it", 2, 512, "none", 0.02),
        ("phi-3.5-mini-instruct", 1, 1024, "none", 0.04),
        ("olmo-2-0425-1b-instruct", 2, 512, "none", 0.08),
        ("qwen3-0.6b", 2, 1024, "none", 0.15),
        ("llama-3.2-1b-instruct", 1, 4096, "none", 0.15),
    ],
)
def test_passes_without_gradients(name: str, rows: int, length: int, quantization: str, highest: float) -> None:
    spec = catalog_index()[name]
    shape = TrainingShape(quantization=quantization, max_length=length)
    scoring, answering = simulated(spec, rows, length, quantization)
    formula = forward_bytes(spec, shape, rows, length)
    cache = cache_bytes(replace(spec, num_hidden_layers=LAYERS, parameters=None), rows * length, 2)
    assert -0.01 <= formula / scoring - 1 <= highest
    assert -0.01 <= (formula + cache) / answering - 1 <= highest
