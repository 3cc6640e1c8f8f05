"""What to change when a run does not fit even in the smallest pieces: the nearest settings that would, by prediction.

A line of advice for a worker that ends. `engine.resolve.remedies` finds changes of the profile, and carries them out.
Not here: the smaller micro-batches that training tries before.
"""

from __future__ import annotations

from engine.errors import OUT_OF_MEMORY, EngineError, ExitCode
from engine.hardware.machine import Gpu, Machine
from engine.measure.comparison import PredictedRun
from engine.memory.recompute import recompute_in
from engine.memory.shape import TrainingShape
from engine.recommend.plan import Requirements
from engine.recommend.search import plan_model
from engine.text import format_bytes

_OTHERWISE = "use a smaller model, a shorter model.max_length, or a device with more memory"


def out_of_memory_error(
    error: BaseException, predicted: PredictedRun | None, machine: Machine, gpu: Gpu | None, had_bytes: int
) -> EngineError:
    """The error of the run, with remedies ranked by how little they change, each with its predicted memory.

    `had_bytes`: what the run could have had of the device.
    """
    first = (str(error).splitlines() or [type(error).__name__])[0]
    message = f"out of memory: {first}"
    if predicted is None:
        return EngineError(message, code=ExitCode.RESOURCES, cause=OUT_OF_MEMORY, hint=_OTHERWISE)
    message += (
        f" ({format_bytes(predicted.closed_form.device_bytes)} were predicted, {format_bytes(had_bytes)} to have)"
    )
    hint = "; or ".join(fitting_changes(predicted, machine, gpu, had_bytes)) or _OTHERWISE
    return EngineError(message, code=ExitCode.RESOURCES, cause=OUT_OF_MEMORY, hint=hint)


def fitting_changes(predicted: PredictedRun, machine: Machine, gpu: Gpu | None, had_bytes: int) -> tuple[str, ...]:
    """Changes that fit below what was not enough, such as `nf4: 5.2 GiB OK`; nearest first."""
    # The prediction may have said that it fits: only what takes less than it can be a remedy.
    limit = min(had_bytes, predicted.closed_form.device_bytes - 1)
    limited = _requirements(predicted.shape, limit, gpu)
    try:
        return plan_model(predicted.spec, machine, limited).alternatives
    except EngineError:
        return ()


def _requirements(shape: TrainingShape, limit_bytes: int, gpu: Gpu | None) -> Requirements:
    return Requirements(
        max_length=shape.max_length,
        total_batch=shape.micro_batch * shape.gradient_accumulation_steps,
        method=shape.method,
        compute_dtype=shape.compute_dtype,
        quantization=shape.quantization,
        micro_batch=1,
        recompute=recompute_in(shape),
        kernels=shape.kernels,
        optimizer=shape.optimizer,
        lora_r=shape.lora_r,
        lora_targets=shape.lora_targets,
        lora_dropout=shape.lora_dropout,
        lora_experts=shape.lora_experts,
        lora_bias=shape.lora_bias,
        modules_to_save=shape.modules_to_save,
        use_dora=shape.use_dora,
        memory_bytes=limit_bytes,
        gpu_uuid=gpu.uuid if gpu else None,
        device=shape.device,
    )
