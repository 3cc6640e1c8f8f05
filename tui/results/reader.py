"""What a run has come to: its evaluation, its jobs, its export. One immutable value, read in a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine.api import results, runs
from engine.api.results import EvaluationReport
from engine.api.runs import Run, RunRecord
from engine.jsonvalues import Unreadable
from engine.text import format_duration, sanitize
from tui.reading.jobs import JobReader, JobView
from tui.reading.snapshot import Facts, make_facts
from tui.results.exports import Choices, Exported, first_choices, make_exported
from tui.text import safe

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Results:
    """Everything the results screen shows of one run."""

    run: Run
    facts: Facts
    state: str
    reason: str = ""
    """Why its model can be neither asked nor written now; empty when it can."""
    held_out: int = 0
    report: Report | None = None
    report_problem: str = ""
    further: str = ""
    """What other sets of rows said, which have tables of their own; empty where none was measured."""
    evaluation: JobView = field(default_factory=JobView)
    export: JobView = field(default_factory=JobView)
    exported: Exported | None = None
    profile: Choices = field(default_factory=Choices)
    """What the profile says of the export."""
    record: RunRecord | None = None
    """run.json; None where it cannot be read."""

    @property
    def prompts(self) -> int:
        """How many prompts its profile has for it to answer while it learns."""
        found = self.record.setting("evaluate.prompts") if self.record else None
        return len(found) if isinstance(found, list) else 0

    @property
    def no_evaluation(self) -> str:
        """Why it cannot be evaluated now, or nothing."""
        if self.reason or self.held_out or (self.record and self.record.setting("evaluate.sets")):
            return self.reason
        return "the run held no rows out: train with data.validation_fraction above 0"


class ResultReader:
    """Reads the results of one run; what has not changed is not read again. Used by one thread at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._evaluation = JobReader(run.path / results.EVALUATION_FOLDER)
        self._export = JobReader(run.path / results.EXPORT_FOLDER)
        self._kept: dict[str, tuple[float, Any]] = {}
        self._record: RunRecord | None = None
        self._facts = make_facts(run.id, None)

    def read(self, evaluating: bool = False, exporting: bool = False) -> Results:
        """What there is now; the flags say that a worker of this deck lives."""
        self._once()
        state = runs.run_state(self.run)
        report, problem = self._file("eval/report.json", self._report) or (None, "")
        exported = self._file("export-job/result.json", self._exported) or self._file(
            "export/export.json", self._exported
        )
        if exported is not None and not Path(exported[0]).is_dir():
            exported = None  # it was deleted or moved since
        return Results(
            run=self.run,
            facts=self._facts,
            state=state,
            reason=self._reason(state),
            held_out=self._file("data/report.json", self._held_out) or 0,
            report=report,
            report_problem=problem,
            further=self._further(),
            evaluation=self._evaluation.read(starting=evaluating),
            export=self._export.read(starting=exporting),
            exported=exported[1] if exported else None,
            profile=first_choices(self._record.settings if self._record else {}),
            record=self._record,
        )

    def _once(self) -> None:
        if self._record is None:
            found = runs.load_record(self.run.path)
            self._facts = make_facts(self.run.id, found)
            self._record = None if isinstance(found, Unreadable) else found

    def _reason(self, state: str) -> str:
        if state in runs.LIVE_STATES:
            return f"this run is {state}: wait for its end, or stop it on screen 3"
        if state == "removed":
            return "this run was deleted"
        if self._record is None:
            return self._facts.problem
        if self._record.text("train.objective") == "reward":
            return "a reward model scores answers and writes none"
        path = self.run.path
        if (path / "adapter" / "adapter_model.safetensors").is_file() or any(path.glob("model/*.safetensors")):
            return ""
        return "the run left no trained weights: resume it on screen 4"

    def _file(self, name: str, make: Callable[[], Made]) -> Made | None:
        """`make()` of a file of the run, made again when the file has changed; None without a file."""
        try:
            stamp = (self.run.path / name).stat().st_mtime
        except OSError:
            return None
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            kept = self._kept[name] = (stamp, make())
        made: Made = kept[1]
        return made

    def _report(self) -> tuple[Report | None, str]:
        found = results.load_report(self.run.path / results.EVALUATION_FOLDER)
        return (None, safe(found, 300)) if isinstance(found, Unreadable) else (make_report(found), "")

    def _further(self) -> str:
        """Verdicts of the sets of rows beside those that were held out."""
        folder = self.run.path / results.EVALUATION_FOLDER
        names = sorted(path.parent.name for path in folder.glob("*/report.json"))[:MOST_SETS]
        made = (self._file(f"{folder.name}/{name}/report.json", partial(_verdict_on, folder / name)) for name in names)
        told = ", ".join(filter(None, made))
        return f"other rows: {told}; tables in {folder.name}/NAME/report.txt" if told else ""

    def _held_out(self) -> int:
        validation = runs.load_data_record(self.run.path).validation
        return (validation.rows or 0) if validation else 0

    def _exported(self) -> tuple[str, Exported] | None:
        found = results.load_export(self.run.path, results.EXPORT_FOLDER)
        return None if isinstance(found, Unreadable) else (found.output, make_exported(found))


