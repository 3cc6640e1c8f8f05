"""Training speed in closed form: arithmetic against a device's rate, with a floor for kernel launches.

Called by `engine.recommend` to order configurations and by `engine fit` to show tokens per second.
Step time = accumulation x max(FLOPs / rate, layers x launch time) + dequantization + optimizer; on a processor
the first part is `processor.py`'s. Not here: measured speed. Ranking is robust; the absolute figure is good to
about 30 % on cards with published runs and where the device was measured, and rough elsewhere.
"""

from __future__ import annotations

from engine.hardware.machine import Cpu, Gpu
from engine.memory.shape import TrainingShape, learns_whole
from engine.memory.states import states
from engine.models.parameters import linear_parameters
from engine.models.spec import ModelSpec
from engine.speed.flops import micro_batch_flops, micro_batch_tokens, recomputed_share
from engine.speed.measured import MeasuredRates
from engine.speed.processor import micro_batch_s
from engine.speed.rates import Rates, cpu_rates, gpu_rates

_LAUNCH_S = {"lora": 0.0037, "full": 0.0022, "freeze": 0.0022}
"""Forward and backward of one layer in eager PyTorch when nothing else limits it (A100 host)."""
_RECOMPUTE_LAUNCH = 1.35
_QUANTIZED_LAUNCH = 1.4
_DEQUANTIZE_BYTES = 10.0
"""Bytes of memory traffic a parameter costs at each dequantization: four times the ideal 2.5."""
_INT8_SLOWDOWN = 1.5
_OPTIMIZER_BYTES = 28.0
"""Bytes read and written per trainable parameter in an AdamW step with fp32 masters."""


def tokens_per_second(
    spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, cpu: Cpu | None, measured: MeasuredRates | None = None
) -> float | None:
    """Real tokens per second of training on one device; None when the device's rates are not known."""
    rates = device_rates(shape, gpu, cpu, measured)
    return None if rates is None else speed_at(spec, shape, rates)


def device_rates(
    shape: TrainingShape, gpu: Gpu | None, cpu: Cpu | None, measured: MeasuredRates | None = None
) -> Rates | None:
    """Rates of the device that `shape` runs on, by what it was `measured` to do; None when not known."""
    if shape.device == "cuda":
        return gpu_rates(gpu, shape.compute_dtype, measured) if gpu else None
    return cpu_rates(cpu, shape.compute_dtype, measured) if cpu else None


def speed_at(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """Tokens per second at given rates."""
    tokens, count = micro_batch_tokens(shape), shape.gradient_accumulation_steps
    pass_s = micro_batch_s(spec, shape, rates.processor) if rates.processor else _gpu_micro_batch_s(spec, shape, rates)
    if rates.processor and shape.quantization == "int8":
        pass_s *= _INT8_SLOWDOWN
    if shape.quantization != "none" and not learns_whole(shape):
        passes = 2 + recomputed_share(spec, shape)
        pass_s += passes * linear_parameters(spec) * _DEQUANTIZE_BYTES / rates.bandwidth_bytes_s
    optimizer_s = states(spec, shape).parameters * _OPTIMIZER_BYTES / rates.bandwidth_bytes_s
    return count * tokens / (count * pass_s + optimizer_s)


def _gpu_micro_batch_s(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """The larger of work and launches: a GPU works while the host launches ahead."""
    work_s = micro_batch_flops(spec, shape) / rates.flops
    if shape.quantization == "int8":
        work_s *= _INT8_SLOWDOWN
    return max(work_s, _launch_s(spec, shape, recomputed_share(spec, shape)))


def _launch_s(spec: ModelSpec, shape: TrainingShape, recomputed: float) -> float:
    base = _LAUNCH_S[shape.method]
    if shape.quantization != "none":
        base *= _QUANTIZED_LAUNCH
    return spec.num_hidden_layers * base * (1 + (_RECOMPUTE_LAUNCH - 1) * recomputed)
