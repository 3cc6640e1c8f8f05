"""The report of an evaluation as a value: what `eval/report.json` holds, with numbers as numbers.

The evaluation makes one and writes `to_json`; the page, the model card, the shell and the deck read it back with
`load_report` or `report_of` and format from its numbers. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.jsonvalues import (
    Table,
    Unreadable,
    load_any_object,
    load_object,
    number_in,
    table_in,
    tables_in,
    text_in,
    whole_in,
)

REPORT_VERSION = 2
REPORT_FILE = "report.json"
FEWEST_ROWS = 5
"""Below this the resamples are too alike for an interval to mean anything."""
_HINT = "evaluate again"
Numbers = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class ScoreKind:
    """How a score is named and shown: its value times `factor`, with `places` decimals.

    `better`: 1 where more is better, -1 where less is. `interval`: the key of its interval in the report.
    """

    key: str
    label: str
    factor: int
    places: int
    better: int = 1
    interval: str = ""


KINDS = (
    ScoreKind("perplexity", "perplexity", 1, 3, -1),
    ScoreKind("loss", "loss per token", 1, 4, -1, "nll"),
    ScoreKind("relevance", "gain from the prompt", 1, 3),
    ScoreKind("retention", "loss on other text", 1, 4, -1),
    ScoreKind("calls_parsed", "calls that parse %", 100, 1),
    ScoreKind("tools_right", "right tool %", 100, 1),
    ScoreKind("arguments_right", "right arguments %", 100, 1),
    ScoreKind("rouge1", "ROUGE-1", 1, 1),
    ScoreKind("rouge2", "ROUGE-2", 1, 1),
    ScoreKind("rougeL", "ROUGE-L", 1, 1),
    ScoreKind("rougeLsum", "ROUGE-Lsum", 1, 1),
    ScoreKind("bleu", "BLEU", 1, 1),
    ScoreKind("chrf", "chrF", 1, 1),
    ScoreKind("bertscore_precision", "BERTScore P", 1, 1),
    ScoreKind("bertscore_recall", "BERTScore R", 1, 1),
    ScoreKind("bertscore_f1", "BERTScore F1", 1, 1),
    ScoreKind("exact_match", "exact match %", 100, 1),
    ScoreKind("exact_match_strict", "strict match %", 100, 1),
    ScoreKind("token_f1", "token F1 %", 100, 1),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """A change with its interval as shares of the largest of its bounds, -1 to 1: above 0 the tuned model is better."""

    low: float
    change: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """A score of both models, of `tuned` less `base`, and the interval of that; None = not measured or not finite.

    Of one model alone the interval is that of `tuned`.
    """

    kind: ScoreKind
    base: float | None
    tuned: float | None
    delta: float | None
    interval: tuple[float, float] | None

    @property
    def significance(self) -> str:
        """`better`, `worse` or `chance`; empty where no change was measured with an interval."""
        if self.interval is None or self.delta is None:
            return ""
        low, high = self.interval
        if low <= 0 <= high:
            return "chance"
        return "better" if (low > 0) == (self.kind.better > 0) else "worse"

    @property
    def effect(self) -> Effect | None:
        """The change beside zero, to be drawn; None where no change was measured with an interval."""
        if self.interval is None or self.delta is None:
            return None
        low, change, high = sorted(bound * self.kind.better for bound in (*self.interval, self.delta))
        most = max(abs(low), abs(high)) or 1.0
        return Effect(low / most, change / most, high / most)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """How many answers of a model were empty, repeated themselves, or ran into the limit."""

    empty: int = 0
    degenerate: int = 0
    unstopped: int = 0

    @property
    def any(self) -> bool:
        """Whether something went wrong with an answer."""
        return bool(self.empty or self.degenerate or self.unstopped)


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out row with the answers. `base` is None where one model was measured alone. Not sanitised."""

    prompt: str
    reference: str
    tuned: str
    base: str | None = None

    def to_json(self) -> dict[str, str]:
        """As the report holds it."""
        base = {} if self.base is None else {"base": self.base}
        return {"prompt": self.prompt, "reference": self.reference, **base, "tuned": self.tuned}


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """Nats a token on one group of other texts."""

    passages: int
    counted: int
    base: float | None
    tuned: float | None


