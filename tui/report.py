"""An evaluation report as the deck shows it: sanitised values of `eval/report.json`. Drawn by `scoreview.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import api
from engine.text import format_duration, sanitize
from tui.text import safe

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
    counts = [Score(*row) for row in api.count_rows(dict(found)) if row[1:3] != ("0", "0")]
    how = f"{found['dtype']}, {found['quantization']} base, {found['device']}, {format_duration(found['seconds'])}"
    return Report(
        verdict=safe(found["verdict"], 40),
        reason=safe(found["verdict_reason"]),
        rows=int(found["rows"]),
        held_out=int(found["rows_held_out"]),
        how=safe(how),
        scores=tuple(_score(*row) for row in api.score_rows(dict(found))),
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
