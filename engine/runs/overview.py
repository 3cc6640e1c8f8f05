"""A run on one page: what it was asked to do and by whom, on what, what happened, and what it left.

`OverviewReader.read` gives an `Overview`: the deck shows it, `engine runs show --full` prints it, both laid out by
`overview_page.py`. Events are read from where the last read ended.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.jsonvalues import Table, Unreadable, number_in, table_in, tables_in, text_in, whole_in
from engine.runs.disk import disk_bytes
from engine.runs.events import EventReader
from engine.runs.notes import RunNotes, load_notes
from engine.runs.record import (
    DataRecord,
    Origin,
    Prediction,
    RunRecord,
    Summary,
    load_data_record,
    load_record,
    summary_or_empty,
)
from engine.runs.state import fold_marks, run_state
from engine.runs.store import Run
from engine.runs.timeline import Moment, TimelineFold, ToldWarning
from engine.runs.view import RunFold, widest

_UNTOLD = frozenset({"schema_version", "name", "description"})
"""Settings that name a profile and change nothing."""
_RANKS = {"override": 0, "profile": 1, "auto": 2}
_NO_DATA, _NO_NOTES = DataRecord(), RunNotes()
_STEP = b'"type":"train_step"'
_CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with who chose it: `override`, `profile`, `auto` or `default`, and why where that is known."""

    key: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine as it was when the run was planned; None = not known."""

    host: str = ""
    processor: str = ""
    physical_cores: int | None = None
    ram_total_bytes: int | None = None
    ram_available_bytes: int | None = None
    disk_free_bytes: int | None = None
    card: str = ""
    """`GPU 1 NVIDIA A100`; empty = the run is on the processor."""
    card_total_bytes: int | None = None
    card_free_bytes: int | None = None
    driver: str = ""
    cuda_driver: str = ""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file or folder of a run, and what it is."""

    path: Path
    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    step: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    predicted_bytes: float | None = None
    measured_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A warning about the profile when the run was planned."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that is told of one run."""

    run_id: str
    path: Path
    state: str
    problem: str = ""
    """Why run.json cannot be read; then nothing of it is here."""
    model: str = ""
    profile: str = ""
    begins: str = ""
    """What it began with beside the base."""
    differences: tuple[tuple[str, Any, Any], ...] = ()
    """Settings that are others than in the run that it began with."""
    trial: str = ""
    """The sweep that it is a trial of."""
    notes: RunNotes = _NO_NOTES
    """What a person has written of it."""
    progress: Progress = Progress()
    settings: tuple[Setting, ...] = ()
    """Those that a person chose in front, then those chosen for the machine, then defaults."""
    data: DataRecord = _NO_DATA
    machine: MachineFacts = MachineFacts()
    versions: Mapping[str, str | None] | None = None
    moments: tuple[Moment, ...] = ()
    warnings: tuple[ToldWarning, ...] = ()
    planned: tuple[Planned, ...] = ()
    """What was said of the profile before the run began."""
    files: tuple[RunFile, ...] = ()


def without_inner_steps(lines: list[bytes]) -> list[bytes]:
    """Of steps in a row the first and the last: of 200,000 steps no other has a place on the page."""
    is_step = [_STEP in line[:120] for line in lines]
    around = zip([False, *is_step[:-1]], is_step, [*is_step[1:], False], lines, strict=True)
    return [line for before, step, after, line in around if not (before and step and after)]


class OverviewReader:
    """Reads the overview of one run again and again. Used by one thread at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._events = EventReader(run.events_path, limit_bytes=_CHUNK_BYTES, pick=without_inner_steps)
        self._forget()

    def _forget(self) -> None:
        self._restarts = self._events.restarts
        self._fold, self._timeline = RunFold(), TimelineFold()

    def read(self) -> Overview:
        """The run as it is now. Raises OSError where its events cannot be read."""
        self._follow()
        run, record = self.run, load_record(self.run.path)
        state = run_state(run, fold_marks(self._fold))
        summary, told = summary_or_empty(run.path), self._timeline
        found = Overview(
            run.id,
            run.path,
            state,
            problem=str(record) if isinstance(record, Unreadable) else "",
            notes=load_notes(run.path),
            data=load_data_record(run.path),
            moments=told.shown(),
            warnings=told.warnings,
            files=tuple(run_files(run.path)),
            progress=_progress(self._fold, summary, record.prediction if isinstance(record, RunRecord) else None),
        )
        return found if isinstance(record, Unreadable) else _with_record(found, record)

    def _follow(self) -> None:
        while True:
            events = self._events.read()
            if self._events.restarts != self._restarts:
                self._forget()
            for event in events:
                self._fold.apply(event)
                self._timeline.apply(event)
            if self._events.at_end:
                return


def _with_record(found: Overview, record: RunRecord) -> Overview:
    return replace(
        found,
        model=record.text("model.name_or_path"),
        profile=str(record.profile_path or ""),
        begins=str(record.start or ""),
        differences=record.start.differences if record.start else (),
        trial=record.trial.sweep if record.trial else "",
        settings=ordered_settings(record),
        machine=machine_facts(record),
        versions=record.versions,
        planned=tuple(
            Planned(text_in(one, "message"), text_in(one, "hint")) for one in tables_in(record.raw, "warnings")
        ),
    )


def ordered_settings(record: RunRecord) -> tuple[Setting, ...]:
    """Every setting that changes something, a person's own first."""
    known = [Setting(key, origin) for key, origin in record.provenance.items() if key not in _UNTOLD]
    return tuple(sorted(known, key=lambda one: _RANKS.get(one.origin.source, 3)))


