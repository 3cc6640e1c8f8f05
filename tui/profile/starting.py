"""A search over settings started from the profile screen: what it would take, then its worker. No widgets here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import fit, profiles, sweeps
from tui.documents import document
from tui.text import safe

if TYPE_CHECKING:
    from engine.api.profiles import PreparedSweep
    from engine.api.runs import Run


def prepare(text: str, path: Path) -> PreparedSweep:
    """Resolve what would be tried and count the data. Takes seconds: not for the screen's loop. Raises EngineError."""
    return profiles.prepare_sweep(document.loaded(text, path), fit.probe_machine(), lambda event: None)


def bill_text(prepared: PreparedSweep) -> str:
    """The bill and what a person should know before it starts."""
    lines = [*sweeps.cost_lines(prepared), *(f"warning: {warning}" for warning in prepared.warnings)]
    return "\n".join(safe(line, 300) for line in lines)


def begin(prepared: PreparedSweep, name: str) -> Run:
    """Start the search; it goes on without the deck. Raises EngineError."""
    return sweeps.start_sweep(prepared, name)[0]
