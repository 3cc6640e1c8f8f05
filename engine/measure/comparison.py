"""What was promised to a run and what is measured of it, as figures that can be compared. Pure.

Not here: reading any counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.hardware.machine import Gpu
from engine.measure.peaks import PhasePeaks, Reading
from engine.memory.calibration_store import shape_from
from engine.memory.phases import Peak, peak
from engine.memory.shape import TrainingShape
from engine.models.layers import groups_from
from engine.models.spec import ModelSpec
from engine.runs.record import Prediction, RunRecord

JUDGED = ("allocated_bytes", "reserved_bytes", "device_bytes")

Figures = dict[str, int]


@dataclass(frozen=True, slots=True)
class PredictedRun:
    """A run's model and shape, and the closed form of both without calibration."""

    spec: ModelSpec
    shape: TrainingShape
    closed_form: Peak


def promised_figures(prediction: Prediction) -> Figures:
    """The totals and the context of a run's prediction, those that are there."""
    found = {name: getattr(prediction, name) for name in (*JUDGED, "context_bytes")}
    return {name: value for name, value in found.items() if value is not None}


def error_percent(predicted: int, measured: int) -> float:
    """Signed: below zero, too little was promised."""
    return round((predicted / measured - 1) * 100, 2) if measured else 0.0


def phase_figures(phases: Mapping[str, Reading]) -> dict[str, Figures]:
    """Peaks by phase as an event holds them; on a processor the most that was resident up to a phase's end."""
    return {
        name: {"resident_bytes": reading.reserved}
        if reading.allocated is None
        else {"allocated_bytes": reading.allocated, "reserved_bytes": reading.reserved}
        for name, reading in phases.items()
    }


def is_worst(peaks: PhasePeaks, shape: TrainingShape) -> bool:
    """Whether the steps measured had whole micro-batches and, where gradients add up, a second one."""
    whole_step = peaks.micro_batches >= min(2, shape.gradient_accumulation_steps)
    return peaks.measured and peaks.rows >= shape.micro_batch and whole_step


def predicted_run(record: RunRecord, gpu: Gpu | None) -> PredictedRun | None:
    """Model and shape as the run's record has them; None where its engine did not keep them, or kept others."""
    known = {item.name for item in fields(ModelSpec)}
    if not record.prediction.shape or not record.spec.keys() <= known:
        return None
    try:
        shape = shape_from(record.prediction.shape)
        values: Any = {name: tuple(item) if isinstance(item, list) else item for name, item in record.spec.items()}
        for name in ("layer_groups", "tower_groups"):
            values[name] = groups_from(record.spec.get(name) or [])
        spec = ModelSpec(**values)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return PredictedRun(spec, shape, peak(spec, shape, gpu))