def _progress(fold: RunFold, summary: Summary, prediction: Prediction | None) -> Progress:
    predicted, measured = widest(fold.calibration)
    planned = prediction.device_bytes if prediction else None
    return Progress(
        step=fold.step or summary.step,
        steps_total=fold.steps_total or summary.steps_total,
        loss=number_in(fold.last_step, "loss"),
        best_eval_loss=number_in(fold.best_eval, "loss"),
        best_step=whole_in(fold.best_eval, "step"),
        tokens=summary.tokens,
        seconds=number_in(fold.finished, "seconds"),
        predicted_bytes=predicted or planned,
        measured_bytes=measured,
    )


def machine_facts(record: RunRecord) -> MachineFacts:
    """What run.json says of the machine, and of the one card that the run was planned for."""
    found = table_in(record.raw, "machine")
    processor, card = table_in(found, "cpu"), _card(found, record)
    return MachineFacts(
        host=text_in(found, "hostname"),
        processor=text_in(processor, "name"),
        physical_cores=whole_in(processor, "physical_cores"),
        ram_total_bytes=whole_in(found, "ram_total_bytes"),
        ram_available_bytes=whole_in(found, "ram_available_bytes"),
        disk_free_bytes=whole_in(found, "disk_free_bytes"),
        card=f"{record.prediction.card} {record.prediction.device_name}".strip() if record.prediction.card else "",
        card_total_bytes=whole_in(card, "total_bytes"),
        card_free_bytes=whole_in(card, "free_bytes"),
        driver=_version(found.get("driver_version")),
        cuda_driver=_version(found.get("cuda_driver_version")),
    )


def _card(machine: Table, record: RunRecord) -> Table | None:
    """The card of the machine that the run was planned for: the one that its settings name by UUID, else the only."""
    cards, named = tables_in(machine, "gpus"), record.launch.gpu
    if not record.prediction.card:
        return None
    for card in cards:
        if named and text_in(card, "uuid") == named:
            return card
    return cards[0] if len(cards) == 1 else None


def _version(found: Any) -> str:
    return ".".join(map(str, found)) if isinstance(found, list) else "" if found is None else str(found)


_FILES = (
    ("profile.toml", "the profile as it was written"),
    ("run.json", "every setting with who chose it, the prediction, the machine"),
    ("events.jsonl", "what happened, a line each"),
    ("notes.json", "your tags and your note"),
    ("worker.log", "what the worker printed"),
    ("summary.json", "the numbers at the end"),
    ("data/report.json", "rows kept, cut and dropped"),
    ("data/validation.jsonl", "the held-out rows as they were used"),
    ("adapter", "what was learned"),
    ("model", "what was learned"),
    ("tokenizer", "the tokenizer with its template"),
    ("eval/report.json", "base against tuned"),
    ("eval/report.txt", "the same to read"),
    ("start", "what it began with"),
)
_FOLDERS = (("checkpoints", "a run can go on from here"), ("export", "written for use elsewhere"))


_TOLD = {name.partition("/")[0] for name, _ in (*_FILES, *_FOLDERS)} | {"lock", "control"}


def run_files(folder: Path) -> Iterator[RunFile]:
    """The files and folders of a run with their sizes, those that everybody looks for first."""
    for name, what in _FILES:
        if (folder / name).exists():
            yield RunFile(folder / name, what, _size(folder / name))
    for name, what in _FOLDERS:
        for path in _inside(folder / name):
            yield RunFile(path, what, _size(path))
    for path in _inside(folder):
        if path.name not in _TOLD:
            yield RunFile(path, "", _size(path))


def _inside(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return disk_bytes(path) if stat.S_ISDIR(found.st_mode) else found.st_size
