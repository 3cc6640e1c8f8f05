"""Stages in a row, checked together before the first begins, and resolved one by one.

A stage is an ordinary profile; from the second on it begins with the adapter that the one before has left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.hardware.machine import Machine
from engine.profile.findings import error_of
from engine.profile.load import LoadedProfile, load_text
from engine.resolve.adapter import KEY, Adapter, adapter_findings, with_adapter
from engine.resolve.check import examine
from engine.resolve.resolve import Resolved, resolve_profile
from engine.runs.record import RunRecord
from engine.runs.stages import StageProfile, StageRow
from engine.runs.start import STAGE
from engine.runs.store import Run


def check_stages(row: StageRow, machine: Machine) -> None:
    """Raise EngineError with everything that would keep a stage from starting, before any has begun."""
    before: Resolved | None = None
    problems: list[Problem] = []
    codes: set[ExitCode] = set()
    for number, stage in enumerate(row.stages, 1):
        try:
            before = _checked(number, row.count, stage, before, machine)
        except EngineError as error:
            codes.add(error.code)
            problems += error.problems or [Problem(error.message, error.hint, error.where)]
    if problems:
        raise problems_error(problems, codes.pop() if len(codes) == 1 else ExitCode.PROFILE, "stages")


def _checked(number: int, count: int, stage: StageProfile, before: Resolved | None, machine: Machine) -> Resolved:
    loaded = _loaded(stage)
    if number > 1 and loaded.is_given(KEY):
        raise _error(stage, f"{KEY}: stage {number} begins with the adapter of stage {number - 1}", "leave it out")
    if before is not None:
        loaded = _begun(loaded, _to_come(number - 1, before))
    resolved = resolve_profile(loaded, machine)
    method = resolved.settings.tuning.method
    if number < count and method != "lora":
        message = (
            f"stage {number} trains the base itself (tuning.method = '{method}') and leaves no adapter to go on from"
        )
        hint = "set tuning.method = 'lora'; or train it alone, then: engine runs branch RUN --set train.objective=…"
        raise _error(stage, message, hint)
    return resolved


def _begun(loaded: LoadedProfile, adapter: Adapter) -> LoadedProfile:
    """The profile with what `adapter` decides. Raises EngineError where the two do not go together."""
    spec = examine(loaded, None).spec
    error = None if spec is None else error_of(adapter_findings(loaded, adapter, spec), loaded)
    if error is not None:
        raise error
    return with_adapter(loaded, adapter, spec)


def _to_come(number: int, stage: Resolved) -> Adapter:
    """The adapter that a stage will leave, as far as it decides settings of the next."""
    settings, lora = stage.settings, stage.settings.lora
    # PiSSA's adapter is saved as one on the original base: of twice the rank, with the same scale.
    wider = 2 if lora.init == "pissa" else 1
    targets = [] if isinstance(lora.target_modules, str) else lora.target_modules
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if settings.train.objective == "reward" else "CAUSAL_LM",
        "base_model_name_or_path": settings.model.name_or_path,
        "revision": settings.model.revision,
        "r": wider * lora.r,
        "lora_alpha": (math.sqrt(wider) if lora.use_rslora else wider) * lora.alpha,
        "target_modules": targets,
        "modules_to_save": lora.modules_to_save,
        "bias": lora.bias,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "target_parameters": ["experts"] if lora.experts else None,
    }
    record = RunRecord({}, settings.model_dump(mode="json"), base_dir=stage.base_dir)
    return Adapter(Path(f"stage {number}"), config, record=record)


def resolve_stage(row: StageRow, before: Run | None, machine: Machine) -> tuple[Resolved, LoadedProfile]:
    """The settings of the row's own stage; `before`: the run that it begins with. Raises EngineError."""
    loaded = _loaded(row.profile, () if before is None else (f"{KEY}={before.path}",))
    resolved = resolve_profile(loaded, machine)
    if before is not None and resolved.start is not None:
        resolved = replace(resolved, start=replace(resolved.start, kind=STAGE))
    return resolved, loaded


def read_again(row: StageRow) -> tuple[StageRow, tuple[str, ...]]:
    """The row with profiles as their files are now, for stages that are still to come; and which have changed."""
    changed = dict(_changed(row))
    stages = tuple(replace(stage, text=changed.get(stage.path, stage.text)) for stage in row.stages)
    return replace(row, stages=stages), tuple(changed)


def _changed(row: StageRow) -> Iterator[tuple[str, str]]:
    for stage in row.stages[row.number - 1 :]:
        try:
            text = Path(stage.path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        if text != stage.text:
            yield stage.path, text


def _loaded(stage: StageProfile, more: tuple[str, ...] = ()) -> LoadedProfile:
    return load_text(stage.text, Path(stage.path), (*stage.overrides, *more))


def _error(stage: StageProfile, message: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, where=stage.path, hint=hint)
