"""From a profile to a sweep at work: what would be tried, what it takes, and the worker that does it.

Not here: the search itself (`run.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Machine
from engine.profile.load import LoadedProfile, load_text
from engine.profile.overrides import split_override
from engine.profile.save import edited_text
from engine.resolve.check import check_error
from engine.resolve.resolve import Resolved
from engine.runs import launch
from engine.runs.launch import OnEvent
from engine.sweep.combinations import Combination, Plan, differing, plan_of
from engine.sweep.cost import CostEstimate, estimate_cost, examine_combinations
from engine.sweep.slots import free_slots


@dataclass(frozen=True, slots=True)
class PreparedSweep:
    """A sweep that could start: `left_out` are combinations that cannot run, `warnings` what a person should know."""

    plan: Plan
    combinations: tuple[Combination, ...]
    left_out: tuple[Combination, ...]
    cost: CostEstimate
    device: str
    warnings: tuple[str, ...] = ()
    gpu: str | None = None
    """UUID of the one GPU that the profile names; None = any."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A study that other machines take part in: a journal file on a shared disk or a database, and its name there."""

    storage: str
    study: str


def with_overrides(loaded: LoadedProfile, overrides: Sequence[str]) -> LoadedProfile:
    """The profile with the command line's settings in its text, so that what is kept says all.

    Raises EngineError with everything wrong, each where it was given: a line of the file, or `--set`.
    """
    if not overrides:
        return loaded
    error = check_error(load_text(loaded.text, loaded.path, overrides), None)
    if error is not None:
        raise error
    changes = dict(split_override(text) for text in overrides)
    return load_text(edited_text(loaded.text, changes, loaded.path), loaded.path)


def prepare_sweep(loaded: LoadedProfile, machine: Machine, on_event: OnEvent) -> PreparedSweep:
    """Resolve what would be tried, count the data, estimate the cost; the data are read in a worker.

    Raises EngineError: PROFILE with everything wrong in the profile, DATA as `engine train`; when nothing can run,
    the code of the cause (RESOURCES where none fits), PROFILE for several causes.
    """
    error = check_error(loaded, None)
    if error is not None:
        raise error
    plan = plan_of(loaded)
    combinations, left_out = examine_combinations(plan, machine)
    if not combinations:
        first = left_out[0]
        codes = {combination.code for combination in left_out}
        raise EngineError(
            f"none of {len(left_out)} settings can run here; the first: {first.why}",
            code=codes.pop() if len(codes) == 1 else ExitCode.PROFILE,
            where="sweep.space",
            hint="see 'engine fit' for what this machine can train",
        )
    head = combinations[0].resolved
    assert head is not None
    device = head.settings.launch.device
    needed = max(one.resolved.plan.estimate.device_bytes for one in combinations if one.resolved is not None)
    named = head.settings.launch.gpu if "launch.gpu" in loaded.given else None
    parallel = max(1, len(free_slots(machine, device, plan.sweep.parallel, needed, (), named)))
    cost = estimate_cost(plan, combinations, _RowCounts(on_event), machine, parallel)
    warnings = tuple(_warnings(plan, combinations, cost, head))
    return PreparedSweep(plan, tuple(combinations), tuple(left_out), cost, device, warnings, named)


def _warnings(plan: Plan, combinations: Sequence[Combination], cost: CostEstimate, head: Resolved) -> list[str]:
    warnings = [str(problem) for problem in head.warnings]
    for key, values in differing(combinations, plan.dimensions).items():
        warnings.append(
            f"{key} differs between trials ({', '.join(values)}) though it is not varied: "
            "the machine chooses it for each; set it in the profile to compare like with like"
        )
    if cost.disk_bytes > cost.disk_free_bytes:
        warnings.append(
            f"the trials take up to {cost.disk_bytes / 2**30:.1f} GiB of disk, {cost.disk_free_bytes / 2**30:.1f} GiB "
            "are free: set sweep.keep_weights"
        )
    return warnings


class _RowCounts:
    """Packed sequences of a profile's data, read once for all trials that share them."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._known: dict[str, tuple[int, int]] = {}

    def __call__(self, resolved: Resolved) -> tuple[int, int]:
        """(train, held out)."""
        settings = resolved.settings
        tree = settings.model_dump(mode="json", include={"model", "data"})
        key = json.dumps([tree, settings.train.objective, settings.train.seed], sort_keys=True)
        if key not in self._known:
            job = {"job": "data_check", "run_json": resolved.to_run_json()}
            report = launch.run_job(job, self._on_event)["report"]
            held_out = report["validation"]["sequences"] if report.get("validation") else 0
            self._known[key] = (report["train"]["sequences"], held_out)
        return self._known[key]


def shared_study(storage: str | None, study: str | None, name: str) -> Shared | None:
    """What `--storage` and `--study` say. Raises EngineError(PROFILE) for a password in the open or a bad place."""
    if storage is None:
        if study is not None:
            raise EngineError("--study goes with --storage", code=ExitCode.PROFILE, hint="give both, or neither")
        return None
    if "://" in storage:
        place = storage.partition("://")[2].partition("/")[0]
        if ":" in place.rpartition("@")[0]:
            raise EngineError(
                "a password in a URL is kept in files and shown in process lists",
                code=ExitCode.PROFILE,
                where="--storage",
                hint="leave it out of the URL; database drivers read it from the environment or a file of their own"
                " (PGPASSWORD, ~/.pgpass, ~/.my.cnf)",
            )
        return Shared(storage, study or name)
    path = Path(storage).expanduser().absolute()
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else "its folder does not exist"
        raise EngineError(
            wrong, code=ExitCode.PROFILE, where=str(path), hint="name a file in a folder that all machines share"
        )
    return Shared(str(path), study or name)
