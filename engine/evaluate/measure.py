"""One model measured on the rows: losses, answers behind other prompts, retention, answers and their scores.

What a tokenizer makes of the rows is `Inputs`; both models share it where they
share the tokenizer. Not here: what the numbers mean (`compare.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.chat import trained_template
from engine.evaluate.bertscore import BertScore
from engine.evaluate.calls import CallInputs, call_inputs, call_scores
from engine.evaluate.compare import Measured, add_answers, add_calls, add_gains, add_losses
from engine.evaluate.relevance import askable, mismatched
from engine.evaluate.retention import Kept, encode_kept
from engine.inference import answers as generation
from engine.inference.answers import Sampling
from engine.inference.call_forms import AnswerForm, answer_form
from engine.inference.encode import EncodedRows, encode_rows
from engine.inference.losses import RowLoss, score
from engine.inference.replies import said
from engine.inference.rows import HeldOut
from engine.profile.schema import Profile
from engine.profile.tables.outcome import Evaluate
from engine.runs.job import Job, Warn

SAMPLES = 6
"""Answers shown side by side; also generated when no metric asks for any."""
PASSAGE_TOKENS = 1024
"""A retention passage is read that far, however short the rows of the task are."""
NO_ANSWERS = {"perplexity", "retention", "calls"}
"""Metrics that need no answers, or ask questions of their own."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything to measure, in one tokenizer's tokens. `others`: answers behind other rows' prompts."""

    tokenizer: Any
    encoded: EncodedRows
    form: AnswerForm
    others: EncodedRows | None
    kept: EncodedRows | None
    asked: list[int]
    """Rows to answer."""
    calls: CallInputs | None = None
    """Answers that should call tools."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What every model is asked, whatever its tokenizer: rows, retention texts, metrics, the BERTScore encoder."""

    rows: list[HeldOut]
    kept: Kept | None
    settings: Profile
    max_length: int
    context: int
    encoder: BertScore | None = None

    @property
    def wanted(self) -> Evaluate:
        """The settings of the evaluation."""
        return self.settings.evaluate


def inputs_of(what: Questions, tokenizer: Any, warn: Warn) -> Inputs:
    """The rows as tokens; reports what is cut or left out."""
    metrics, rows = what.wanted.metrics, what.rows
    room = what.context - what.wanted.max_new_tokens
    encoded = encode_rows(rows, tokenizer, max_length=what.max_length, room_tokens=room, settings=what.settings)
    if encoded.cut:
        warn("rows_cut", f"{encoded.cut} held-out rows are longer than max_length and are scored up to it")
    if encoded.too_long:
        warn("rows_too_long", f"{encoded.too_long} prompts leave no room for an answer and are not generated")
    if encoded.refused:
        warn("prompts_refused", f"the chat template refuses {encoded.refused} prompts: they are not answered")
    mixed = mismatched(rows) if "perplexity" in metrics else []
    others = (
        encode_rows(mixed, tokenizer, max_length=what.max_length, room_tokens=0, settings=what.settings)
        if mixed
        else None
    )
    passage_tokens = min(max(what.max_length, PASSAGE_TOKENS), what.context)
    kept = None if what.kept is None else encode_kept(what.kept, tokenizer, passage_tokens)
    if kept is not None and kept.cut:
        warn("retention_cut", f"{kept.cut} retention passages are longer than {passage_tokens} tokens: scored up to it")
    calls = call_inputs(rows, tokenizer, what.settings, room) if "calls" in metrics else None
    if calls is not None and calls.too_long:
        warn("calls_too_long", f"{calls.too_long} prompts leave no room for a tool call and are not scored")
    if calls is not None and calls.unread:
        warn("calls_unread", f"the chat template writes {calls.unread} calls so that they cannot be read: not scored")
    if calls is not None and calls.questions and calls.form.calls is None:
        warn("calls", "the chat template writes no tool calls: they are read in the usual forms")
    numbers = sorted(encoded.prompts)
    asked = numbers if set(metrics) - NO_ANSWERS else numbers[:SAMPLES]
    form = answer_form(tokenizer, trained_template(what.settings, tokenizer))
    return Inputs(tokenizer, encoded, form, others, kept, asked, calls)


def measure(job: Job, name: str, model: Any, what: Questions, inputs: Inputs) -> Measured:
    """One model on everything that was asked for; `name` is for telling."""
    measured = Measured()
    if "perplexity" in what.wanted.metrics:
        _losses(job, name, model, what, inputs, measured)
    if what.kept is not None and inputs.kept is not None:
        job.phase("evaluate", f"{what.kept.source} of {name}")
        measured.kept = _score(job, model, inputs, inputs.kept, len(what.kept.rows), "passages")
    job.phase("evaluate", f"answers of {name}")
    answers = [
        _as_said(answer, what.rows[number], inputs)
        for number, answer in zip(inputs.asked, _answers(job, model, what, inputs), strict=True)
    ]
    if inputs.calls is not None:
        job.phase("evaluate", f"tool calls of {name}")
        called = _generated(job, model, what, inputs, [list(one.prompt) for one in inputs.calls.questions])
        add_calls(measured, called, call_scores(called, inputs.calls))
    references = [what.rows[number].reference for number in inputs.asked]
    add_answers(measured, answers, references, what.wanted.metrics, what.encoder)
    return measured


def _as_said(answer: generation.Answer, row: HeldOut, inputs: Inputs) -> generation.Answer:
    """The answer with the text that compares with the row's, which has its thought and calls apart."""
    calls = bool(row.example.messages[-1].calls)
    text = said(answer.written, row.reference, inputs.form, calls=calls)
    if text is None:
        return answer
    for mark in inputs.tokenizer.all_special_tokens:
        text = text.replace(mark, "")
    return replace(answer, text=text.strip())


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
    return _generated(job, model, what, inputs, [inputs.encoded.prompts[number] for number in inputs.asked])


def _generated(
    job: Job, model: Any, what: Questions, inputs: Inputs, prompts: Sequence[list[int]]
) -> list[generation.Answer]:
    stops = generation.stop_ids(inputs.tokenizer, model, inputs.encoded.last_trained)
    how = Sampling(what.wanted.max_new_tokens, what.wanted.batch_size, stops, _pad_id(inputs.tokenizer))
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
