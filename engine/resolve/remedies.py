"""What to change when a run failed, nearest first, each change with its predicted memory and speed; and doing it.

The deck's run screen and `engine runs remedy` call this with what the run left behind. A change that keeps what
was learned goes on from the newest checkpoint in the same run; any other starts a new run. The batch of an
optimizer step stays what it was. Not here: the words that the worker ends with (`engine.measure.out_of_memory`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import OUT_OF_MEMORY, EngineError, ExitCode
from engine.hardware.machine import Machine
from engine.memory.recompute import OFFLOAD
from engine.profile.load import load_text
from engine.profile.save import edited_text
from engine.recommend.changes import Change, single, together
from engine.recommend.plan import Plan
from engine.resolve.check import examine
from engine.resolve.resolve import resolve_profile
from engine.runs.checkpoint import list_checkpoints
from engine.runs.launch import resume_run, start_run
from engine.runs.record import RunRecord, read_record
from engine.runs.store import Run

MOST = 5
SHORTEST = 256
Changes = Mapping[str, Any]
_MICRO, _ACCUMULATE, _TOTAL = (
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.total_batch_size",
)
_RATE = "train.learning_rate"
PINNED = (
    "model.dtype",
    "model.max_length",
    "quantization.method",
    "tuning.method",
    _MICRO,
    _ACCUMULATE,
    "train.activation_checkpointing",
    "train.kernels",
    "train.optim",
    _RATE,
    "launch.device",
)
"""What the machine may have chosen: a remedy changes one thing and leaves the others as the run had them."""
_KEEP_STATE = frozenset({_MICRO, _ACCUMULATE, "train.activation_checkpointing"})
"""Changes after which a checkpoint means the same: neither weights nor the order of the data depend on them."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way on. `changes`: dotted profile keys; `resumes`: from the newest checkpoint, else from step 0."""

    label: str
    changes: Changes
    resumes: bool
    device_bytes: int | None = None
    speed: float | None = None
    """Tokens per second against what the failed settings were predicted to reach."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a run left behind. `limit_bytes`: what it could have had of the device, when it ran out of memory."""

    run: Run
    code: str
    out_of_memory: bool
    record: RunRecord
    text: str
    limit_bytes: int | None = None

    def setting(self, key: str) -> Any:
        """A setting as it was resolved."""
        return self.record.setting(key)

    @property
    def path(self) -> Path:
        """The profile that the run was made from; relative paths start in its folder."""
        return self.record.profile_path or (self.record.base_dir or self.run.path) / "profile.toml"


