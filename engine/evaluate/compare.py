"""Collect a model's measurements on held-out rows, and compare base with tuned.

`add_…` take what was measured; `compare` turns two measurements into the numbers of the report: scores,
changes with intervals, retention, verdict. Not here: loading models, writing files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.evaluate.bertscore import BertScore
from engine.evaluate.bootstrap import Change, paired_change, verdict
from engine.evaluate.metrics import Bleu, ExactMatch, Rouge, TokenF1, mean, perplexity_of
from engine.evaluate.relevance import Gain, change_of, gains, is_lost, per_token
from engine.evaluate.report import AnswerCounts, RetentionFigures
from engine.evaluate.retention import Kept, judge, with_forgetting
from engine.inference.answers import Answer, counts
from engine.inference.losses import RowLoss

READABLE = {
    "relevance": "dependence on the prompt",
    "nll": "perplexity",
    "rougeL": "ROUGE-L",
    "bertscore_f1": "BERTScore",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "calls_parsed": "calls that parse",
    "tools_right": "the right tool",
    "arguments_right": "the right arguments",
}
"""Scores that decide the verdict, as a person calls them."""
PER_TOKEN = ("loss", "perplexity", "relevance")
"""Scores that compare only where both models cut the text into the same tokens."""


@dataclass(slots=True)
class Measured:
    """One model on the rows: losses of every row, answers of those with a prompt, scores and row scores."""

    losses: list[RowLoss] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    called: list[Answer] = field(default_factory=list)
    """Answers to the questions that want tool calls."""
    scores: dict[str, float] = field(default_factory=dict)
    row_scores: dict[str, list[float]] = field(default_factory=dict)
    tokenizers: dict[str, int] = field(default_factory=dict)
    """Rows by the BLEU tokenizer that their script took."""
    gains: list[Gain] = field(default_factory=list)
    """Of rows with one answer, what it gains from its own prompt."""
    kept: list[RowLoss] = field(default_factory=list)
    """Losses of the passages that measure retention."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What two measurements, or one alone, say: the part of the report that is computed from them."""

    base: dict[str, float]
    tuned: dict[str, float]
    delta: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    retention: RetentionFigures | None
    verdict: str | None
    verdict_reason: str
    counts: dict[str, AnswerCounts]


def add_losses(measured: Measured, losses: list[RowLoss]) -> None:
    """Token-weighted mean loss and perplexity over the trained tokens of all rows."""
    measured.losses = losses
    nll, tokens = math.fsum(row.nll for row in losses), sum(row.tokens for row in losses)
    if tokens:
        measured.scores |= {"loss": nll / tokens, "perplexity": perplexity_of(nll, tokens)}


def add_gains(measured: Measured, own: Sequence[RowLoss], other: Sequence[RowLoss]) -> None:
    """What answers gain from their prompts over another row's prompt."""
    measured.gains = gains(own, other)
    if any(gain.tokens for gain in measured.gains):
        measured.scores["relevance"] = per_token(measured.gains)


def add_answers(
    measured: Measured,
    answers: list[Answer],
    references: Sequence[str],
    metrics: Sequence[str],
    encoder: BertScore | None = None,
) -> None:
    """Scores of the answers against their references, for the `metrics` asked for, and by the `encoder`."""
    measured.answers = answers
    texts = [answer.text.strip() for answer in answers]
    truths = [reference.strip() for reference in references]
    pairs = {"predictions": texts, "references": truths}
    if not texts:
        return
    if "rouge" in metrics:
        measured.scores |= Rouge().compute(**pairs)
        measured.row_scores["rougeL"] = Rouge().compute(**pairs, use_aggregator=False)["rougeL"]
    if "bleu" in metrics:
        found = Bleu().compute(**pairs)
        measured.tokenizers = found.pop("tokenizers")
        measured.scores |= found
    if encoder is not None:
        found = encoder.compute(**pairs, use_aggregator=False)
        measured.scores |= {name: mean(values) for name, values in found.items()}
        measured.row_scores["bertscore_f1"] = found["bertscore_f1"]
    if "exact_match" in metrics:
        measured.scores |= ExactMatch().compute(**pairs) | TokenF1().compute(**pairs)
        measured.row_scores |= {"exact_match": ExactMatch().compute(**pairs, use_aggregator=False)["exact_match"]}
        measured.row_scores |= TokenF1().compute(**pairs, use_aggregator=False)


