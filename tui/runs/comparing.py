"""Runs beside each other: curves, numbers and settings, read in a thread. Drawn by `compare_view.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.api import results
from engine.api import runs as runs_api
from engine.api.runs import Run
from engine.jsonvalues import Unreadable
from engine.text import format_bytes, format_count, format_duration
from tui.charts.decimate import Point
from tui.reading.snapshot import RunSnapshot, short_name, value
from tui.reading.tail import RunReader
from tui.runs.view import LETTERS
from tui.text import number, rate, safe

METRICS = ("loss", "evaluation loss", "learning rate", "gradient norm", "tokens per second")
_UNTOLD = frozenset({"schema_version", "name", "description"})
"""Settings that name a profile and change nothing."""
Setting = tuple[str, str]
"""A value and where it came from."""
Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs. `numbers`: text by label; `scores`: what of them is better when lower (-1) or higher (1)."""

    letter: str
    name: str
    state: str
    curves: Mapping[str, Pairs]
    numbers: Mapping[str, str]
    scores: Mapping[str, float]
    settings: Mapping[str, Setting] = field(default_factory=dict)


SENSES = {"best evaluation": -1, "tokens per second": 1, "peak memory": -1, "perplexity, tuned": -1}
"""Numbers of which one is the best: the lowest (-1) or the highest (1)."""


class Comparer:
    """Follows the marked runs; what was read stays. Used by one thread at a time."""

    def __init__(self) -> None:
        self._readers: dict[str, RunReader] = {}

    def read(self, runs: Sequence[Run]) -> tuple[Compared, ...]:
        """The runs as they are now, in the order of their letters."""
        self._readers = {run.id: self._readers.get(run.id) or RunReader(run) for run in runs}
        return tuple(self._one(letter, run) for letter, run in zip(LETTERS, runs, strict=False))

    def _one(self, letter: str, run: Run) -> Compared:
        reader = self._readers[run.id]
        while reader.read():
            pass
        shot = reader.snapshot(reader.state())
        numbers, scores = _numbers(shot, run)
        name = safe(short_name(run.id), 60)
        return Compared(letter, name, shot.state, _curves(shot), numbers, scores, _settings(run))


def _curves(shot: RunSnapshot) -> dict[str, Pairs]:
    found = shot.curves
    lines = (found.smooth, (), found.learning_rate, found.grad_norm, found.tokens_per_second)
    curves = {name: _pairs(points) for name, points in zip(METRICS, lines, strict=True)}
    memory = {"memory": _pairs(found.memory_by_step[0][1])} if found.memory_by_step else {}
    return {**curves, "evaluation loss": found.evals, **memory, **{name: _pairs(line) for name, line in found.metrics}}


def metrics_of(runs: Sequence[Compared]) -> list[str]:
    """The usual curves, then whatever else any of the runs told."""
    return list(dict.fromkeys([*METRICS, *(name for one in runs for name in one.curves)]))


def _pairs(points: Sequence[Point]) -> Pairs:
    return tuple((point.x, point.mean) for point in points)


def _numbers(shot: RunSnapshot, run: Run) -> tuple[dict[str, str], dict[str, float]]:
    """Texts by label, and those that can be ranked as numbers."""
    texts, scores = _training(shot)
    trained = runs_api.summary_or_empty(run.path).trainable_parameters
    texts["trained values"] = format_count(trained) if trained is not None else "n/a"
    more, judged = _evaluation(run)
    return {**texts, **more}, {**scores, **judged}


def _training(shot: RunSnapshot) -> tuple[dict[str, str], dict[str, float]]:
    speeds = [point.mean for point in shot.curves.tokens_per_second]
    best, at, peak = value(shot.best_eval, "loss"), value(shot.best_eval, "step"), _peak(shot)
    speed = sum(speeds) / len(speeds) if speeds else None
    texts = {
        "state": shot.state,
        "steps": f"{shot.step:,}" + (f" of {shot.steps_total:,}" if shot.steps_total else ""),
        "best evaluation": number(best, ".4f") + (f" at {at:,.0f}" if best is not None and at is not None else ""),
        "last loss": number(value(shot.last_step, "loss"), ".4f"),
        "tokens per second": rate(speed),
        "took": format_duration(value(shot.finished, "seconds")),
        "peak memory": format_bytes(peak),
        "predicted": format_bytes(shot.facts.predicted_bytes),
    }
    scores = {"best evaluation": best, "tokens per second": speed, "peak memory": peak}
    return texts, {name: found for name, found in scores.items() if found is not None}


def _peak(shot: RunSnapshot) -> float | None:
    keys = ("process_bytes", "peak_reserved_bytes", "host_rss_bytes")
    return next((found for key in keys if (found := value(shot.memory, key)) is not None), None)


def _evaluation(run: Run) -> tuple[dict[str, str], dict[str, float]]:
    """The verdict and what the tuned model scored, as texts and, where they can be ranked, as numbers."""
    report = results.load_report(run.path / results.EVALUATION_FOLDER)
    if isinstance(report, Unreadable):
        return {}, {}
    perplexity = report.tuned.get("perplexity")
    texts = {"verdict": safe(report.verdict or "n/a", 30), "perplexity, tuned": number(perplexity, ".3f")}
    for score in report.scores:
        if score.kind.key in ("rougeL", "exact_match"):
            texts[f"{score.kind.label}, tuned"] = results.number_text(score.kind, score.tuned)
    return texts, {} if perplexity is None else {"perplexity, tuned": perplexity}


def _settings(run: Run) -> dict[str, Setting]:
    found = runs_api.load_record(run.path)
    if isinstance(found, Unreadable):
        return {}
    return {
        safe(key, 80): (_text(origin.value), safe(origin.source, 12))
        for key, origin in found.provenance.items()
        if key not in _UNTOLD
    }


def _text(setting: Any) -> str:
    if setting is None:
        return "–"
    return safe(setting if isinstance(setting, str) else json.dumps(setting, ensure_ascii=False), 400)


def differing(runs: Sequence[Compared]) -> list[str]:
    """Keys whose values differ, in the order of the settings."""
    return [key for key in setting_keys(runs) if len({one.settings.get(key, ("–", ""))[0] for one in runs}) > 1]


def setting_keys(runs: Sequence[Compared]) -> list[str]:
    """Every key that any run has, in order."""
    return list(dict.fromkeys(key for one in runs for key in one.settings))


def best_of(label: str, runs: Sequence[Compared]) -> str:
    """The letter of the run that is best in a number; empty where that means nothing or two are alike."""
    sense = SENSES.get(label)
    found = sorted((-sense * one.scores[label], one.letter) for one in runs if sense and label in one.scores)
    return found[0][1] if len(found) > 1 and found[0][0] < found[1][0] else ""
