"""A run as the deck shows it: one immutable value made in the tail thread, sanitised, ready to draw.

Made by `make_snapshot` from a `RunFold`; posted once a second; widgets are functions of it. Not here:
reading files (`tail.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.api import fit, runs
from engine.api.runs import Concern, RunFold, RunRecord
from engine.errors import EngineError
from engine.jsonvalues import Unreadable
from tui.charts.decimate import Point
from tui.reading.strips import Strip
from tui.text import safe


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log pane."""

    time: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase before or after training is; `total` 0 = not known."""

    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    phase: str = ""
    """What it is the progress of: an evaluation while the run trains, or the run's own phase."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Decimated curves over optimizer steps."""

    loss: tuple[Point, ...] = ()
    smooth: tuple[Point, ...] = ()
    evals: tuple[tuple[float, float], ...] = ()
    learning_rate: tuple[Point, ...] = ()
    tokens_per_second: tuple[Point, ...] = ()
    grad_norm: tuple[Point, ...] = ()
    memory: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    """By name, in GiB over seconds since the run's first sample."""
    memory_by_step: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    """The same over optimizer steps."""
    metrics: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    """Whatever else steps and evaluations told, by its name in words."""


@dataclass(frozen=True, slots=True)
class Detail:
    """Curves between two steps at full resolution."""

    low: float
    high: float
    curves: Curves


@dataclass(frozen=True, slots=True)
class Facts:
    """What run.json says once: read at attach."""

    run_id: str
    name: str
    model: str = ""
    how: str = ""
    predicted_bytes: int | None = None
    available_bytes: int | None = None
    device: str = ""
    card: str = ""
    """`GPU 1`, `GPU 0 MIG 1g.5gb #2`; empty = CPU, or not known."""
    problem: str = ""
    """Why run.json cannot be read; empty when it can."""


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """Everything that the run screen shows."""

    facts: Facts
    state: str = "starting"
    phase: str = ""
    phase_detail: str = ""
    phases: tuple[str, ...] = ()
    """Names of the phases gone through, the present one last."""
    phase_since: float = 0.0
    """Unix time at which the present phase began; 0 = not known."""
    asked_at: float = 0.0
    """Unix time at which the worker was asked for; 0 = not known."""
    progress: Progress | None = None
    step: int = 0
    steps_total: int = 0
    last_step: Mapping[str, Any] | None = None
    last_eval: Mapping[str, Any] | None = None
    best_eval: Mapping[str, Any] | None = None
    memory: Mapping[str, Any] | None = None
    checkpoint_step: int | None = None
    curves: Curves = Curves()
    detail: Detail | None = None
    lines: tuple[LogLine, ...] = ()
    lines_total: int = 0
    """Lines since the beginning; `lines` holds the last of them."""
    reading: float | None = None
    """Share of a long history that has been read; None = all of it."""
    warnings: int = 0
    concerns: tuple[Concern, ...] = ()
    """What goes wrong now, the worst first."""
    health: tuple[Concern, ...] = ()
    """What went wrong on the way, in the order of its steps."""
    last_time: float = 0.0
    orphan_pid: int | None = None
    """The worker that lives on although the run was deleted."""
    error: tuple[str, ...] = ()
    """What went wrong, a line each, empty when nothing did."""
    failure: Mapping[str, Any] | None = None
    """The error as the worker told it, for whoever looks for a remedy; not sanitised."""
    limit_bytes: float | None = None
    """What the run could have had of the device when memory ran out."""
    finished: Mapping[str, Any] | None = None
    strips: tuple[Strip, ...] = ()
    """Answers to the run's fixed prompts."""

    @property
    def is_live(self) -> bool:
        """Whether a worker is there to be asked."""
        return self.state in runs.LIVE_STATES


def value(event: Mapping[str, Any] | None, key: str) -> float | None:
    """A number of an event, None when it is missing or not a number."""
    found = event.get(key) if event else None
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def error_lines(error: EngineError) -> tuple[str, ...]:
    """An error as lines: what, where, what to do, for each problem."""
    if len(error.problems) > 1:
        return (safe(error.message), *(safe(problem, 600) for problem in error.problems))
    found = (safe(error.message, 600), safe(error.where) and f"where: {safe(error.where)}", safe(error.hint, 600))
    return tuple(line for line in found if line)


def make_facts(run_id: str, found: RunRecord | Unreadable | None) -> Facts:
    """The unchanging part, from run.json; of one that cannot be read only why."""
    if found is None or isinstance(found, Unreadable):
        return Facts(run_id=safe(run_id), name=safe(short_name(run_id)), problem=safe(found or "", 300))
    return Facts(
        run_id=safe(run_id),
        name=safe(found.text("name") or short_name(run_id)),
        model=safe(found.text("model.name_or_path")),
        how=safe(runs.method_text(found)),
        predicted_bytes=found.prediction.device_bytes,
        available_bytes=found.prediction.available_bytes,
        device=safe(_device(found)),
        card=safe(found.prediction.card),
    )


def _device(record: RunRecord) -> str:
    """`GPU 1 GeForce RTX 4090`; what the settings say where the plan's card is not known."""
    card = record.prediction.card
    if card:
        return f"{card} {fit.model_name(record.prediction.device_name)}"
    return record.text("launch.device")


def short_name(run_id: str) -> str:
    """A run id without its date: `20260101-101010-support-bot-1f3a` -> `support-bot-1f3a`."""
    parts = run_id.split("-", 2)
    dated = len(parts) == 3 and len(parts[0]) == 8 and len(parts[1]) == 6 and (parts[0] + parts[1]).isdigit()
    return parts[2] if dated else run_id


def make_progress(fold: RunFold) -> Progress | None:
    """The progress event as numbers."""
    event = fold.progress
    if not event:
        return None
    done, total = value(event, "done") or 0.0, value(event, "total") or 0.0
    return Progress(done, total, safe(event.get("unit") or "", 20), safe(event.get("phase") or "", 30))


def make_error(fold: RunFold) -> tuple[str, ...]:
    """The error that the worker reported, as lines."""
    return error_lines(EngineError.from_dict(fold.error)) if fold.error else ()
