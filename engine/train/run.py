"""A training job from run.json to saved weights, told in events."""

from __future__ import annotations

import gc
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode, is_out_of_memory
from engine.files import write_json_atomic
from engine.measure.calibrate import Calibrator
from engine.measure.peaks import PhasePeaks, phase_peaks
from engine.measure.telemetry import Telemetry
from engine.modeling import adapters, wrappers
from engine.modeling.adapters import base_of
from engine.profile.edits import edits_in_words
from engine.profile.runjson import settings_of
from engine.profile.schema import Profile
from engine.runs.checkpoint import Checkpoint, list_checkpoints, newest_whole
from engine.runs.job import Job
from engine.runs.record import SUMMARY_FILE, RunRecord, Summary, package_versions, read_record
from engine.runs.start import refuse_incomplete
from engine.train import beginning, outputs
from engine.train.assembly import build_trainer, load_data, load_model
from engine.train.prompts import prompts_of
from engine.train.trainer import EngineTrainer


def run(job: Job) -> dict[str, Any]:
    """Train the run in `job.directory`; returns outcome, step and the summary's numbers."""
    record = read_record(job.directory)
    (job.directory / SUMMARY_FILE).unlink(missing_ok=True)
    settings, base_dir = settings_of(record)
    calibrator, peaks = Calibrator(job, settings, record), phase_peaks(settings.launch.device)
    try:
        return _run(job, record, settings, base_dir, calibrator, peaks)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        calibrator.tell_out_of_memory(peaks, error)
        raise calibrator.no_way_on(peaks, error) from error


def _run(
    job: Job, record: RunRecord, settings: Profile, base_dir: Path, calibrator: Calibrator, peaks: PhasePeaks
) -> dict[str, Any]:
    refuse_incomplete(job.directory, record.start)
    resume = _choose_checkpoint(job) if job.params.get("resume") else None
    if resume is not None:
        _warn_versions(job, record)
    if job.params.get("resume"):
        edited = edits_in_words(record, job.directory)
        if edited:
            job.warn("profile_edited", edited)
    tokenizer, prepared = load_data(job, settings, base_dir)
    calibrator.meets(prepared.train.document_tokens)
    peaks.enter("load")
    start, place = record.start, job.directory
    form = beginning.form_of(place, start)
    model = load_model(job, settings, base_dir, keep_last=calibrator.keeps_last_layer(), begun=form)
    if start is not None:
        job.phase("load", str(start))
    beginning.load_before_reference(model, place, start, job.warn)
    peaks.enter("check")
    trainer = build_trainer(
        job, settings, model, prepared, given=record.given, machine=calibrator.machine, gpu=calibrator.gpu
    )
    beginning.load_first_weights(model, place, start)
    trainer.moments = beginning.moments_of(place, start)
    if trainer.as_predicted:
        calibrator.runs_with("liger" if "liger" in trainer.ways else "plain")
    else:
        calibrator.runs_otherwise()
    trainer.prompts = prompts_of(trainer, tokenizer, prepared, calibrator.step_bytes())
    trainer.peaks = peaks
    peaks.on_measured = lambda: calibrator.tell("first_steps", peaks, trainer.meter)
    trainer.on_smaller = lambda error, rows: calibrator.tell_smaller(peaks, error, rows, trainer.state.global_step)
    telemetry = Telemetry(job.events, record.prediction.device_bytes, peaks)
    _tell_start(job, trainer, record, resume)
    began = time.monotonic()
    telemetry.start()
    try:
        _train(trainer, resume)
        summary = _finish(job, trainer, tokenizer, settings, time.monotonic() - began)
        calibrator.tell("end", peaks, trainer.meter)
        return summary
    finally:
        telemetry.stop()


def _choose_checkpoint(job: Job) -> Checkpoint | None:
    folder = job.directory / "checkpoints"
    if not list_checkpoints(folder):
        job.warn("no_checkpoint", "the run had saved nothing yet: it starts from step 0")
        return None
    chosen = newest_whole(folder, lambda bad, wrong: _set_aside(job, bad, wrong))
    if chosen is None:
        raise EngineError(
            "every checkpoint of this run is damaged",
            code=ExitCode.MODEL,
            where=str(folder),
            hint="start a new run from its profile.toml",
        )
    return chosen


