"""Training speed in closed form: arithmetic against a device's rate, with a floor for kernel launches.

Called by `engine.recommend` to order configurations and by `engine fit` to show tokens per second.
Step time = accumulation x max(FLOPs / rate, layers x launch time) + dequantization + optimizer.
Not here: measured speed. Ranking is robust; the absolute figure is good to about 30 % on cards with
published runs and rough elsewhere.
"""

from __future__ import annotations

from engine.hardware.machine import Cpu, Gpu
from engine.memory.activations import checkpointed_layers
from engine.memory.shape import TrainingShape
from engine.memory.states import states
from engine.models.parameters import active_parameters, linear_parameters, query_width
from engine.models.spec import ModelSpec
from engine.speed.rates import Rates, cpu_rates, gpu_rates

_LAUNCH_S = {"lora": 0.0037, "full": 0.0022}
"""Forward and backward of one layer in eager PyTorch when nothing else limits it (A100 host)."""
_RECOMPUTE_LAUNCH = 1.35
_QUANTIZED_LAUNCH = 1.4
_CPU_LAUNCH_S = 0.0038
_DEQUANTIZE_BYTES = 10.0
"""Bytes of memory traffic a parameter costs at each dequantization: four times the ideal 2.5."""
_INT8_SLOWDOWN = 1.5
_OPTIMIZER_BYTES = 28.0
"""Bytes read and written per trainable parameter in an AdamW step with fp32 masters."""


def tokens_per_second(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, cpu: Cpu | None) -> float | None:
    """Real tokens per second of training on one device; None when the device's rates are not known."""
    rates = device_rates(shape, gpu, cpu)
    return None if rates is None else speed_at(spec, shape, rates)


def device_rates(shape: TrainingShape, gpu: Gpu | None, cpu: Cpu | None) -> Rates | None:
    """Rates of the device that `shape` runs on; None when not known."""
    if shape.device == "cuda":
        return gpu_rates(gpu, shape.compute_dtype) if gpu else None
    return cpu_rates(cpu, shape.compute_dtype) if cpu else None


def speed_at(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """Tokens per second at given rates."""
    tokens = shape.micro_batch * shape.max_length
    recomputed = checkpointed_layers(spec, shape) / spec.num_hidden_layers
    work = micro_batch_flops(spec, shape) / rates.flops
    if shape.quantization == "int8":
        work *= _INT8_SLOWDOWN
    launch_s = _launch_s(spec, shape, recomputed)
    # A GPU works while the host launches ahead; a processor does one after the other.
    micro_batch_s = max(work, launch_s) if shape.device == "cuda" else work + launch_s
    if shape.quantization != "none" and shape.method != "full":
        passes = 2 + recomputed
        micro_batch_s += passes * linear_parameters(spec) * _DEQUANTIZE_BYTES / rates.bandwidth_bytes_s
    count = shape.gradient_accumulation_steps
    optimizer_s = states(spec, shape).parameters * _OPTIMIZER_BYTES / rates.bandwidth_bytes_s
    return count * tokens / (count * micro_batch_s + optimizer_s)


def micro_batch_flops(spec: ModelSpec, shape: TrainingShape) -> float:
    """FLOPs of one micro-batch: 4P a token for adapters, 6P for full, 2P more where recomputed.

    P counts the weights a token meets, with the output head; attention is causal over the sequence.
    """
    tokens = shape.micro_batch * shape.max_length
    recomputed = checkpointed_layers(spec, shape) / spec.num_hidden_layers
    active = active_parameters(spec)
    layers = active - spec.vocab_size * spec.hidden_size
    dense = (6 if shape.method == "full" else 4) * active + 2 * recomputed * layers
    span = min(shape.max_length, spec.sliding_window or shape.max_length)
    attention = 2 * span * query_width(spec) * spec.num_hidden_layers * (3 + recomputed)
    return tokens * (dense + attention)


def _launch_s(spec: ModelSpec, shape: TrainingShape, recomputed: float) -> float:
    base = _LAUNCH_S[shape.method] if shape.device == "cuda" else _CPU_LAUNCH_S
    if shape.quantization != "none":
        base *= _QUANTIZED_LAUNCH
    return spec.num_hidden_layers * base * (1 + (_RECOMPUTE_LAUNCH - 1) * recomputed)
