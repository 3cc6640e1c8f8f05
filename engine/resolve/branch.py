"""A new run that begins with the state of another: more steps, another rate, other data.

Weights are kept, and with them the optimizer's moments where they mean the same; the schedule, the order of the data
and the count of steps begin anew. What decides which parameters learn cannot be changed. Not here: the files that a
run begins with (`engine.runs.start`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.hardware.machine import Machine
from engine.profile.edits import edits_of
from engine.profile.fieldspec import leaves
from engine.profile.load import load_text
from engine.profile.overrides import split_override
from engine.profile.save import edited_text
from engine.profile.schema_problems import show
from engine.profile.template_file import is_template_file, kept_template, read_template
from engine.profile.tomltext import BadToml, parse, read_text
from engine.resolve.remedies import PINNED
from engine.resolve.resolve import Resolved, resolve_profile
from engine.runs.checkpoint import Checkpoint, flaw, list_checkpoints, newest_whole
from engine.runs.follow import fold_run
from engine.runs.launch import start_run
from engine.runs.record import RunRecord, read_record
from engine.runs.start import BRANCH, Start, branch_files, refuse_incomplete
from engine.runs.state import LIVE_STATES, run_state
from engine.runs.store import Run

LAST, BEST = "last", "best"
_BATCH = (
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.total_batch_size",
)
_PARAMETERS = (
    "model.name_or_path",
    "model.revision",
    "model.initialise",
    "model.additional_special_tokens",
    "tuning.method",
    "tuning.trainable_layers",
    "lora.r",
    "lora.alpha",
    "lora.target_modules",
    "lora.experts",
    "lora.modules_to_save",
    "lora.bias",
    "lora.init",
    "lora.use_rslora",
    "lora.use_dora",
)
"""Settings that decide what the trained values are and mean."""
_OF_ADAPTER = ("model.additional_special_tokens", *(key for key in _PARAMETERS if key.startswith("lora.")))
"""What an adapter may have decided that its run began with."""
_MOMENTS = ("train.optim", "model.dtype", "train.objective")
"""Settings that decide what an optimizer's moments are and mean."""
_REFERENCED = ("dpo", "kto")
_NAMES = ("name", "description", "schema_version", "tuning.adapter")
"""Settings without a word in the differences: they change nothing here."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A new run before it starts: its settings, its profile, and what it begins with."""

    parent: Run
    resolved: Resolved
    text: str
    start: Start
    remarks: tuple[str, ...]
    """What is kept and what begins anew, in words."""

    @property
    def differences(self) -> tuple[str, ...]:
        """Each setting that is another one than in the parent."""
        return tuple(f"{key}: {_shown(was)} → {_shown(now)}" for key, was, now in self.start.differences)


def plan_branch(run: Run, overrides: Sequence[str], which: str, machine: Machine) -> Branch:
    """The run that `overrides` make of `run`, from its checkpoint `which`: `last`, `best` or a step.

    Edits of its profile.toml count. Raises EngineError with all that speaks against it; nothing is made yet.
    """
    state = run_state(run)
    if state in LIVE_STATES:
        hint = f"wait for its end, or: engine runs stop {run.id}"
        raise _error(f"run {run.id} is {state}", hint, ExitCode.RESOURCES)
    record = read_record(run.path)
    refuse_incomplete(run.path, record.start)
    checkpoint = choose_checkpoint(run, which)
    text, path = _profile_of(run, record, [split_key(one) for one in overrides])
    resolved = resolve_profile(load_text(text, path, overrides), machine)
    now = dict(leaves(resolved.settings.model_dump(mode="json")))
    was = dict(leaves(record.settings))
    _refuse_other_parameters(run, was, now)
    lost = [key for key in _MOMENTS if was.get(key) != now.get(key)]
    lost += ["lora.plus_ratio"] if (was.get("lora.plus_ratio") is None) != (now.get("lora.plus_ratio") is None) else []
    referenced = was.get("train.objective") in _REFERENCED and now.get("train.objective") in _REFERENCED
    files = branch_files(run.path, checkpoint.path, record.start, moments=not lost)
    start = Start(
        kind=BRANCH,
        run=run.id,
        path=str(checkpoint.path),
        step=checkpoint.step,
        moments=not lost,
        new_reference=not referenced,
        differences=tuple(_differences(was, now)),
        files=files,
    )
    return Branch(
        run, replace(resolved, start=start), text, start, tuple(_remarks(run, start, lost, referenced, resolved))
    )


def start_branch(branch: Branch, name: str | None = None) -> tuple[Run, subprocess.Popen[bytes]]:
    """Make the new run and start its worker."""
    title = name or branch.resolved.settings.name or branch.resolved.profile_path.stem
    return start_run(title, branch.resolved.to_run_json(), branch.text)


