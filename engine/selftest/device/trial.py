"""Some training steps of a real shape with random weights through the engine's trainer, measured like a run.

The profile is resolved as for a run, so that every open setting has its usual value; `Calibrator` compares with the
prediction and keeps the figures for the next one. Not here: which shapes (`engine.selftest.cases`).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from engine.data.pack import Packed
from engine.errors import EngineError, is_out_of_memory
from engine.hardware.machine import Gpu, Machine
from engine.hardware.probe import probe_machine
from engine.measure.calibrate import Calibrator
from engine.measure.comparison import error_percent, predicted_run
from engine.measure.peaks import PhasePeaks, phase_peaks
from engine.memory.calibration_store import load_calibration
from engine.profile.load import load_text
from engine.resolve.resolve import Resolved, resolve_profile
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.runs.record import RunRecord, read_record_of
from engine.selftest.cases import STEPS
from engine.selftest.checks import FAILED, PASSED, Finding
from engine.selftest.device.build import random_model
from engine.selftest.device.training import fallbacks
from engine.text import format_bytes
from engine.train.assembly import build_trainer
from engine.train.trainer import EngineTrainer

TOLERATED_PERCENT = {"cuda": 5.0, "cpu": 10.0}
"""A prediction may be lower than the measurement by as much: half of what a comfortable fit leaves free."""
SLOWEST = 0.5
"""Of the predicted speed."""
_PROFILE = """
[model]
name_or_path = "{model}"
max_length = {max_length}
dtype = "{dtype}"
[tuning]
method = "{method}"
[quantization]
method = "{quantization}"
[[data.datasets]]
path = "demo:dates.train.jsonl"
[data]
validation_fraction = 0
[train]
per_device_train_batch_size = {micro_batch}
gradient_accumulation_steps = {accumulation}
activation_checkpointing = {checkpointing}
max_steps = {steps}
[launch]
device = "{device}"
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes and tokens per second by name, as predicted beforehand and as met."""

    predicted: dict[str, int]
    measured: dict[str, int]
    tokens_per_second: float | None
    predicted_tokens_per_second: float | None
    rough: bool
    """Whether nothing like it was published or measured, so that the predicted speed may be off by a factor."""
    kept: bool
    halved: bool
    """Whether memory ran out and the steps went on in smaller pieces."""
    ways: list[str]
    """The faster paths that were on."""
    warnings: list[str]
    slower: list[str]
    """Of the warnings, those of paths that were not taken."""

    @property
    def errors_percent(self) -> dict[str, float]:
        """Signed, below zero where too little was predicted."""
        return {name: error_percent(self.predicted[name], value) for name, value in self.measured.items()}

    def figures(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "predicted_bytes": self.predicted,
            "measured_bytes": self.measured,
            "error_percent": self.errors_percent,
            "tokens_per_second": self.tokens_per_second,
            "predicted_tokens_per_second": self.predicted_tokens_per_second,
            "kept": self.kept,
            "ways": self.ways,
            "warnings": self.warnings,
        }


def memory(params: dict[str, Any]) -> Finding:
    """Whether the closed form promised enough memory."""
    found, device = _trial(params), str(params["device"])
    errors = found.errors_percent
    names = {"allocated": "allocated", "reserved": "reserved", "device": "resident" if device == "cpu" else "device"}
    parts = [
        f"{label} {format_bytes(found.measured[name])} ({errors[name]:+.1f} %)"
        for name, label in names.items()
        if name in errors
    ]
    short = found.halved or any(error < -TOLERATED_PERCENT[device] for error in errors.values())
    parts += ["memory ran out, the steps went on in smaller pieces"] * found.halved + found.slower
    return Finding("", FAILED if short else PASSED, ", ".join(parts), found.figures())


def speed(params: dict[str, Any]) -> Finding:
    """Whether a step is about as fast as predicted."""
    found = _trial(params)
    met, promised = found.tokens_per_second, found.predicted_tokens_per_second
    if not met:
        return Finding("", FAILED, "no step could be timed", found.figures())
    text = ", ".join([f"{met:,.0f} tokens/s", *found.slower])
    if not promised:
        return Finding("", PASSED, f"{text}, nothing predicted", found.figures())
    slow = met < SLOWEST * promised and not found.rough
    rough = ", a rough prediction" if found.rough else ""
    return Finding("", FAILED if slow else PASSED, f"{text}, {promised:,.0f} predicted{rough}", found.figures())


def setting(params: dict[str, Any]) -> Finding:
    """How fast a setting is; judged beside its neighbors, not here."""
    found = _trial(params)
    met = found.tokens_per_second
    taken = format_bytes(found.measured.get("device", found.measured.get("reserved")))
    if not met or found.halved:
        return Finding("", FAILED, "memory ran out" if found.halved else "no step could be timed", found.figures())
    return Finding("", PASSED, f"{met:,.0f} tokens/s, {taken}", found.figures())


def card_of(machine: Machine) -> Gpu | None:
    """The card of this process, which sees no other."""
    return machine.gpus[0] if machine.gpus else None


def _trial(params: dict[str, Any]) -> Measured:
    machine = probe_machine(processes=False)
    resolved = _resolved(params, machine)
    with tempfile.TemporaryDirectory(dir=params["folder"]) as place:
        folder = Path(place)
        (folder / "control").mkdir()
        writer = EventWriter(folder / "events.jsonl")
        try:
            return _run(resolved, machine, Job(folder, {}, writer))
        finally:
            writer.close()


def _resolved(params: dict[str, Any], machine: Machine) -> Resolved:
    fields = {**params, "checkpointing": json.dumps(params["checkpointing"])}
    text = _PROFILE.format(steps=STEPS, **fields)
    if params.get("gpu"):
        text += f'gpu = "{params["gpu"]}"\n'
    return resolve_profile(load_text(text, Path(params["folder"], "selftest.toml")), machine)


def _run(resolved: Resolved, machine: Machine, job: Job) -> Measured:
    device = str(resolved.settings.launch.device)
    # As the worker reads it: lists, not tuples.
    record = read_record_of(json.loads(json.dumps(resolved.to_run_json())))
    calibrator, peaks = Calibrator(job, resolved.settings, record), phase_peaks(device)
    halved: list[int] = []
    try:
        trainer = _trained(resolved, job, calibrator, peaks, halved)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        calibrator.tell_out_of_memory(peaks, error)
        raise calibrator.no_way_on(peaks, error) from error
    calibrator.tell("end", peaks, trainer.meter)
    return _compared(resolved, record, machine, trainer, bool(halved))


def _trained(
    resolved: Resolved, job: Job, calibrator: Calibrator, peaks: PhasePeaks, halved: list[int]
) -> EngineTrainer:
    """The trainer after its steps; `halved` gets a number where memory ran out and smaller pieces went on."""
    settings, device = resolved.settings, str(resolved.settings.launch.device)
    keep_last = calibrator.keeps_last_layer()
    model = random_model(resolved.spec, settings, device, keep_last=keep_last, warn=job.warn)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    own = frozenset(key for key, item in resolved.provenance.items() if item["source"] in ("profile", "override"))
    trainer = build_trainer(
        job,
        settings,
        model,
        _prepared(resolved),
        given=own,
        machine=calibrator.machine,
        gpu=calibrator.gpu,
    )
    calibrator.runs_with("liger" if "liger" in trainer.ways else "plain")
    trainer.peaks = peaks

    def smaller(error: BaseException, rows: int) -> None:
        halved.append(rows)
        calibrator.tell_smaller(peaks, error, rows, trainer.state.global_step)

    trainer.on_smaller = smaller
    _unsaved(trainer)
    trainer.meter.restart()
    trainer.train()
    return trainer


def _unsaved(trainer: EngineTrainer) -> None:
    """Checkpoints would cost time and tell nothing."""
    trainer.__dict__["_save_checkpoint"] = lambda model, trial: None


def _prepared(resolved: Resolved) -> Any:
    """Random tokens, one document a sequence, for `STEPS` steps."""
    train, length = resolved.settings.train, int(resolved.settings.model.max_length)
    rows = int(train.per_device_train_batch_size) * int(train.gradient_accumulation_steps) * STEPS
    ids = np.random.default_rng(0).integers(3, min(resolved.spec.vocab_size, 30_000), (rows, length)).astype(np.int32)
    labels = ids.copy()
    labels[:, 0] = -100
    lengths = tuple(np.array([length], dtype=np.int32) for _ in range(rows))
    return SimpleNamespace(train=Packed(ids, labels, lengths, np.zeros(rows, dtype=np.int32)), validation=None)


def _compared(
    resolved: Resolved, record: RunRecord, machine: Machine, trainer: EngineTrainer, halved: bool
) -> Measured:
    device, plan = str(resolved.settings.launch.device), resolved.plan
    told = read_events(trainer.job.directory / "events.jsonl")[0]
    last = next(event for event in reversed(told) if event["type"] == "calibration" and event["stage"] == "end")
    found = {name: last["measured"].get(f"{name}_bytes") for name in ("allocated", "reserved", "device")}
    met = {name: value for name, value in found.items() if value}
    predicted = _predicted(record, machine, card_of(machine) if device == "cuda" else None, last["measured"])
    step_s = trainer.meter.median_step_s()
    positions = plan.shape.micro_batch * plan.shape.max_length * plan.shape.gradient_accumulation_steps
    return Measured(
        predicted={name: predicted[name] for name in met},
        measured=met,
        tokens_per_second=positions / step_s if step_s else None,
        predicted_tokens_per_second=plan.tokens_per_second,
        rough=plan.speed_rough,
        kept=bool(last["kept"]),
        halved=halved,
        ways=list(trainer.ways),
        warnings=[event["message"] for event in told if event["type"] == "warning"],
        slower=fallbacks(told),
    )


def _predicted(record: RunRecord, machine: Machine, gpu: Gpu | None, measured: dict[str, int]) -> dict[str, int]:
    """The closed form beside what this process takes without any model: a card's context, on a processor libraries.

    What was measured of this shape before is left out: it would only repeat itself.
    """
    run = predicted_run(record, gpu)
    if run is None:
        raise EngineError("the prediction of this shape cannot be read back")
    closed, known = run.closed_form, load_calibration(gpu, machine) if gpu else None
    own = (known.context_bytes if known else None) if gpu else measured.get("context_bytes")
    reserved = closed.reserved_bytes
    return {"allocated": closed.allocated_bytes, "reserved": reserved, "device": reserved + (own or closed.context)}
