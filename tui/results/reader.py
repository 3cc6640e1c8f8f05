"""What a run has come to: its evaluation, its jobs, its export. One immutable value, read in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.api import results, runs
from engine.api.runs import Run, RunRecord
from engine.files import read_json
from engine.jsonvalues import Unreadable
from engine.text import format_duration, sanitize
from tui.frame.commands import LIVE_STATES
from tui.reading.jobs import JobReader, JobView
from tui.reading.snapshot import Facts, make_facts
from tui.results.exports import Choices, Exported, first_choices, make_exported
from tui.text import safe


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
    evaluation: JobView = field(default_factory=JobView)
    export: JobView = field(default_factory=JobView)
    exported: Exported | None = None
    profile: Choices = field(default_factory=Choices)
    """What the profile says of the export."""
    record: RunRecord | None = None
    """run.json; None where it cannot be read."""

    @property
    def no_evaluation(self) -> str:
        """Why it cannot be evaluated now, or nothing."""
        if self.reason or self.held_out:
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
        report, problem = self._file("eval/report.json", _report) or (None, "")
        exported = self._file("export-job/result.json", _exported) or self._file("export/export.json", _marked)
        if exported is not None and not Path(exported[0]).is_dir():
            exported = None  # it was deleted or moved since
        return Results(
            run=self.run,
            facts=self._facts,
            state=state,
            reason=self._reason(state),
            held_out=self._file("data/report.json", _held_out) or 0,
            report=report,
            report_problem=problem,
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
        if state in LIVE_STATES:
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

    def _file(self, name: str, make: Any) -> Any:
        """`make` of a JSON file of the run, made again when the file has changed; None without a file."""
        path = self.run.path / name
        try:
            stamp = path.stat().st_mtime
        except OSError:
            return None
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            kept = self._kept[name] = (stamp, _made(path, make))
        return kept[1]


def _made(path: Path, make: Any) -> Any:
    try:
        return make(read_json(path), path)
    except (OSError, ValueError) as error:
        return make({}, path) if make is not _report else (None, f"report.json cannot be read: {safe(error, 120)}")


def _report(found: dict[str, Any], path: Path) -> tuple[Report | None, str]:
    try:
        return make_report(found), ""
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return None, f"report.json is not whole ({safe(error, 80)}): evaluate again"


def _held_out(found: dict[str, Any], path: Path) -> int:
    validation = found.get("validation")
    rows = validation.get("rows") if isinstance(validation, dict) else 0
    return rows if isinstance(rows, int) else 0


def _exported(found: dict[str, Any], path: Path) -> tuple[str, Exported] | None:
    return (str(found["output"]), make_exported(found)) if found.get("output") else None


def _marked(found: dict[str, Any], path: Path) -> tuple[str, Exported] | None:
    """An export without its job's result: what its mark and its folders say."""
    folder = path.parent
    kinds = {kind: str(folder / kind) for kind in ("adapter", "merged", "nf4", "int8") if (folder / kind).is_dir()}
    return str(folder), make_exported({**found, **kinds, "output": str(folder)})


MOST_CHARS = 20_000
"""Of one text of a sample; the whole is in the report's file."""
_LESS_IS_BETTER = frozenset({"perplexity", "loss per token", "loss on other text"})


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
    rows: int
    held_out: int
    how: str
    scores: tuple[Score, ...]
    counts: tuple[Score, ...]
    samples: tuple[Sample, ...]


def make_report(found: Mapping[str, Any]) -> Report:
    """The report of a JSON object. One that is not whole raises KeyError, TypeError, ValueError or AttributeError."""
    counts = [Score(*row) for row in results.count_rows(dict(found)) if row[1:3] != ("0", "0")]
    how = f"{found['dtype']}, {found['quantization']} base, {found['device']}, {format_duration(found['seconds'])}"
    return Report(
        verdict=safe(found["verdict"], 40),
        reason=safe(found["verdict_reason"]),
        rows=int(found["rows"]),
        held_out=int(found["rows_held_out"]),
        how=safe(how),
        scores=tuple(_score(*row) for row in results.score_rows(dict(found))),
        counts=tuple(counts),
        samples=tuple(_sample(number, item) for number, item in enumerate(found["samples"], 1)),
    )


def _score(label: str, base: str, tuned: str, change: str) -> Score:
    bare, _, span = change.partition("  [")
    low, _, high = span.rstrip("]").partition(", ")
    return Score(label, base, tuned, bare, low, high, _sure(label, low, high))


def _sure(label: str, low: str, high: str) -> str:
    """What an interval that leaves zero out says."""
    try:
        under, over = float(low), float(high)
    except ValueError:
        return ""
    if under <= 0 <= over:
        return "chance"
    return "better" if (over < 0) == (label in _LESS_IS_BETTER) else "worse"


def _sample(number: int, item: Mapping[str, Any]) -> Sample:
    texts = (sanitize(str(item[key]), max_chars=MOST_CHARS) for key in ("prompt", "reference", "base", "tuned"))
    return Sample(number, *texts)