def choose_checkpoint(run: Run, which: str) -> Checkpoint:
    """A whole checkpoint of a run. Raises EngineError(MODEL) that lists those that are there."""
    folder = run.path / "checkpoints"
    there = list_checkpoints(folder)
    steps = ", ".join(str(each.step) for each in there)
    hint = f"there are those of step {steps}" if steps else "name its adapter as tuning.adapter of a new profile"
    if which == LAST:
        found = newest_whole(folder, lambda _, __: None)
        if found is None:
            raise _error(f"run {run.id} has no whole checkpoint", hint, ExitCode.MODEL)
        return found
    step = _best_step(run) if which == BEST else int(which) if which.isdecimal() else None
    if step is None:
        message = f"run {run.id} has no best evaluation" if which == BEST else f"'{which}' is no step"
        raise _error(message, f"use --checkpoint {LAST}, or a step: {steps}" if steps else hint, ExitCode.PROFILE)
    named = next((each for each in there if each.step == step), None)
    if named is None:
        raise _error(f"run {run.id} keeps no checkpoint of step {step}", hint, ExitCode.MODEL)
    wrong = flaw(named.path)
    if wrong:
        raise _error(f"the checkpoint of step {step} is damaged: {wrong}", hint, ExitCode.MODEL)
    return named


def _best_step(run: Run) -> int | None:
    step = fold_run(run)[0].best_eval.get("step")
    return int(step) if isinstance(step, (int, float)) else None


def split_key(text: str) -> str:
    """The key of an override; an override that is none is told later, with the others."""
    try:
        return split_override(text)[0]
    except ValueError:
        return ""


def _profile_of(run: Run, record: RunRecord, set_keys: Sequence[str]) -> tuple[str, Path]:
    """The run's profile with what was chosen for it pinned, but for what a person has edited or sets now."""
    file = run.path / "profile.toml"
    try:
        text = read_text(file)
        written = dict(leaves(parse(text, file.name)))
        edited = {edit.key for edit in edits_of(record, file)}
    except BadToml as error:
        raise problems_error([error.problem], ExitCode.PROFILE, str(file)) from None
    path = record.profile_path or (record.base_dir or run.path) / "profile.toml"
    own = edited | set(set_keys)
    pins = {key: record.setting(key) for key in PINNED if written.get(key, "auto") == "auto"}
    pins = {key: value for key, value in pins.items() if value is not None} | record.overridden
    if "train.objective" in own:
        pins.pop("train.learning_rate", None)
    if own & set(_BATCH):
        pins = {key: value for key, value in pins.items() if key not in _BATCH or key in record.overridden}
    else:
        pins |= {key: record.setting(key) for key in _BATCH[:2]} | {_BATCH[2]: None}
    if record.start is not None:
        pins |= {key: record.setting(key) for key in _OF_ADAPTER} | {"tuning.adapter": None}
    return edited_text(text, {key: value for key, value in pins.items() if key not in own}, path), path


def _refuse_other_parameters(run: Run, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    keys = [key for key in _PARAMETERS if key in was and was[key] != now.get(key)]
    if was.get("tuning.method") != "freeze":
        keys = [key for key in keys if key != "tuning.trainable_layers"]
    if (was.get("train.objective") == "reward") != (now.get("train.objective") == "reward"):
        keys.append("train.objective")
    if was.get("lora.init") == "pissa" and was.get("train.seed") != now.get("train.seed"):
        keys.append("train.seed")
    if now.get("tuning.adapter") is not None:
        keys.append("tuning.adapter")
    hint = "leave it as it was; a run with other parameters begins anew: engine train"
    problems = [
        Problem(
            f"{key}: {_shown(was.get(key))} → {_shown(now.get(key))}: the state of run {run.id} does not fit",
            hint,
            "--set",
            key,
        )
        for key in keys
    ]
    if problems:
        raise problems_error(problems, ExitCode.PROFILE, f"branch of {run.id}")


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in [*now, *(key for key in was if key not in now)]:
        is_known = key in was or key.startswith("data.datasets.")
        if is_known and was.get(key) != now.get(key) and key not in _NAMES:
            yield key, was.get(key), now.get(key)


def _remarks(run: Run, start: Start, lost: Sequence[str], referenced: bool, resolved: Resolved) -> Iterator[str]:
    best = _best_step(run)
    step = f"step {start.step}"
    if best is not None and best != start.step:
        step += f"; its best evaluation was step {best}: --checkpoint {BEST}"
    yield f"weights are those of {step}"
    if lost:
        yield f"the optimizer's moments begin anew: {' and '.join(lost)} is another"
    else:
        yield "the optimizer goes on with its moments"
    yield "steps, learning rate with its warm-up, and the order of the data begin anew"
    if referenced:
        yield f"answers are compared with the same model as in run {run.id}"
    name = resolved.settings.data.template
    if is_template_file(name) and kept_template(run.path) not in (None, read_template(name, resolved.base_dir)):
        yield f"the chat template in {name} is not the one of run {run.id}: conversations are written in another way"


def _shown(value: Any) -> str:
    return "not set" if value is None else show(value)


def _error(message: str, hint: str, code: ExitCode = ExitCode.PROFILE) -> EngineError:
    return EngineError(message, code=code, hint=hint)
