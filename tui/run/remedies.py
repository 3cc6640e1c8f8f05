"""What would let a failed run go on. No widgets."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.api import fit
from engine.api.fit import Machine
from engine.api.runs import Run

if TYPE_CHECKING:
    from engine.api.profiles import Failure, Remedy


@dataclass(frozen=True, slots=True)
class Remedies:
    """A failure and its remedies, the one to try first in front."""

    failure: Failure
    items: tuple[Remedy, ...]
    machine: Machine
    """The machine that the remedies were predicted for."""


def find_remedies(run: Run, error: Mapping[str, Any], limit_bytes: float | None) -> Remedies:
    """Remedies for the machine as it is now. Raises EngineError when the run's files are gone."""
    from engine.api import profiles

    machine = fit.probe_machine()
    failure = profiles.failure_of(run, error, limit_bytes)
    return Remedies(failure, profiles.remedies(failure, machine), machine)


def apply_remedy(remedies: Remedies, remedy: Remedy) -> tuple[Run, subprocess.Popen[bytes]]:
    """Go on with the run, or start a new one, as `remedy` says; the run and its worker. Raises EngineError."""
    from engine.api import profiles

    return profiles.apply_remedy(remedies.failure, remedy, remedies.machine)
