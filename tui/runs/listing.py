"""All runs as values: state, model, steps, best evaluation, age, sweep. Read in a thread, cached by file times.

Only the end of an event file is read here; the whole run is folded when it is attached or compared. What is
shown of them, and in which order, is in `runlines.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from engine.api import results as results_api
from engine.api import runs as runs_api
from engine.api import sweeps as sweeps_api
from engine.api.runs import EventReader, Run, RunFold, RunNotes, RunTraits, SweepTrial
from engine.errors import EngineError
from engine.jsonvalues import Unreadable
from tui.reading.snapshot import Facts, error_lines, make_facts, short_name, value
from tui.text import safe

MOST = 500
_TAIL_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of the list."""

    run: Run
    state: str
    facts: Facts
    step: int = 0
    steps_total: int = 0
    best: float | None = None
    last_time: float = 0.0
    error: tuple[str, ...] = ()
    trial: Trial | None = None
    traits: RunTraits = field(default_factory=lambda: RunTraits(""))
    """What it is filtered, ordered and grouped by; not sanitised."""

    @property
    def key(self) -> str:
        """What tells it from every other line."""
        return self.run.id

    @property
    def name(self) -> str:
        """The id without its date."""
        return short_name(self.facts.run_id)

    @property
    def is_live(self) -> bool:
        """Whether a worker is there, or will be in a moment."""
        return self.state in runs_api.LIVE_STATES


@dataclass(frozen=True)
class SweepRow:
    """One sweep of the list: what its folder says, None when that is gone, and the trials that ran here, best first."""

    id: str
    facts: SweepFacts | None
    trials: tuple[RunRow, ...]

    @property
    def key(self) -> str:
        """What tells it from every other line."""
        return f"sweep {self.id}"

    @property
    def state(self) -> str:
        """Of the search; without its folder, whether a trial lives."""
        if self.facts is not None:
            return self.facts.state
        return "running" if any(row.is_live for row in self.trials) else "removed"

    @property
    def is_live(self) -> bool:
        """Whether trials are under way."""
        return self.state in runs_api.LIVE_STATES

    @property
    def best(self) -> float | None:
        """The best trial's value, else the lowest evaluation loss of any."""
        values = [one.value for one in self.facts.standings.values() if one.rank == 1] if self.facts else []
        losses = [row.best for row in self.trials if row.best is not None]
        return values[0] if values and values[0] is not None else min(losses, default=None)

    @cached_property
    def traits(self) -> RunTraits:
        """What it is filtered and ordered by; settings that all its trials share."""
        one, sizes = self.trials[0].traits if self.trials else None, [row.traits.disk_bytes for row in self.trials]
        known = [size for size in sizes if size is not None]
        return RunTraits(
            self.begun,
            self.state,
            short_name(self.id),
            one.model if one else "",
            "sweep",
            best=self.best,
            last_s=self.last_time,
            disk_bytes=sum(known) if known and len(known) == len(sizes) else None,
            settings=_shared([row.traits.settings for row in self.trials]),
        )

    @property
    def last_time(self) -> float:
        """When the newest thing of it happened."""
        return max([row.last_time for row in self.trials] + ([self.facts.last_time] if self.facts else []), default=0.0)

    @property
    def begun(self) -> str:
        """The newest id of it: ids begin with the time at which they were made."""
        return max(self.id, *(row.run.id for row in self.trials)) if self.trials else self.id


@dataclass(frozen=True, slots=True)
class Listing:
    """The newest runs, and how many there are in all; every sweep."""

    rows: tuple[RunRow, ...] = ()
    total: int = 0
    sweeps: tuple[SweepFacts, ...] = ()


@dataclass(slots=True)
class _Kept:
    stamp: tuple[float, int]
    fold: RunFold
    cut: bool
    """Whether the fold begins within the file."""
    facts: Facts
    trial: Trial | None
    traits: RunTraits
    said: tuple[int, ...] = ()
    """When notes and scores changed last."""


