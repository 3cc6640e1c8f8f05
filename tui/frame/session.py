"""What the screens share: the machine, what is highlighted, what is open, what is attached.

Held by the app, written by the screen that owns the fact, read by the command table. No truth lives
here: everything can be read again from the probe, the profile file or the run directory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api.fit import Machine, Plan
    from engine.api.runs import Run
    from tui.documents.form import Form
    from tui.reading.snapshot import RunSnapshot
    from tui.run.remedies import Remedies
    from tui.runs.listing import RunRow, SweepRow


@dataclass(frozen=True, slots=True)
class ResultsState:
    """What the commands of the results screen must know of it."""

    view: str = "scores"
    """`scores`, `chat` or `export`."""
    cannot_ask: str = "no run is chosen: pick one on screen 4"
    """Why the run's model can be neither talked with nor exported; empty when it can."""
    cannot_evaluate: str = "no run is chosen: pick one on screen 4"
    evaluating: bool = False
    exporting: bool = False
    answering: bool = False
    samples: bool = False
    """Whether a sample is under the cursor."""


@dataclass(slots=True)
class DeckState:
    """The deck's shared facts; `None` = not known or nothing chosen."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys that a person chose, by command."""
    machine: Machine | None = None
    plan: Plan | None = None
    """The plan under the cursor of the fit screen."""
    form: Form | None = None
    """The open profile."""
    run: Run | None = None
    """The run that the run screen shows."""
    process: subprocess.Popen[bytes] | None = None
    """Its worker, when this deck started it."""
    process_offset: int = 0
    """Byte of the event file where what that worker writes begins: 0 for a new run."""
    snapshot: RunSnapshot | None = None
    remedies: Remedies | None = None
    """What would let the attached run go on, when it failed."""
    row: RunRow | None = None
    """The run under the cursor of the runs screen."""
    sweep: SweepRow | None = None
    """The sweep under that cursor, when it is one."""
    marked: tuple[Run, ...] = ()
    """Runs marked for a comparison, in the order in which they were."""
    chosen: Run | None = None
    """The run whose results are shown."""
    results: ResultsState = field(default_factory=ResultsState)