@dataclass(frozen=True, slots=True)
class RetentionFigures:
    """The loss on text outside the task; `rise` is in nats a token, `forgetting` None where it cannot be told."""

    source: str
    passages: int
    counted: int
    found: int
    tokens: int
    base: float | None
    tuned: float | None
    rise: float | None
    interval: tuple[float, float] | None
    bound: float
    forgetting: bool | None
    groups: Mapping[str, GroupLoss] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        interval = None if self.interval is None else list(self.interval)
        return {**asdict(self), "interval": interval}


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """A model measured beside its base, or alone: then `base` is empty and there is no verdict."""

    run: str
    base: Numbers
    tuned: Numbers
    delta: Numbers
    intervals: Mapping[str, tuple[float, float]]
    verdict: str | None
    verdict_reason: str
    counts: Mapping[str, AnswerCounts]
    samples: tuple[Sample, ...]
    rows: int
    rows_held_out: int
    seconds: float
    dtype: str = ""
    quantization: str = ""
    device: str = ""
    retention: RetentionFigures | None = None
    rows_scored: int | None = None
    """Rows with a loss."""
    rows_answered: int | None = None
    calls_asked: int | None = None
    """Answers with tool calls that were asked for."""
    rows_cut: int | None = None
    rows_too_long: int | None = None
    rows_from: str | None = None
    """The rows that were named instead of what the run held out."""
    tokens: int | None = None
    bleu_tokenizers: Mapping[str, Any] | None = None
    max_new_tokens: int | None = None
    path: str | None = None
    """Of a model that is not a run's own."""
    run_of_rows: str | None = None

    @property
    def is_alone(self) -> bool:
        """Whether one model was measured with nothing beside it."""
        return not self.base and "base" not in self.counts

    @property
    def has_few_rows(self) -> bool:
        """Whether fewer rows, or calls, were measured than a verdict needs."""
        counted = [one for one in (self.rows_scored, self.rows_answered, self.calls_asked) if one is not None]
        return max(counted, default=self.rows) < FEWEST_ROWS

    @property
    def scores(self) -> tuple[Score, ...]:
        """Every score that was measured, in the order in which it is shown."""
        own = self.tuned if self.is_alone else self.base
        return tuple(self._score(kind) for kind in KINDS if kind.key in own)

    def _score(self, kind: ScoreKind) -> Score:
        key = kind.key
        interval = self.intervals.get(kind.interval or key)
        return Score(kind, self.base.get(key), self.tuned.get(key), self.delta.get(key), interval)

    def to_json(self) -> dict[str, Any]:
        """The content of report.json; what belongs to a model at a path is left out for a run's own."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.path is None:
            del plain["path"], plain["run_of_rows"]
        for key in ("rows_scored", "calls_asked"):
            if plain[key] is None:
                del plain[key]
        return {
            "v": REPORT_VERSION,
            **plain,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "counts": {name: asdict(counts) for name, counts in self.counts.items()},
            "samples": [sample.to_json() for sample in self.samples],
            "retention": None if self.retention is None else self.retention.to_json(),
        }


def load_report(folder: Path) -> EvaluationReport | Unreadable:
    """The report in a run's `eval/`, or why it cannot be used."""
    found = load_object(folder / REPORT_FILE, name=REPORT_FILE, version_key="v", newest=REPORT_VERSION, hint=_HINT)
    return found if isinstance(found, Unreadable) else report_of(found, str(folder))


def tuned_scores(folder: Path) -> dict[str, float]:
    """What the tuned model scored, by the key of the score; empty without a report that can be read."""
    found = load_any_object(folder / REPORT_FILE, name=REPORT_FILE, hint=_HINT)
    tuned = {} if isinstance(found, Unreadable) else table_in(found, "tuned")
    numbers = ((kind.key, number_in(tuned, kind.key)) for kind in KINDS)
    return {key: score for key, score in numbers if score is not None}


def read_report(folder: Path) -> EvaluationReport:
    """The report in a run's `eval/`. Raises EngineError(PROFILE)."""
    return _or_raise(load_report(folder))


def read_report_of(found: Table) -> EvaluationReport:
    """The report in a worker's result. Raises EngineError(PROFILE)."""
    return _or_raise(report_of(found))


def _or_raise(found: EvaluationReport | Unreadable) -> EvaluationReport:
    if isinstance(found, Unreadable):
        raise found.error()
    return found


