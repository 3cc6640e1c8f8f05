"""The one JSON file of a self-test: what was found so far, written anew after every check.

`$XDG_STATE_HOME/tunedeck/selftest/<utc>.json`. It holds what a device is and what was measured, and no name of a
person, host or folder; `report.py` looks again before it leaves the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.recommend.kernels import choose_kernels
from engine.runs.store import state_home
from engine.selftest.checks import FAILED, PASSED, SKIPPED, Finding, Place, Step
from engine.selftest.kernel_table import tiny_spec
from engine.selftest.plan import SelftestPlan
from engine.text import format_bytes

VERSION = 1
KIND = "tunedeck selftest"
_CARD_FACTS = (
    *("name", "total_bytes", "free_bytes", "compute_capability", "unified_memory", "mig", "multiprocessors"),
    *("power_limit_w", "temperature_c", "utilization_percent"),
)
RUNNING, STOPPED, ENDED = "running", "stopped", "ended"


@dataclass(slots=True)
class StepRecord:
    """A step with what its checks found."""

    step: Step
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class Record:
    """A self-test as far as it is."""

    plan: SelftestPlan
    path: Path
    started: str
    steps: list[StepRecord] = field(default_factory=list)
    state: str = RUNNING

    @property
    def findings(self) -> list[Finding]:
        """All checks, in order."""
        return [finding for step in self.steps for finding in step.findings]

    def write(self) -> None:
        """Put the file in place of the one before. Raises EngineError(DISK)."""
        try:
            write_json_atomic(self.path, to_json(self))
        except OSError as error:
            raise _folder_error(self.path.parent, error) from error


def new_record(plan: SelftestPlan) -> Record:
    """An empty record with its file. Raises EngineError(DISK)."""
    now = time.gmtime()
    folder = state_home() / "selftest"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _folder_error(folder, error) from error
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S', now)}.json"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S', now)}-{number}.json"
    record = Record(plan, path, time.strftime("%Y-%m-%d %H:%M UTC", now))
    record.write()
    return record


def _folder_error(folder: Path, error: OSError) -> EngineError:
    return EngineError(
        f"the self-test's folder cannot be made or written: {error.strerror}",
        code=ExitCode.DISK,
        where=str(folder),
        hint="free space there or set XDG_STATE_HOME to another folder",
    )


def to_json(record: Record) -> dict[str, Any]:
    """The whole record as JSON values; numbers that are not finite become null."""
    from engine.runs.record import package_versions

    found: dict[str, Any] = {
        "v": VERSION,
        "kind": KIND,
        "state": record.state,
        "started": record.started,
        "minutes": record.plan.minutes,
        "device": record.plan.place.device,
        "machine": machine_facts(record.plan.place),
        "versions": package_versions(),
        "counts": counts(record.findings),
        "exit_code": int(exit_code(record)),
        "steps": [
            {
                "name": step.step.name,
                "title": step.step.title,
                "seconds": round(step.seconds, 1),
                "checks": [finding.to_dict() for finding in step.findings],
            }
            for step in record.steps
        ],
    }
    finite: dict[str, Any] = _finite(found)
    return finite


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many checks ended how."""
    return {status: sum(finding.status == status for finding in findings) for status in (PASSED, FAILED, SKIPPED)}


def exit_code(record: Record) -> ExitCode:
    """8 for one that was cut; 9 where something computes wrong, does not train or is slow, or where nothing was
    checked; 5 where only memory predictions were too low."""
    if record.state == STOPPED:
        return ExitCode.INTERRUPTED
    failed = {step.step.name for step in record.steps if any(found.status == FAILED for found in step.findings)}
    if not failed:
        return ExitCode.OK if counts(record.findings)[PASSED] else ExitCode.ENVIRONMENT
    return ExitCode.RESOURCES if failed == {"memory"} else ExitCode.ENVIRONMENT


def machine_facts(place: Place) -> dict[str, Any]:
    """What figures depend on, and nothing that tells one machine from another of its kind."""
    machine, gpu = place.machine, place.gpu
    facts: dict[str, Any] = {
        "processor": machine.cpu.name,
        "physical_cores": machine.cpu.physical_cores,
        "logical_cores": machine.cpu.logical_cores,
        "features": list(machine.cpu.features),
        "ram_total_bytes": machine.ram_total_bytes,
        "ram_available_bytes": machine.ram_available_bytes,
        "disk_free_bytes": machine.disk_free_bytes,
        "driver": machine.driver_version,
        "cuda_driver": list(machine.cuda_driver_version or ()),
        "torch": machine.torch_version,
        "torch_cuda": machine.torch_cuda_version,
        "gpus": [one.name for one in machine.gpus],
        "kernels": kernels_line(place),
        "notes": list(machine.notes),
    }
    if gpu is not None:
        facts["gpu"] = {name: getattr(gpu, name) for name in _CARD_FACTS}
        facts["gpu"]["notes"] = list(gpu.notes)
        facts["gpu"]["other_processes"] = len(gpu.processes)
    return facts


def kernels_line(place: Place) -> str:
    """Which operators runs take for norms, rotation, gate and loss of common models here, and why."""
    choice, reason = choose_kernels(tiny_spec("llama"), place.device, place.gpu, None)
    return f"{choice}: {reason}"


def device_line(place: Place) -> str:
    """The device in one line."""
    gpu, machine = place.gpu, place.machine
    if gpu is None:
        ram = format_bytes(machine.ram_available_bytes)
        return f"{machine.cpu.name}, {machine.cpu.physical_cores} cores, {ram} of memory free"
    free, total = format_bytes(gpu.free_bytes), format_bytes(gpu.total_bytes)
    return f"{gpu.name}, {free} of {total} free, driver {machine.driver_version or 'not known'}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_earlier(path: Path) -> dict[str, Any]:
    """A file that a self-test wrote. Raises EngineError(PROFILE) for any other."""
    from engine.files import read_json

    try:
        found = read_json(path)
    except (OSError, ValueError):
        found = {}
    if found.get("kind") != KIND:
        raise EngineError(
            "there is a file that no self-test wrote",
            code=ExitCode.PROFILE,
            where=str(path),
            hint="name another file, or remove this one",
        )
    return found
