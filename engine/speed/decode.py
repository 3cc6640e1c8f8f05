"""How fast a model answers on a device: time to the first token, and per token after it, one user at a time.

The first token waits for the prompt (2 FLOPs a weight and token, plus causal attention), every further
one for reading all weights and the cache once: PaLM inference analysis, arXiv 2211.05102, section 2.
Under both lies the time that eager transformers takes to launch a layer: with a slow host (Colab) it is twice
what is assumed. The figure is of this engine's own generation (transformers, eager), not of a serving system.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.memory.evaluation import cache_bytes
from engine.memory.linear_attention import answer_state_bytes
from engine.memory.resident import compute_width, weight_bytes
from engine.memory.shape import TrainingShape
from engine.models.spec import ModelSpec
from engine.speed.processor import prompt_s
from engine.speed.rates import Rates

PROMPT_TOKENS = 512
"""Prompt of the figures that are shown."""
_BANDWIDTH_SHARE = {"cuda": 0.65, "cpu": 0.8}
"""Share of the memory rate that single-row products reach."""
_LAUNCH_S = {"cuda": 0.00085, "cpu": 0.0006}
"""Forward pass of one layer in eager PyTorch when nothing else limits it."""
_QUANTIZED_LAUNCH = {"nf4": 1.6, "fp4": 1.6, "int8": 3.7}
"""Launches against plain weights. LLM.int8 quantizes its input and looks for outliers in every product."""
_DEQUANTIZED = {"nf4": 1.6, "fp4": 1.6, "int8": 2.5}
"""Time of a quantized product against reading its stored bytes: the kernels are not bound by memory alone."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds until the first token of an answer, and for each one after it."""

    first_token_s: float
    per_token_s: float


def latency(spec: ModelSpec, shape: TrainingShape, rates: Rates, prompt_tokens: int = PROMPT_TOKENS) -> Latency:
    """Answer times of the base as `shape` stores it, adapters merged, batch 1."""
    device = "cuda" if shape.device == "cuda" else "cpu"
    launch_s = spec.num_hidden_layers * _LAUNCH_S[device]
    launch_s *= _QUANTIZED_LAUNCH.get(shape.quantization, 1.0)
    prompt = min(prompt_tokens, spec.max_position_embeddings)
    read_s = _read_bytes(spec, shape, prompt) / (rates.bandwidth_bytes_s * _BANDWIDTH_SHARE[device])
    # A GPU reads while the host launches ahead; a processor does one after the other.
    step_s = read_s + launch_s if rates.processor else max(read_s, launch_s)
    work_s = prompt_s(spec, prompt, rates.processor) if rates.processor else _prompt_flops(spec, prompt) / rates.flops
    return Latency(max(work_s, launch_s) + step_s, step_s)


def _read_bytes(spec: ModelSpec, shape: TrainingShape, context: int) -> float:
    """Weights that one token meets, in their stored form, and the cache of the tokens before it."""
    width = compute_width(shape)
    stored = weight_bytes(spec, shape.quantization, shape.double_quant, width)
    met = stored * spec.sizes.active_parameters / spec.sizes.total_parameters
    seen = min(context, spec.sliding_window or context)
    return met * _DEQUANTIZED.get(shape.quantization, 1.0) + cache_bytes(spec, seen, width) + answer_state_bytes(spec)


def _prompt_flops(spec: ModelSpec, prompt: int) -> float:
    layers = spec.sizes.active_parameters - spec.vocab_size * spec.hidden_size
    span = min(prompt, spec.sliding_window or prompt)
    return prompt * (2 * layers + 2 * span * spec.sizes.query_width * spec.num_hidden_layers)
