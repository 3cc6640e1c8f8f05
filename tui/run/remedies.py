"""What would let a failed run go on: looked for in a thread, held by the deck until it is done. No widgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import api
from engine.api import Machine, Run

if TYPE_CHECKING:
    from engine.api import Failure, Remedy


@dataclass(frozen=True, slots=True)
class Mending:
    """A failure and its remedies, the one to try first."""

    failure: Failure
    found: tuple[Remedy, ...]
    machine: Machine
    """The machine that the remedies were predicted for."""


def find_remedies(run: Run, error: Mapping[str, Any], limit_bytes: float | None) -> Mending:
    """Remedies for the machine as it is now. Raises EngineError when the run's files are gone."""
    machine = api.probe_machine()
    failure = api.failure_of(run, error, limit_bytes)
    return Mending(failure, api.remedies(failure, machine), machine)
