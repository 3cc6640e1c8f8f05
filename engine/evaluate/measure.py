"""One model measured on the rows: losses, answers behind other prompts, retention, answers and their scores.

What a tokenizer makes of the rows is `Inputs`; both models share it where they
share the tokenizer. Not here: what the numbers mean (`compare.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.evaluate.bertscore import BertScore
from engine.evaluate.compare import Measured, add_answers, add_gains, add_losses
from engine.evaluate.relevance import askable, mismatched
from engine.evaluate.retention import Kept, encode_kept
from engine.inference import answers as generation
from engine.inference.answers import Sampling
from engine.inference.encode import EncodedRows, encode_rows
from engine.inference.losses import RowLoss, score
from engine.inference.rows import HeldOut
from engine.profile.tables.outcome import Evaluate
from engine.runs.job import Job, Warn

SAMPLES = 6
"""Answers shown side by side; also generated when no metric asks for any."""
PASSAGE_TOKENS = 1024
"""A retention passage is read that far, however short the rows of the task are."""
NO_ANSWERS = {"perplexity", "retention"}
"""Metrics that need no answers."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything to measure, in one tokenizer's tokens. `others`: answers behind other rows' prompts."""

    tokenizer: Any
    encoded: EncodedRows
    others: EncodedRows | None
    kept: EncodedRows | None
    asked: list[int]
    """Rows to answer."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What every model is asked, whatever its tokenizer: rows, retention texts, metrics, the BERTScore encoder."""

    rows: list[HeldOut]
    kept: Kept | None
    wanted: Evaluate
    max_length: int
    context: int
    encoder: BertScore | None = None


def inputs_of(what: Questions, tokenizer: Any, warn: Warn) -> Inputs:
    """The rows as tokens; reports what is cut or left out."""
    metrics, rows = what.wanted.metrics, what.rows
    room = what.context - what.wanted.max_new_tokens
    encoded = encode_rows(rows, tokenizer, max_length=what.max_length, room_tokens=room)
    if encoded.cut:
        warn("rows_cut", f"{encoded.cut} held-out rows are longer than max_length and are scored up to it")
    if encoded.too_long:
        warn("rows_too_long", f"{encoded.too_long} prompts leave no room for an answer and are not generated")
    mixed = mismatched(rows) if "perplexity" in metrics else []
    others = encode_rows(mixed, tokenizer, max_length=what.max_length, room_tokens=0) if mixed else None
    passage_tokens = min(max(what.max_length, PASSAGE_TOKENS), what.context)
    kept = None if what.kept is None else encode_kept(what.kept, tokenizer, passage_tokens)
    if kept is not None and kept.cut:
        warn("retention_cut", f"{kept.cut} retention passages are longer than {passage_tokens} tokens: scored up to it")
    numbers = sorted(encoded.prompts)
    return Inputs(tokenizer, encoded, others, kept, numbers if set(metrics) - NO_ANSWERS else numbers[:SAMPLES])


def measure(job: Job, name: str, model: Any, what: Questions, inputs: Inputs) -> Measured:
    """One model on everything that was asked for; `name` is for telling."""
    measured = Measured()
    if "perplexity" in what.wanted.metrics:
        _losses(job, name, model, what, inputs, measured)
    if what.kept is not None and inputs.kept is not None:
        job.phase("evaluate", f"{what.kept.source} of {name}")
        measured.kept = _score(job, model, inputs, inputs.kept, len(what.kept.rows), "passages")
    job.phase("evaluate", f"answers of {name}")
    answers = _answers(job, model, what, inputs)
    references = [what.rows[number].reference for number in inputs.asked]
    add_answers(measured, answers, references, what.wanted.metrics, what.encoder)
    return measured


def _losses(job: Job, name: str, model: Any, what: Questions, inputs: Inputs, measured: Measured) -> None:
    """Loss of every row, and what its answer gains from its own prompt."""
    job.phase("evaluate", f"perplexity of {name}")
    by_row = _score(job, model, inputs, inputs.encoded, len(what.rows), "rows")
    add_losses(measured, by_row)
    if inputs.others is not None:
        job.phase("evaluate", f"answers of {name} behind other prompts")
        asked = askable(what.rows)
        mixed = _score(job, model, inputs, inputs.others, len(asked), "rows")
        add_gains(measured, [by_row[number] for number in asked], mixed)


def _score(job: Job, model: Any, inputs: Inputs, encoded: EncodedRows, rows: int, unit: str) -> list[RowLoss]:
    losses = score(
        model,
        encoded.documents,
        _pad_id(inputs.tokenizer),
        lambda done, total: job.progress("evaluate", done, total, unit),
        job.warn,
    )
    return encoded.by_row(losses, rows)


def _answers(job: Job, model: Any, what: Questions, inputs: Inputs) -> list[generation.Answer]:
    stops = generation.stop_ids(inputs.tokenizer, model, inputs.encoded.last_trained)
    how = Sampling(what.wanted.max_new_tokens, what.wanted.batch_size, stops, _pad_id(inputs.tokenizer))
    prompts: Sequence[list[int]] = [inputs.encoded.prompts[number] for number in inputs.asked]
    return generation.generate(
        model,
        inputs.tokenizer,
        prompts,
        how,
        lambda done, total: job.progress("evaluate", done, total, "answers"),
        job.warn,
    )


def _pad_id(tokenizer: Any) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