def add_calls(measured: Measured, answers: list[Answer], found: Mapping[str, list[float]]) -> None:
    """Scores of the answers that should call tools, one number an answer."""
    measured.called = answers
    measured.scores |= {name: mean(values) for name, values in found.items() if values}
    measured.row_scores |= {name: values for name, values in found.items() if values}


def changes(base: Measured, tuned: Measured, same_tokens: bool = True) -> list[Change]:
    """What decides the verdict: loss per token where both were scored on the same tokens, and each row score."""
    found = []
    tokens = [row.tokens for row in base.losses]
    if same_tokens and any(tokens) and tokens == [row.tokens for row in tuned.losses]:
        rows = [(one.nll, other.nll, size) for one, other, size in zip(base.losses, tuned.losses, tokens, strict=True)]
        kept = [row for row in rows if row[2]]
        found.append(paired_change("nll", *(list(part) for part in zip(*kept, strict=True)), better=-1))
    for name, values in base.row_scores.items():
        if len(values) == len(tuned.row_scores.get(name, ())):
            found.append(paired_change(name, values, tuned.row_scores[name]))
    return found


def compare(base: Measured, tuned: Measured, kept: Kept | None = None, *, same_tokens: bool = True) -> Findings:
    """Scores of both, what changed and how surely, and the verdict. `same_tokens`: both cut the rows alike."""
    found = changes(base, tuned, same_tokens)
    same_tokens = any(change.name == "nll" for change in found)
    relevance = change_of(base.gains, tuned.gains) if same_tokens else None
    lost = [relevance] if relevance is not None and is_lost(relevance, base.gains) else []
    word, reason = verdict([*lost, *found], _rows_measured(tuned), READABLE)
    retention = None if kept is None else judge(kept, base.kept, tuned.kept)
    word, reason = with_forgetting(word, reason, retention)
    before, after = dict(base.scores), dict(tuned.scores)
    if retention is not None and retention.base is not None and retention.tuned is not None:
        before["retention"], after["retention"] = retention.base, retention.tuned
    found += [retention.change] if retention is not None and retention.change is not None else []
    found += [relevance] if relevance is not None else []
    shared = [name for name in before if name in after and (same_tokens or name not in PER_TOKEN)]
    return Findings(
        base=before,
        tuned=after,
        delta={name: after[name] - before[name] for name in shared},
        intervals=_intervals(found),
        retention=None if retention is None else retention.figures(),
        verdict=word,
        verdict_reason=reason,
        counts={"base": _counts(base), "tuned": _counts(tuned)},
    )


def _rows_measured(tuned: Measured) -> int:
    """The most rows that one of the scores stands on."""
    scored = sum(row.tokens > 0 for row in tuned.losses)
    return max([scored, *(len(values) for values in tuned.row_scores.values())])


def alone(tuned: Measured, kept: Kept | None = None) -> Findings:
    """The same for one model with nothing beside it: scores with their intervals, no verdict."""
    sizes = [row.tokens for row in tuned.losses if row.tokens]
    losses = [row.nll for row in tuned.losses if row.tokens]
    found = [paired_change("nll", [0.0] * len(sizes), losses, sizes)] if sizes else []
    found += [paired_change(name, [0.0] * len(values), values) for name, values in tuned.row_scores.items()]
    retention = None if kept is None else judge(kept, tuned.kept)
    read = {} if retention is None or retention.base is None else {"retention": retention.base}
    return Findings(
        base={},
        tuned=tuned.scores | read,
        delta={},
        intervals=_intervals(found),
        retention=None if retention is None else retention.figures(),
        verdict=None,
        verdict_reason="one model alone: name another with --base to compare",
        counts={"tuned": _counts(tuned)},
    )


def _intervals(found: Sequence[Change]) -> dict[str, tuple[float, float]]:
    return {change.name: (change.low, change.high) for change in found}


def _counts(measured: Measured) -> AnswerCounts:
    return AnswerCounts(**counts([*measured.answers, *measured.called]))