class RunList:
    """Reads rows; keeps what has not changed since. Used by one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self.sizes: Mapping[str, int] = {}
        """Bytes on disk by run, as far as they were measured."""

    def read(self) -> Listing:
        """The newest runs."""
        found = runs_api.list_runs()
        runs = found[:MOST]
        known = {run.id for run in runs}
        self._kept = {run_id: kept for run_id, kept in self._kept.items() if run_id in known}
        rows = (self._row(run) for run in runs)
        return Listing(tuple(row for row in rows if row is not None), len(found), tuple(_sweeps()))

    def _row(self, run: Run) -> RunRow | None:
        try:
            return self._read_row(run)
        except Exception as error:  # whatever a directory holds, the other runs are still shown
            return _unreadable(run, error) if os.path.lexists(run.path) else None  # removed while we looked

    def _read_row(self, run: Run) -> RunRow | None:
        kept = self._known(run)
        state = runs_api.run_state(run, runs_api.fold_marks(kept.fold, begun=kept.cut))
        if state == "removed":
            return None
        fold = kept.fold
        best, last_time = value(fold.best_eval or fold.last_eval or None, "loss"), fold.last_time or kept.stamp[0]
        traits = replace(
            kept.traits, state=state, step=fold.step, best=best, last_s=last_time, disk_bytes=self.sizes.get(run.id)
        )
        error, total = _error(kept), fold.steps_total
        return RunRow(run, state, kept.facts, fold.step, total, best, last_time, error, kept.trial, traits)

    def _known(self, run: Run) -> _Kept:
        stamp = _stamp(run)
        kept = self._kept.get(run.id)
        if kept is None:
            fold, cut = _fold_tail(run)
            kept = self._kept[run.id] = _Kept(stamp, fold, cut, *_read_settings(run))
        elif kept.stamp != stamp:
            kept.stamp, (kept.fold, kept.cut) = stamp, _fold_tail(run)
        said = _said(run)
        if said != kept.said:
            kept.said, kept.traits = said, _with_said(run, kept.traits)
        return kept


def _unreadable(run: Run, error: Exception) -> RunRow:
    why = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else error.strerror
    problem = safe(f"the run cannot be read: {why}", 300)
    return RunRow(run, "damaged", make_facts(run.id, None), error=(problem,), traits=RunTraits(run.id, "damaged"))


def _sweeps() -> Iterator[SweepFacts]:
    for sweep in sweeps_api.list_sweeps():
        with contextlib.suppress(OSError):  # removed while we looked
            yield read_sweep(sweep)


def _error(kept: _Kept) -> tuple[str, ...]:
    """What the worker reported, else why run.json cannot be read."""
    if kept.fold.error:
        return error_lines(EngineError.from_dict(kept.fold.error))
    return (kept.facts.problem,) if kept.facts.problem else ()


def _stamp(run: Run) -> tuple[float, int]:
    """When the events changed last, and their size; a run without events goes by its folder."""
    try:
        found = os.stat(run.events_path)
    except FileNotFoundError:
        return os.stat(run.path).st_mtime, 0
    return found.st_mtime, found.st_size


def _read_settings(run: Run) -> tuple[Facts, Trial | None, RunTraits]:
    found = runs_api.load_record(run.path)
    trial = None if isinstance(found, Unreadable) else make_trial(found.trial)
    return make_facts(run.id, found), trial, runs_api.settled_traits(run, found, RunNotes())


def _said(run: Run) -> tuple[int, ...]:
    """When what is kept beside the events changed last; -1 = it is not there."""
    marks = []
    for path in (run.path / runs_api.NOTES_FILE, run.path / results_api.EVALUATION_FOLDER / "report.json"):
        try:
            marks.append(os.stat(path).st_mtime_ns)
        except OSError:
            marks.append(-1)
    return tuple(marks)


def _with_said(run: Run, traits: RunTraits) -> RunTraits:
    scores = results_api.tuned_scores(run.path / results_api.EVALUATION_FOLDER)
    return replace(traits, notes=runs_api.load_notes(run.path), scores=scores)


def score_kinds() -> Mapping[str, results_api.ScoreKind]:
    """The scores that an evaluation may give, by key."""
    return {kind.key: kind for kind in results_api.KINDS}


def measured(listing: Listing, sizes: Mapping[str, int]) -> Listing:
    """The same with what runs take of the disk."""
    rows = (replace(row, traits=replace(row.traits, disk_bytes=sizes.get(row.run.id))) for row in listing.rows)
    return replace(listing, rows=tuple(rows))


def _shared(settings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if not settings:
        return {}
    return {key: held for key, held in settings[0].items() if all(one.get(key) == held for one in settings[1:])}


def _fold_tail(run: Run) -> tuple[RunFold, bool]:
    """Fold of the last events, and whether there are more before: enough for the step and how it ended."""
    fold, reader = RunFold(), EventReader.at_tail(run.events_path, _TAIL_BYTES)
    cut = reader.offset > 0
    for event in reader.read():
        fold.apply(event)
    return fold, cut


@dataclass(frozen=True, slots=True)
class Trial:
    """A run's place in a sweep: which, and with which settings, as (short name, value)."""

    sweep: str
    number: int
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a trial stands in its sweep: rank (0 = none yet), value of the metric, state, why it ended early."""

    rank: int = 0
    value: float | None = None
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What a sweep's own folder says; `planned` trials in all."""

    sweep: Run
    state: str
    metric: str = "eval_loss"
    planned: int = 0
    standings: Mapping[int, Standing] = field(default_factory=dict)
    last_time: float = 0.0


def make_trial(found: SweepTrial | None) -> Trial | None:
    """A run's place in a sweep, ready to show; None for a run that stands alone."""
    if found is None:
        return None
    pairs = ((safe(str(key).rpartition(".")[2], 40), _short(setting)) for key, setting in found.params.items())
    return Trial(safe(found.sweep, 80), found.number or 0, tuple(pairs))


def _short(setting: Any) -> str:
    return safe(f"{setting:.4g}" if isinstance(setting, float) else setting, 40)


def read_sweep(sweep: Run) -> SweepFacts:
    """A sweep as it stands; of a damaged one only its id. Raises OSError when it went away."""
    told: Mapping[str, Any] = {}
    try:
        told = sweeps_api.read_sweep(sweep)
    except EngineError:
        return SweepFacts(sweep, "damaged", last_time=sweep.path.stat().st_mtime)
    metric = safe(told.get("metric") or "eval_loss", 30)
    rows = sweeps_api.ranked(sweeps_api.read_rows(sweep.path), metric)
    return SweepFacts(
        sweep,
        safe(runs_api.run_state(sweep), 20),
        metric,
        int(value(told, "trials") or 0),
        {row.trial: _standing(row) for row in rows},
        _last_time(sweep),
    )


def _standing(row: sweeps_api.TrialRow) -> Standing:
    return Standing(row.rank or 0, row.value, safe(row.state, 20), safe(row.reason, 300))


def _last_time(sweep: Run) -> float:
    path = sweep.path / "trials.json"
    return (path if path.exists() else sweep.path).stat().st_mtime
