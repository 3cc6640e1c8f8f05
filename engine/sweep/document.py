"""sweep.json as a value: what a sweep searches, where, and what it was expected to take. Written once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.runs.store import Run
from engine.sweep.store import read_sweep

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SweepDocument:
    """The fields of sweep.json. `needed_bytes`: of the widest trial on its device."""

    name: str
    profile_path: str
    method: str
    metric: str
    trials: int
    device: str
    gpu: str | None
    """UUID of the one GPU that the profile names; None = any."""
    needed_bytes: int
    trial_disk_bytes: int
    shared: bool
    """Whether other machines take part in the study."""
    storage: str
    study: str
    keys: tuple[str, ...]
    """Settings that are varied."""
    cells: tuple[Params, ...]
    """Combinations of a grid; empty for any other search."""
    left_out: tuple[Mapping[str, Any], ...]
    """Combinations that cannot run, each with its `why`."""
    bill: Mapping[str, Any]
    """The cost estimate that was shown before it started."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def with_own_study(self, sweep: Run, storage: Path) -> SweepDocument:
        """The same, its study in the sweep's own directory."""
        return replace(self, storage=str(storage), study=sweep.id)


def read_document(sweep: Run) -> SweepDocument:
    """The sweep's document. Raises EngineError(PROFILE) when it is damaged or of another version."""
    found = read_sweep(sweep)
    try:
        return SweepDocument(
            name=str(found["name"]),
            profile_path=str(found["profile_path"]),
            method=str(found["method"]),
            metric=str(found["metric"]),
            trials=int(found["trials"]),
            device=str(found["device"]),
            gpu=found.get("gpu"),
            needed_bytes=int(found["needed_bytes"]),
            trial_disk_bytes=int(found["trial_disk_bytes"]),
            shared=bool(found["shared"]),
            storage=str(found["storage"]),
            study=str(found["study"]),
            keys=tuple(found["keys"]),
            cells=tuple(found["cells"]),
            left_out=tuple(found["left_out"]),
            bill=found["bill"],
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"sweep.json is damaged: {type(error).__name__} at {error}"
        raise EngineError(message, code=ExitCode.PROFILE, where=str(sweep.path)) from error
