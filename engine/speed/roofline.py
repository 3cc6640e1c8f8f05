"""Training speed in closed form: arithmetic against a device's rate, with a floor for kernel launches.

Step time = accumulation x max(FLOPs / rate + dequantization, layers x launch time) + optimizer; on a processor the
work is `processor.py`'s. Not here: measured speed. Ranking is robust; the absolute figure is good to about 30 % on
cards with published runs and where the device was measured, and rough elsewhere.
"""

from __future__ import annotations

from dataclasses import replace

from engine.hardware.machine import Cpu, Gpu
from engine.memory.activations import host_bytes
from engine.memory.resident import States, compute_width, states
from engine.memory.shape import TrainingShape, learns_whole, uses_kernels
from engine.models.alone import LONE_TOKENS, mixing_layers
from engine.models.spec import ModelSpec
from engine.speed import linear_attention
from engine.speed.flops import micro_batch_flops, micro_batch_tokens, recomputed_share, skipped_parameters
from engine.speed.measured import MeasuredRates
from engine.speed.processor import micro_batch_s
from engine.speed.rates import Rates, cpu_rates, gpu_rates

_LAUNCH_S = {"lora": 0.0037, "full": 0.0022, "freeze": 0.0022}
"""Forward and backward of one layer in eager PyTorch when nothing else limits it (A100 host)."""
_RECOMPUTE_LAUNCH = 1.35
_QUANTIZED_LAUNCH, _UNPACKING_LAUNCH = 1.3, 1.1
"""Launches against plain weights: bitsandbytes' three a matrix and their tensors, and one Triton kernel a matrix."""
_DEQUANTIZE_BYTES, _UNPACKING_BYTES = 5.5, 3.75
"""Bytes at the rate on paper that a 4-bit parameter costs at each dequantization, by bitsandbytes and by a Triton
kernel; 2.5 are read and written. Llama 8B on an H200: 649.5 and 640.7 ms a step; the kernel moves 3.2 of 4.8 TB/s."""
_CPU_DEQUANTIZE_BYTES = 10.0
_INT8_SLOWDOWN = {"cuda": 3.7, "cpu": 1.5}
"""LLM.int8 quantizes its input and looks for outliers in every product. Llama 1B on an H200: 424 ms a step."""
_NORM_BYTES, _ROTARY_BYTES, _GATE_BYTES = 58.0, 31.0, 8.0
"""Memory traffic a 16-bit value that kernels save in the forward pass of a norm, of the rotation, of the gate."""
_FLOPS_PER_BYTE = 90.0
"""Arithmetic that the H200 sustains while it moves a byte of that traffic. Time is taken off at this rate on all cards,
since what a card sustains includes the traffic: with a card's own bandwidth a faster memory would save less time."""
_BACKWARD_PASSES = 1.7
"""What they save in the backward pass, in forward passes. Llama 8B on an H200, by with and without, four ways."""
_MOST_GAIN = 0.22
"""Most of a pass that they are believed to save on cards where nobody measured it."""
_FORWARD_SHARE = 0.25
"""Of a pass with every layer recomputed."""
_OFFLOAD_SHARE = 0.01
"""What offloading costs where all copies hide (torchtune reports under 1 %)."""
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


def speed_at(spec: ModelSpec, shape: TrainingShape, rates: Rates, learned: States | None = None) -> float:
    """Tokens per second at given rates: of full rows, or of rows with one document of usual length each.

    `learned`: the states of `shape`, where they are known.
    """
    if mixing_layers(spec):
        shape = replace(shape, max_length=min(shape.max_length, LONE_TOKENS))
    tokens, count = micro_batch_tokens(shape), shape.gradient_accumulation_steps
    pass_s = micro_batch_s(spec, shape, rates.processor) if rates.processor else _gpu_micro_batch_s(spec, shape, rates)
    if rates.processor and shape.quantization == "int8":
        pass_s *= _INT8_SLOWDOWN["cpu"]
    if rates.processor:
        pass_s += _dequantize_s(spec, shape, rates) + _scan_s(spec, shape, rates)
    optimizer_s = (learned or states(spec, shape)).parameters * _OPTIMIZER_BYTES / rates.bandwidth_bytes_s
    return count * tokens / (count * pass_s + optimizer_s)