def _verdict_on(folder: Path) -> str:
    """A set's name and verdict; empty for what is no such report, as that of an export."""
    found = results.load_report(folder)
    if isinstance(found, Unreadable) or found.path is not None or not found.rows_from:
        return ""
    return safe(f"{found.rows_from} {found.verdict or 'without verdict'}", 60)


MOST_SETS = 16
MOST_CHARS = 20_000
"""Of one text of a sample; the whole is in the report's file."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score of both models as text. `sure`: `better`, `worse`, `chance`; empty where no interval was measured."""

    label: str
    base: str
    tuned: str
    change: str
    low: str = ""
    high: str = ""
    sure: str = ""
    effect: results.Effect | None = None
    """The change beside zero, where it has an interval."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out row with both answers; texts may have lines."""

    number: int
    prompt: str
    wanted: str
    base: str
    tuned: str

    @property
    def base_right(self) -> bool:
        """Whether the base answered exactly as wanted."""
        return self.base.strip() == self.wanted.strip()

    @property
    def tuned_right(self) -> bool:
        """Whether the tuned model did."""
        return self.tuned.strip() == self.wanted.strip()


@dataclass(frozen=True, slots=True)
class Report:
    """Base against tuned."""

    verdict: str
    reason: str
    has_few_rows: bool
    rows: int
    held_out: int
    how: str
    scores: tuple[Score, ...]
    counts: tuple[Score, ...]
    samples: tuple[Sample, ...]


def make_report(found: EvaluationReport) -> Report:
    """The report ready to show."""
    how = f"{found.dtype}, {found.quantization} base, {found.device}, {format_duration(found.seconds)}"
    return Report(
        verdict=safe(found.verdict or "none", 40),
        reason=safe(found.verdict_reason),
        has_few_rows=found.has_few_rows,
        rows=found.rows,
        held_out=found.rows_held_out,
        how=safe(how),
        scores=tuple(map(_score, found.scores)),
        counts=tuple(
            Score(label, str(base), str(tuned), f"{tuned - base:+d}")
            for label, base, tuned in results.count_rows(found)
            if base or tuned
        ),
        samples=tuple(_sample(number, item) for number, item in enumerate(found.samples, 1)),
    )


def _score(found: results.Score) -> Score:
    base, tuned = (results.number_text(found.kind, value) for value in (found.base, found.tuned))
    low, high = results.bound_texts(found) if found.delta is not None else ("", "")
    return Score(found.kind.label, base, tuned, results.change_text(found), low, high, found.significance, found.effect)


def _sample(number: int, item: results.Sample) -> Sample:
    texts = (item.prompt, item.reference, item.base or "", item.tuned)
    return Sample(number, *(sanitize(text, max_chars=MOST_CHARS) for text in texts))