def report_of(found: Table, where: str = "") -> EvaluationReport | Unreadable:
    """The report that an object is: a file's, or a worker's result."""
    missing = [key for key in ("tuned", "counts") if not isinstance(found.get(key), Mapping)]
    missing += [key for key in ("samples",) if not isinstance(found.get(key), list)]
    missing += [key for key in ("rows", "rows_held_out", "seconds") if number_in(found, key) is None]
    if missing:
        return Unreadable(REPORT_FILE, f"is not whole, it holds no {', no '.join(missing)}", _HINT, where)
    verdict = found.get("verdict")
    tokenizers = found.get("bleu_tokenizers")
    return EvaluationReport(
        run=text_in(found, "run"),
        base=finite(table_in(found, "base")),
        tuned=finite(table_in(found, "tuned")),
        delta=finite(table_in(found, "delta")),
        intervals=_intervals(table_in(found, "intervals")),
        verdict=None if verdict is None else str(verdict),
        verdict_reason=str(found.get("verdict_reason") or ""),
        counts={name: _counts(table) for name, table in table_in(found, "counts").items()},
        samples=tuple(map(_sample, tables_in(found, "samples"))),
        rows=whole_in(found, "rows") or 0,
        rows_held_out=whole_in(found, "rows_held_out") or 0,
        seconds=number_in(found, "seconds") or 0.0,
        dtype=text_in(found, "dtype"),
        quantization=text_in(found, "quantization"),
        device=text_in(found, "device"),
        retention=_retention(table_in(found, "retention")),
        rows_scored=whole_in(found, "rows_scored"),
        rows_answered=whole_in(found, "rows_answered"),
        calls_asked=whole_in(found, "calls_asked"),
        rows_cut=whole_in(found, "rows_cut"),
        rows_too_long=whole_in(found, "rows_too_long"),
        rows_from=text_in(found, "rows_from") or None,
        tokens=whole_in(found, "tokens"),
        bleu_tokenizers=tokenizers if isinstance(tokenizers, Mapping) else None,
        max_new_tokens=whole_in(found, "max_new_tokens"),
        path=text_in(found, "path") or None,
        run_of_rows=text_in(found, "run_of_rows") or None,
    )


def finite(found: Table) -> dict[str, float | None]:
    """Numbers by name; an infinite perplexity is None, because JSON has no infinity."""
    return {key: number_in(found, key) for key in found}


def _intervals(found: Table) -> dict[str, tuple[float, float]]:
    bounds = {key: _bounds(value) for key, value in found.items()}
    return {key: pair for key, pair in bounds.items() if pair is not None}


def _bounds(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    pair = {"low": value[0], "high": value[1]}
    low, high = number_in(pair, "low"), number_in(pair, "high")
    return None if low is None or high is None else (low, high)


def _counts(found: Any) -> AnswerCounts:
    table = found if isinstance(found, Mapping) else {}
    empty, degenerate, unstopped = (whole_in(table, key) or 0 for key in ("empty", "degenerate", "unstopped"))
    return AnswerCounts(empty, degenerate, unstopped)


def _sample(found: Table) -> Sample:
    base = found.get("base")
    prompt, reference, tuned = (str(found.get(key) or "") for key in ("prompt", "reference", "tuned"))
    return Sample(prompt, reference, tuned, None if base is None else str(base))


def _retention(found: Table) -> RetentionFigures | None:
    if not found:
        return None
    forgetting = found.get("forgetting")
    return RetentionFigures(
        source=text_in(found, "source"),
        passages=whole_in(found, "passages") or 0,
        counted=whole_in(found, "counted") or 0,
        found=whole_in(found, "found") or 0,
        tokens=whole_in(found, "tokens") or 0,
        base=number_in(found, "base"),
        tuned=number_in(found, "tuned"),
        rise=number_in(found, "rise"),
        interval=_bounds(found.get("interval")),
        bound=number_in(found, "bound") or 0.0,
        forgetting=forgetting if isinstance(forgetting, bool) else None,
        groups={str(name): _group(group) for name, group in table_in(found, "groups").items()},
    )


def _group(found: Any) -> GroupLoss:
    table = found if isinstance(found, Mapping) else {}
    counts = (whole_in(table, "passages") or 0, whole_in(table, "counted") or 0)
    return GroupLoss(*counts, number_in(table, "base"), number_in(table, "tuned"))