def failure_of(run: Run, error: Mapping[str, Any], limit_bytes: float | None = None) -> Failure:
    """The failure that an `error` event tells of (empty: the worker died). Raises EngineError when files are gone."""
    try:
        text = (run.path / "profile.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise EngineError("the run's profile cannot be read", code=ExitCode.PROFILE, where=str(run.path)) from problem
    code, memory = str(error.get("code") or ""), error.get("cause") == OUT_OF_MEMORY
    return Failure(run, code, memory, read_record(run.path), text, int(limit_bytes) if limit_bytes else None)


def remedies(failure: Failure, machine: Machine) -> tuple[Remedy, ...]:
    """At most five ways on, the first of them the one to try; empty when only a person can help."""
    saved = bool(list_checkpoints(failure.run.path / "checkpoints"))
    again = (Remedy("nothing changed", {}, saved),)
    if failure.out_of_memory:
        return (*list(_smaller(failure, machine, saved))[: MOST - 1], *again)
    if failure.code == ExitCode.DIVERGED.name.lower():
        return tuple(_calmer(failure))[:MOST]
    only_a_person = (ExitCode.DATA, ExitCode.PROFILE, ExitCode.MODEL, ExitCode.ENVIRONMENT)
    return () if failure.code in [code.name.lower() for code in only_a_person] else again


# Out of memory


def _smaller(failure: Failure, machine: Machine, saved: bool) -> Iterator[Remedy]:
    was = _plan(failure, {}, machine)
    known = failure.record.prediction.device_bytes
    limits = [limit for limit in (failure.limit_bytes, known - 1 if known else None) if limit]
    priced = [
        (change, remedy) for change in _changes(failure) if (remedy := _priced(failure, change, machine, was, saved))
    ]
    fitting = [pair for pair in priced if _is_below(pair[1].device_bytes, limits)]
    # Nothing that changes what is learned where something else does; then the fewest changes, then the fastest.
    fitting.sort(key=lambda pair: (not pair[0].values.keys() <= _KEEP_STATE, len(pair[0].parts), -(pair[1].speed or 0)))
    yield from (remedy for _, remedy in fitting)


def _is_below(size_bytes: int | None, limits: list[int]) -> bool:
    return size_bytes is not None and all(size_bytes <= limit for limit in limits)


def _changes(failure: Failure) -> Iterator[Change]:
    """Up to three changes at once that take less memory."""
    single_changes = list(_single_changes(failure))
    for count in (1, 2, 3):
        for change in together(single_changes, count):
            # Alone, smaller micro-batches are no news: the trainer has tried them by itself.
            if change.values.keys() != {_MICRO, _ACCUMULATE}:
                yield change


def _single_changes(failure: Failure) -> Iterator[Change]:
    micro, accumulate = int(failure.setting(_MICRO) or 1), int(failure.setting(_ACCUMULATE) or 1)
    if micro > 1:
        yield single(f"micro-batch 1 × {micro * accumulate}", {_MICRO: 1, _ACCUMULATE: micro * accumulate})
    checkpointing = failure.setting("train.activation_checkpointing")
    if checkpointing not in (True, 1, OFFLOAD):
        yield single("checkpointing on", {"train.activation_checkpointing": True})
    if checkpointing != OFFLOAD and failure.setting("launch.device") == "cuda":
        yield single("checkpointing with inputs in main memory", {"train.activation_checkpointing": OFFLOAD})
    if failure.setting("tuning.method") == "full":
        yield single("LoRA", {"tuning.method": "lora", "train.optim": "auto"})
    elif failure.setting("quantization.method") in ("none", "int8") and failure.setting("launch.device") == "cuda":
        yield single("nf4", {"quantization.method": "nf4"})
    length = int(failure.setting("model.max_length") or 0) // 2
    while length >= SHORTEST:
        yield single(f"max_length {length:,}", {"model.max_length": length})
        length //= 2


def _priced(failure: Failure, change: Change, machine: Machine, was: Plan | None, saved: bool) -> Remedy | None:
    plan = _plan(failure, change.values, machine)
    if plan is None or plan.verdict == "NO":
        return None
    speeds = (plan.tokens_per_second, was.tokens_per_second if was else None)
    speed = speeds[0] / speeds[1] if speeds[0] and speeds[1] else None
    resumes = saved and change.values.keys() <= _KEEP_STATE
    return Remedy(change.label, dict(change.values), resumes, plan.estimate.device_bytes, speed)


def _plan(failure: Failure, changes: Changes, machine: Machine) -> Plan | None:
    try:
        return examine(load_text(changed_text(failure, changes), failure.path), machine).plan
    except EngineError:
        return None


# Not a number


def _calmer(failure: Failure) -> Iterator[Remedy]:
    rate = failure.setting(_RATE)
    warmup = failure.setting("train.warmup_ratio")
    if isinstance(rate, (int, float)):
        third = float(f"{rate / 3:.2g}")
        yield Remedy(f"learning rate {third:g}, a third", {_RATE: third}, False)
        if isinstance(warmup, (int, float)) and warmup < 0.1 and not failure.setting("train.warmup_steps"):
            changes = {_RATE: third, "train.warmup_ratio": 0.1}
            yield Remedy(f"learning rate {third:g} and warm-up over a tenth", changes, False)
        yield Remedy(f"learning rate {rate / 10:.2g}, a tenth", {_RATE: float(f"{rate / 10:.2g}")}, False)
    if not failure.setting("train.max_grad_norm"):
        yield Remedy("clip gradients at 1.0", {"train.max_grad_norm": 1.0}, False)
    if failure.setting("model.dtype") == "fp16":
        yield Remedy("fp32 in place of fp16", {"model.dtype": "fp32"}, False)


# Doing it


def changed_text(failure: Failure, changes: Changes) -> str:
    """The run's profile with what was chosen for it pinned and `changes` on top. Raises EngineError."""
    pinned = {key: failure.setting(key) for key in PINNED if failure.setting(key) is not None}
    pinned |= failure.record.overridden
    pinned[_TOTAL] = None  # micro-batch and accumulation say it
    return edited_text(failure.text, {**pinned, **changes}, failure.path)


def apply_remedy(failure: Failure, remedy: Remedy, machine: Machine) -> tuple[Run, subprocess.Popen[bytes]]:
    """Go on with the same run, or start a new one, with the changes. Raises EngineError and then starts nothing."""
    if not remedy.changes and remedy.resumes:
        return failure.run, resume_run(failure.run)
    text = changed_text(failure, remedy.changes)
    resolved = resolve_profile(load_text(text, failure.path), machine)
    run_json = resolved.to_run_json()
    if remedy.resumes:
        return failure.run, resume_run(failure.run, run_json=run_json, profile_text=text, why=remedy.label)
    return start_run(resolved.settings.name or failure.path.stem, run_json, text)
