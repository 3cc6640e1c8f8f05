"""Simulate training steps on the meta device and report the memory peaks of a GPU.

`simulate` runs the engine's own step (model building, packed attention, chunked loss, optimizer) under the
storage tracker. A full-depth model takes seconds, so two shallow ones are run and extended: every section
of a step grows by the same bytes with each period of layers, which a test holds at full depth.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu
from engine.memory import device, outliers
from engine.memory.allocator import Event, replay
from engine.memory.linear_attention import has_delta_rule
from engine.memory.phases import keeps_last_layer
from engine.memory.shape import TrainingShape
from engine.modeling import forward
from engine.modeling.adapters import base_of
from engine.models.alone import mixing_layers
from engine.models.spec import ModelSpec
from engine.oracle.autocast import half_precision, recompute_in_half_precision
from engine.oracle.build import (
    build_model,
    config_of_spec,
    dense_first,
    settings_for,
    transformers_config,
    with_layers,
)
from engine.oracle.extend import BACKWARD, extended, named_peaks, portion_bytes, trained_at_depth
from engine.oracle.kernels import LATE_SCRATCH, REPLACEMENTS, SCRATCH, int8_operators
from engine.oracle.meta import as_on_cuda
from engine.oracle.tracker import StorageTracker, model_tensors
from engine.train.masters import Masters
from engine.train.optimizer import build_optimizer

STEPS = 2
"""The optimizer's states exist from the first step's end: the second one shows the peak."""


@dataclass(frozen=True, slots=True)
class OracleResult:
    """Peaks in bytes of one process on one GPU, by part of the step, and what the allocator reserves."""

    load_bytes: int
    forward_bytes: int
    loss_bytes: int
    backward_bytes: int
    optimizer_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    """With `expandable_segments`, which the launcher sets."""
    reserved_default_bytes: int
    """With the allocator's default segments."""
    layers_run: tuple[int, ...]
    """Depths that were simulated; one that is not the model's own was extended from."""
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated depth."""

    layers: int
    load_bytes: int
    peaks: dict[str, int]
    trace: tuple[Event, ...]
    trained: tuple[tuple[str, tuple[int, ...]], ...]
    """Names and shapes of what the optimizer keeps fp32 masters of."""
    warnings: tuple[str, ...] = ()


def simulate(
    spec: ModelSpec,
    shape: TrainingShape,
    *,
    config: dict[str, Any] | None = None,
    gpu: Gpu | None = None,
    whole: bool = False,
) -> OracleResult:
    """Peaks of training `spec` (or the architecture in `config`, a config.json's contents) with `shape`.

    `whole` runs the full depth instead of extending. Raises EngineError for what cannot be simulated.
    """
    began = time.monotonic()
    check_shape(shape)
    model_config = transformers_config(config or config_of_spec(spec))
    depth = model_config.get_text_config().num_hidden_layers
    # The last layers that learn are the same at every depth, so a shallow model tells nothing of a deep one.
    # So are the temporaries of an optimizer that is not fused, once its portions are full.
    whole = whole or shape.method == "freeze" or shape.optimizer == "adamw_torch"
    period = math.lcm(max(1, shape.checkpoint_every), _pattern(spec, model_config))
    least = max(4 if shape.offload_inputs else 2, dense_first(model_config) + 1)
    # Where convolutions or state spaces take turns with attention, two shallow models have other turns than a deep one.
    whole = whole or (bool(mixing_layers(spec)) and len(spec.layer_groups) > 1)
    depths = (depth,) if whole else depths_for(depth, period, least)
    runs = [run_depth(spec, shape, with_layers(model_config, layers), gpu) for layers in depths]
    return _result(runs, depth, time.monotonic() - began)


def check_shape(shape: TrainingShape) -> None:
    """Raise EngineError for what the meta device cannot show."""
    if shape.device != "cuda":
        raise EngineError("the oracle simulates GPUs only", code=ExitCode.PROFILE, hint="ask without --exact")


def depths_for(depth: int, every: int, least: int = 2) -> tuple[int, ...]:
    """Two small depths with the same pattern of layers as `depth`, which repeats after `every`, or `depth` itself.

    `least`: where the first and the last layers differ from those between, more are needed to show them.
    """
    period = max(1, every)
    first = least + (depth - least) % period
    return (depth,) if depth <= first + period else (first, first + period)


def _pattern(spec: ModelSpec, config: Any) -> int:
    """After how many layers their kinds repeat, where one kind takes much more than another."""
    kinds = getattr(config.get_text_config(), "layer_types", None)
    if not has_delta_rule(spec) or not kinds:
        return 1
    return next(step for step in range(1, len(kinds) + 1) if kinds == (kinds[:step] * len(kinds))[: len(kinds)])


def run_depth(spec: ModelSpec, shape: TrainingShape, config: Any, gpu: Gpu | None) -> Run:
    """All sections of `STEPS` optimizer steps at the depth of `config`."""
    settings = settings_for(spec, shape)
    warnings: list[str] = []
    mixed = int8_operators(spec.intermediate_size, spec.hidden_size, outliers.columns(spec, shape))
    tracker = StorageTracker(SCRATCH | mixed[0], REPLACEMENTS | mixed[1], LATE_SCRATCH)
    with as_on_cuda(device.attention_kernel(spec, shape, gpu)):
        model = build_model(config, settings, shape, keeps_last=keeps_last_layer(spec, shape, gpu))
        for name, tensor in model_tensors(model):
            tracker.add(tensor, name)
        if shape.compute_dtype == "fp16":
            recompute_in_half_precision(model)
        load = tracker.live_bytes
        optimizer = build_optimizer_on_meta(model, settings, tracker, warnings)
        _mark_sections(model, tracker)
        workspace = device.cublas_bytes(gpu, "cuda") // 2
        with tracker:
            batch = partial(_batch, shape, packed=not spec.traits.packs_with, alone=bool(mixing_layers(spec)))
            for step in range(STEPS):
                _step(model, optimizer, shape, tracker, workspace if step == 0 else 0, batch)
    tracker.section("end")
    masters = isinstance(optimizer, Masters)
    trained = [(name, tuple(each.shape)) for name, each in model.named_parameters() if each.requires_grad and masters]
    layers, peaks = config.get_text_config().num_hidden_layers, named_peaks(tracker.peaks)
    return Run(layers, load, peaks, tuple(tracker.trace), tuple(trained), tuple(warnings))


def build_optimizer_on_meta(model: Any, settings: Any, tracker: StorageTracker, warnings: list[str]) -> Any:
    """The trainer's optimizer; its masters count from now on."""
    with tracker:
        return build_optimizer(model, settings, lambda _, message: warnings.append(message))


def _step(
    model: Any,
    optimizer: Any,
    shape: TrainingShape,
    tracker: StorageTracker,
    workspace: int,
    make_batch: Callable[[], dict[str, Any]],
) -> None:
    for micro in range(min(shape.gradient_accumulation_steps, 2)):
        tracker.section("forward")
        batch = make_batch()
        if micro == 0:
            tracker.hold(workspace)
        with half_precision() if shape.compute_dtype == "fp16" else contextlib.nullcontext():
            loss = forward.loss_sum(model, batch) / 2.0
        del batch
        tracker.section("head")
        if micro == 0:
            tracker.hold(workspace)
        torch.autograd.backward(loss)
        del loss
    tracker.section("optimizer")
    torch.nn.utils.clip_grad_norm_([each for each in model.parameters() if each.requires_grad], 1.0, foreach=False)
    optimizer.step()
    optimizer.zero_grad()
    model.zero_grad()


def _batch(shape: TrainingShape, *, packed: bool, alone: bool = False) -> dict[str, Any]:
    """Full rows, as `packed` documents, `alone` ones or behind a mask that leaves nothing out."""
    rows, length = shape.micro_batch, shape.max_length
    borders = borders_of(shape) if packed and not alone else torch.arange(0, rows + 1, dtype=torch.int32) * length
    tokens = {name: torch.empty((rows, length), dtype=torch.int64, device="meta") for name in ("input_ids", "labels")}
    longest = int(borders.diff().max())
    positions = torch.empty((rows, length), dtype=torch.int64, device="meta")
    found = {**tokens, "position_ids": positions, "cu_seq_lens": borders, "max_doc_length": longest, "alone": alone}
    return found if packed else {**found, "attention_mask": None}


def borders_of(shape: TrainingShape) -> torch.Tensor:
    """Where documents of equal length begin in the flattened rows, each row with a rest that is one more."""
    rows, length, each = shape.micro_batch, shape.max_length, shape.document_tokens
    if not 0 < each < length:
        return torch.arange(0, rows + 1, dtype=torch.int32) * length
    # One document less, where the rest of a row would have nothing.
    within = torch.tensor([*range(0, length - 1, each), length - 1], dtype=torch.int32)
    starts = (torch.arange(rows, dtype=torch.int32) * length)[:, None] + within
    return torch.cat([starts.flatten(), torch.tensor([rows * length], dtype=torch.int32)])


def _mark_sections(model: Any, tracker: StorageTracker) -> None:
    """Tell the tracker when the decoder is done and when the backward pass enters each layer."""
    decoder = base_of(model).get_decoder()
    decoder.register_forward_hook(lambda *_: tracker.section("loss"))
    layers = list(decoder.layers)

    def entering(index: int) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            if states.requires_grad:
                states.register_hook(lambda _: tracker.section(f"layer {index - len(layers)}"))

        return hook

    for index, layer in enumerate(layers):
        layer.register_forward_hook(entering(index))


def _result(runs: list[Run], depth: int, seconds: float) -> OracleResult:
    layers = tuple(run.layers for run in runs)
    portions = [portion_bytes(run.trained) for run in runs]
    steady = [
        {**run.peaks, "load": run.load_bytes, "optimizer": run.peaks["optimizer"] - portion}
        for run, portion in zip(runs, portions, strict=True)
    ]
    peaks = extended(steady, layers, depth)
    peaks["optimizer"] += portion_bytes(trained_at_depth(runs[-1].trained, depth))
    allocated = max(peaks.values())
    reserved = _reserved(runs, allocated)
    return OracleResult(
        load_bytes=peaks["load"],
        forward_bytes=peaks["forward"],
        loss_bytes=peaks["loss"],
        backward_bytes=max(peaks.get(name, 0) for name in BACKWARD),
        optimizer_bytes=peaks["optimizer"],
        allocated_bytes=allocated,
        reserved_bytes=max(reserved["expandable"], allocated),
        reserved_default_bytes=max(reserved["default"], allocated),
        layers_run=layers,
        seconds=seconds,
        warnings=runs[0].warnings,
    )


def _reserved(runs: list[Run], allocated: int) -> dict[str, int]:
    """By kind of segment: as replayed at full depth, else `allocated` and the larger of the holes at two depths.

    Holes follow no line: they are made by the largest tensors, most of which do not come with layers.
    """
    kinds = {"expandable": True, "default": False}
    replays = {name: [replay(run.trace, expandable=kind) for run in runs] for name, kind in kinds.items()}
    if len(runs) == 1:
        return {name: found[0].peak_reserved_bytes for name, found in replays.items()}
    return {
        name: allocated + max(each.peak_reserved_bytes - each.peak_allocated_bytes for each in found)
        for name, found in replays.items()
    }
