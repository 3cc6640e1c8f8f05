"""Starting a sweep's worker, for the first time and again. What it will try is prepared before (`prepare.py`)."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.runs import launch
from engine.runs.ranks import refuse_ranks, without_rank
from engine.runs.state import run_state
from engine.runs.store import Run
from engine.sweep.document import SweepDocument
from engine.sweep.store import SWEEP_JOB, SWEEP_VERSION, create_sweep, read_sweep

if TYPE_CHECKING:
    from engine.sweep.prepare import PreparedSweep, Shared

OWN_STORAGE = "study.journal"


def start_sweep(
    prepared: PreparedSweep, name: str, shared: Shared | None = None
) -> tuple[Run, subprocess.Popen[bytes]]:
    """Make the sweep's directory and start its worker. Raises EngineError: DISK, ENVIRONMENT among ranks."""
    refuse_ranks()
    plan, cost = prepared.plan, prepared.cost
    document = SweepDocument(
        name=name,
        profile_path=str(plan.path.absolute()),
        method=plan.method,
        metric=plan.sweep.metric,
        trials=cost.trials,
        device=prepared.device,
        gpu=prepared.gpu,
        needed_bytes=cost.device_bytes,
        trial_disk_bytes=cost.trial_disk_bytes,
        shared=shared is not None,
        storage=shared.storage if shared else "",
        study=shared.study if shared else "",
        keys=tuple(key for dimension in plan.dimensions for key in dimension.keys),
        cells=tuple(one.params for one in prepared.combinations) if plan.method == "grid" else (),
        left_out=tuple({"params": one.params, "why": one.why} for one in prepared.left_out),
        bill=cost.to_dict(),
    )
    sweep = create_sweep(name, document.to_dict(), plan.text)
    if shared is None:
        document = document.with_own_study(sweep, sweep.path / OWN_STORAGE)
        write_json_atomic(sweep.path / "sweep.json", {"v": SWEEP_VERSION, **document.to_dict()})
    return sweep, _spawn(sweep)


def resume_sweep(sweep: Run) -> subprocess.Popen[bytes]:
    """Start a sweep's worker again; it finds its trials where they are.

    Raises EngineError: RESOURCES while one works, PROFILE when the sweep is complete or damaged, ENVIRONMENT in one of
    several processes of a launcher.
    """
    refuse_ranks()
    read_sweep(sweep)
    if launch.is_at_work(sweep.path):
        raise EngineError(
            f"sweep {sweep.id} is at work", code=ExitCode.RESOURCES, hint=f"engine sweeps watch {sweep.id}"
        )
    if run_state(sweep) == "completed":
        message = f"sweep {sweep.id} is complete"
        raise EngineError(message, code=ExitCode.PROFILE, hint="start a new one for more trials")
    for stale in (sweep.path / "control").iterdir():
        stale.unlink()
    write_json_atomic(sweep.path / "job.json", {**SWEEP_JOB, "asked_at": time.time()})
    return _spawn(sweep)


def _spawn(sweep: Run) -> subprocess.Popen[bytes]:
    # As it is: threads and devices are each trial's own, and what stood here would pass for the person's wish.
    return launch.spawn_worker(sweep.path, without_rank(os.environ))
