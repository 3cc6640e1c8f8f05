"""What was promised to a run and what is measured of it, as figures that can be compared. Pure.

Used by `calibrate.py`. Not here: reading any counter.
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
from engine.models.spec import ModelSpec

JUDGED = ("allocated_bytes", "reserved_bytes", "device_bytes")

Figures = dict[str, int]


@dataclass(frozen=True, slots=True)
class PredictedRun:
    """A run's model and shape, and the closed form of both without calibration."""

    spec: ModelSpec
    shape: TrainingShape
    closed_form: Peak


def promised_figures(estimate: dict[str, Any]) -> Figures:
    """The totals and the context of an estimate in run.json, those that are there."""
    found = {name: estimate[name] for name in JUDGED if isinstance(estimate.get(name), int)}
    terms = {term.get("name"): term.get("bytes") for term in estimate.get("terms", ()) if isinstance(term, dict)}
    return found | ({"context_bytes": terms["context"]} if isinstance(terms.get("context"), int) else {})


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


def predicted_run(run_json: dict[str, Any], gpu: Gpu | None) -> PredictedRun | None:
    """Model and shape as run.json has them; None for a run of an engine that did not keep them, or kept others."""
    try:
        shape = shape_from(run_json["estimate"]["shape"])
        known = {item.name for item in fields(ModelSpec)}
        kept: dict[str, Any] = run_json["model"]
        if not kept.keys() <= known:
            return None
        values: Any = {name: tuple(item) if isinstance(item, list) else item for name, item in kept.items()}
        spec = ModelSpec(**values)
    except (KeyError, TypeError, ValueError):
        return None
    return PredictedRun(spec, shape, peak(spec, shape, gpu))