def _warn_versions(job: Job, record: RunRecord) -> None:
    for name, now in package_versions().items():
        before = record.versions.get(name)
        if before != now:
            job.warn("version_changed", f"{name} was {before} when the run began and is {now} now: numbers may differ")


def _set_aside(job: Job, damaged: Checkpoint, wrong: str) -> None:
    """Out of the way under another name: rotation must not keep it in place of a whole one."""
    job.warn("checkpoint_damaged", f"checkpoint step {damaged.step} is not used: {wrong}")
    aside = damaged.path.with_name(f".damaged-{damaged.path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.path.rename(aside)


def _tell_start(job: Job, trainer: EngineTrainer, record: RunRecord, resume: Checkpoint | None) -> None:
    trainable, total = adapters.parameter_counts(trainer.model)
    settings, schedule = trainer.settings, trainer.schedule
    job.events.write(
        "started",
        run=job.directory.name,
        device=_device_name(settings),
        card=record.prediction.card,
        steps_total=schedule.steps_total,
        steps_per_epoch=schedule.steps_per_epoch,
        eval_steps=schedule.eval_steps,
        save_steps=schedule.save_steps,
        resumed_from_step=resume.step if resume else None,
        trainable_parameters=trainable,
        total_parameters=total,
        **_towers(trainer.model),
        sequences=len(trainer.train_dataset),
        threads=torch.get_num_threads(),
        versions=record.versions,
    )


def _towers(model: Any) -> dict[str, Any]:
    """What is loaded beside the text model and does not learn; nothing for a model of text alone."""
    base = base_of(model)
    names = wrappers.outside_text(base)
    if not names:
        return {}
    return {"towers": list(names), "tower_parameters": adapters.count(wrappers.parameters_outside_text(base))}


def _device_name(settings: Profile) -> str:
    return torch.cuda.get_device_name() if settings.launch.device == "cuda" else "CPU"


def _train(trainer: EngineTrainer, resume: Checkpoint | None) -> None:
    job = trainer.job
    evaluates_first = resume is None and (trainer.validation is not None or trainer.prompts is not None)
    if evaluates_first:
        job.phase("evaluate", "before the first step")
    else:
        job.phase("train")
    job.stoppable.set()
    try:
        # What exists by now stays: the collector need not walk it, which would stop the host for a step's time.
        gc.collect()
        gc.freeze()
        if evaluates_first:
            trainer._evaluate(None, None)
            job.phase("train")
        trainer.meter.restart()
        if resume is not None and resume.step >= trainer.schedule.steps_total:
            trainer.checkpointer.restore(trainer, resume.path)
        else:
            trainer.train(resume_from_checkpoint=str(resume.path) if resume else None)
    finally:
        gc.unfreeze()
        job.stoppable.clear()


def _finish(job: Job, trainer: EngineTrainer, tokenizer: Any, settings: Profile, seconds: float) -> dict[str, Any]:
    job.phase("save", "weights and tokenizer")
    state = trainer.state
    used_step = trainer.checkpointer.load_best(trainer)
    if used_step != state.global_step and trainer.validation is not None:
        trainer.validation.tell_noise()
    weights = outputs.save_weights(job.directory, _as_saved(trainer.model), tokenizer, settings)
    trainable, total = adapters.parameter_counts(trainer.model)
    summary = Summary(
        outcome="stopped" if job.stop else "completed",
        reason=job.stop.reason,
        step=state.global_step,
        steps_total=state.max_steps,
        epochs=state.epoch,
        best_step=state.best_global_step,
        best_eval_loss=state.best_metric,
        weights=weights,
        weights_step=used_step,
        tokens=trainer.meter.tokens_total,
        seconds=round(seconds, 3),
        trainable_parameters=trainable,
        total_parameters=total,
        device=_device_name(settings),
        peak_allocated_bytes=trainer.peaks.whole().allocated,
    ).to_json()
    write_json_atomic(job.directory / SUMMARY_FILE, summary)
    return summary


def _as_saved(model: Any) -> Any:
    """The model with generation caching as it was: a saved configuration must not carry our switch."""
    base_of(model).config.get_text_config().use_cache = True
    return model