def _gpu_micro_batch_s(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """The larger of work and launches: a GPU computes and dequantizes while the host launches ahead."""
    work_s = micro_batch_flops(spec, shape) / rates.flops
    if shape.quantization == "int8":
        work_s *= _INT8_SLOWDOWN["cuda"]
    fastest_s = micro_batch_flops(spec, shape) / rates.most_flops if rates.most_flops else 0.0
    least_s = max((1 - _MOST_GAIN) * work_s, min(work_s, fastest_s))
    work_s = max(work_s - kernels_gain_s(spec, shape, rates), least_s) + _dequantize_s(spec, shape, rates)
    work_s += _scan_s(spec, shape, rates)
    found = max(work_s, _launch_s(spec, shape, recomputed_share(spec, shape)))
    return found + _offload_s(spec, shape, rates, found) if shape.offload_inputs else found


def _scan_s(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """Seconds a micro-batch in which the plain operators of linear attention go through memory."""
    return linear_attention.scan_bytes(spec, shape, recomputed_share(spec, shape)) / rates.bandwidth_bytes_s


def _dequantize_s(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """Seconds a micro-batch in which quantized matrices become dense, forward, backward and where recomputed.

    The same for any number of tokens.
    """
    if shape.quantization == "none" or learns_whole(shape):
        return 0.0
    recomputed = recomputed_share(spec, shape) * (spec.sizes.linear_parameters - skipped_parameters(spec, shape))
    traffic = _UNPACKING_BYTES if uses_kernels(shape) else _DEQUANTIZE_BYTES
    traffic = _CPU_DEQUANTIZE_BYTES if rates.processor else traffic
    return (2 * spec.sizes.linear_parameters + recomputed) * traffic / rates.bandwidth_bytes_s


def kernels_gain_s(spec: ModelSpec, shape: TrainingShape, rates: Rates) -> float:
    """Seconds that Triton kernels save a micro-batch against plain operators; 0 without them."""
    row = spec.traits.kernels if uses_kernels(shape) else None
    if row is None:
        return 0.0
    heads = spec.sizes.query_width + spec.sizes.key_width
    normed = spec.traits.norms_per_layer * spec.hidden_size + (heads if spec.traits.query_key_norm else 0)
    forward = _NORM_BYTES * normed + _ROTARY_BYTES * heads * row.rotary
    forward += _GATE_BYTES * spec.intermediate_size * bool(row.gate) * (not spec.num_experts)
    passes = 1 + _BACKWARD_PASSES + recomputed_share(spec, shape)
    values = micro_batch_tokens(shape) * spec.num_hidden_layers * passes
    return values * forward * compute_width(shape) / 2 * _FLOPS_PER_BYTE / rates.flops


def _offload_s(spec: ModelSpec, shape: TrainingShape, rates: Rates, pass_s: float) -> float:
    """What copying the layers' inputs out and back adds: what does not hide behind a third of the work each way.

    The forward pass is a quarter of the work or more; each copy waits for the one before it.
    """
    if not rates.host_bytes_s:
        return 0.0
    copy_s = host_bytes(spec, shape) / rates.host_bytes_s
    forward_s = pass_s * _FORWARD_SHARE
    hidden_s = max(0.0, copy_s - forward_s) + max(0.0, copy_s - (pass_s - forward_s))
    return hidden_s + _OFFLOAD_SHARE * pass_s


def _launch_s(spec: ModelSpec, shape: TrainingShape, recomputed: float) -> float:
    base = _LAUNCH_S[shape.method]
    if shape.quantization != "none" and not learns_whole(shape):
        base *= _UNPACKING_LAUNCH if uses_kernels(shape) and shape.quantization != "int8" else _QUANTIZED_LAUNCH
    each = spec.num_hidden_layers * base + linear_attention.launch_s(spec, shape)
    return each * (1 + (_RECOMPUTE_LAUNCH - 1) * recomputed)
