"""The evaluation job: measure base and tuned on held-out rows, compare them, write the report.

Its job is `{"job": "evaluate", "run_dir": …, "path": …, "data": […], "base": …, "rows": …}`. It writes
`report.json` and `report.txt` into the run's `eval/`, or a folder there for another model or other rows. Offline;
nothing is downloaded that is not named.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.evaluate.bertscore import BertScore
from engine.evaluate.calls import CallInputs
from engine.evaluate.compare import Findings, Measured, alone, compare
from engine.evaluate.measure import SAMPLES, Inputs, Questions, inputs_of, measure
from engine.evaluate.page import page
from engine.evaluate.report import REPORT_FILE, EvaluationReport, Sample, finite
from engine.evaluate.retention_files import read_kept
from engine.files import write_json_atomic, write_text_atomic
from engine.inference.evaluated import EvaluatedModels, RowSet, open_models
from engine.inference.rows import HeldOut, choose
from engine.runs.job import Job


@dataclass(slots=True)
class Asked:
    """One set of rows: what is asked, in each tokenizer's tokens, and what was measured of each model."""

    rows: RowSet
    what: Questions
    inputs: dict[str, Inputs]
    measured: dict[str, Measured] = field(default_factory=dict)


def run(job: Job) -> dict[str, Any]:
    """Evaluate what the job names and return the report; of several sets of rows the first one's, with the others in
    `more`.

    Raises EngineError: DATA when there are no rows or none could be measured, MODEL, RESOURCES or PROFILE as
    `open_models`.
    """
    began = time.monotonic()
    subject = open_models(job)
    job.phase("data", "held-out rows")
    sets = [_asked(job, subject, rows, number == 0) for number, rows in enumerate(subject.rows(job.warn))]
    job.phase("load", f"{next(iter(subject.tokenizers))} model")
    for name, model in subject.load():
        for asked in sets:
            asked.measured[name] = measure(job, name, model, asked.what, asked.inputs[name])
            _tell(job, name, asked, subject)
        # The next model is loaded while this loop still holds the name.
        del model
    reports = [_report(subject, asked, time.monotonic() - began) for asked in sets]
    for asked, report in zip(sets, reports, strict=True):
        if asked.rows.folder is not None:
            write_report(asked.rows.folder, report.to_json(), page(report))
    first, *others = [_result(asked, report) for asked, report in zip(sets, reports, strict=True)]
    return {"outcome": "completed", **first, **({"more": others} if others else {})}


def _result(asked: Asked, report: EvaluationReport) -> dict[str, Any]:
    folder = asked.rows.folder
    return {**report.to_json(), "report": None if folder is None else str(folder / "report.txt")}


def _asked(job: Job, subject: EvaluatedModels, rows: RowSet, first: bool) -> Asked:
    """What is asked of one set; texts that measure retention are read with the first one alone."""
    wanted = subject.settings.evaluate
    what = Questions(
        choose(rows.rows, int(job.params.get("rows") or wanted.max_samples)),
        read_kept(subject.settings, subject.base_dir, job.warn) if first else None,
        subject.settings,
        subject.max_length,
        subject.context,
        _encoder(subject),
    )
    asked = Asked(rows, what, _inputs(job, what, subject.tokenizers))
    _refuse_nothing(asked, subject)
    return asked


def _refuse_nothing(asked: Asked, subject: EvaluatedModels) -> None:
    """Raise EngineError(DATA) where no row can be measured: a report would say what nobody saw."""
    for inputs in asked.inputs.values():
        calls = 0 if inputs.calls is None else len(inputs.calls.questions)
        if inputs.asked or calls or (inputs.encoded.trained and "perplexity" in asked.what.wanted.metrics):
            continue
        rows, long = len(asked.what.rows), inputs.encoded.too_long
        message = f"none of the {rows} rows can be measured"
        message += f": {long} prompts leave no room for an answer" if long else ": none has an answer to score"
        hint = f"answers take up to {asked.what.wanted.max_new_tokens} of {subject.context} tokens: lower"
        hint += " evaluate.max_new_tokens, raise model.max_length, or name shorter rows with --data"
        raise EngineError(message, code=ExitCode.DATA, where=asked.rows.name or subject.title, hint=hint)


def _encoder(subject: EvaluatedModels) -> BertScore | None:
    """BERTScore where it is asked for, loaded before the models: a missing encoder ends the job at once."""
    wanted = subject.settings.evaluate
    if "bertscore" not in wanted.metrics:
        return None
    if wanted.bertscore_encoder is None:
        raise EngineError(
            "bertscore needs an encoder",
            code=ExitCode.PROFILE,
            where="evaluate.bertscore_encoder",
            hint="name a directory, such as one of microsoft/deberta-xlarge-mnli or roberta-large",
        )
    return BertScore(wanted.bertscore_encoder, subject.base_dir, wanted.bertscore_layer)


def _inputs(job: Job, what: Questions, tokenizers: dict[str, Any]) -> dict[str, Inputs]:
    """Inputs of each model; the same object for the same tokenizer, and the same rows to answer."""
    told: set[str] = set()

    def warn_once(code: str, message: str) -> None:
        """Two tokenizers of the same family cut the same rows."""
        if message not in told:
            told.add(message)
            job.warn(code, message)

    made = {id(tokenizer): inputs_of(what, tokenizer, warn_once) for tokenizer in tokenizers.values()}
    found = {name: made[id(tokenizer)] for name, tokenizer in tokenizers.items()}
    asked = sorted(set.intersection(*(set(inputs.asked) for inputs in found.values())))
    documents = [inputs.encoded.documents for inputs in found.values()]
    if any(other != documents[0] for other in documents):
        job.warn(
            "tokens_differ",
            "the two models cut the rows into different tokens: loss and perplexity are shown but not compared",
        )
    return {name: replace(inputs, asked=asked, calls=_shared_calls(inputs, found)) for name, inputs in found.items()}


def _shared_calls(own: Inputs, found: dict[str, Inputs]) -> CallInputs | None:
    """The call questions that every tokenizer has room for; None where there are none."""
    if own.calls is None or any(inputs.calls is None for inputs in found.values()):
        return None
    kept = set.intersection(
        *({one.place for one in inputs.calls.questions} for inputs in found.values() if inputs.calls is not None)
    )
    questions = tuple(one for one in own.calls.questions if one.place in kept)
    return replace(own.calls, questions=questions) if questions else None


def _compared(asked: Asked) -> Findings:
    measured, kept = asked.measured, asked.what.kept
    if "base" not in measured:
        return alone(measured["tuned"], kept)
    same = asked.inputs["base"].encoded.documents == asked.inputs["tuned"].encoded.documents
    return compare(measured["base"], measured["tuned"], kept, same_tokens=same)


def _tell(job: Job, name: str, asked: Asked, subject: EvaluatedModels) -> None:
    measured, inputs, rows = asked.measured[name], asked.inputs[name], asked.what.rows
    about = {"rows": asked.rows.name} if asked.rows.name else {}
    job.events.write(
        "eval",
        model=name,
        step=0 if name == "base" else subject.step,
        loss=measured.scores.get("loss"),
        perplexity=measured.scores.get("perplexity"),
        tokens=sum(row.tokens for row in measured.losses),
        scores=measured.scores,
        **about,
    )
    for number, answer in list(zip(inputs.asked, measured.answers, strict=True))[:SAMPLES]:
        job.events.write(
            "sample", model=name, prompt=rows[number].prompt, output=answer.text, reference=rows[number].reference
        )


def _report(subject: EvaluatedModels, asked: Asked, seconds: float) -> EvaluationReport:
    what, inputs, found = asked.what, asked.inputs["tuned"], _compared(asked)
    tuned, base = asked.measured["tuned"], asked.measured.get("base")
    return EvaluationReport(
        run=subject.title,
        base=finite(found.base),
        tuned=finite(found.tuned),
        delta=finite(found.delta),
        intervals=found.intervals,
        verdict=found.verdict,
        verdict_reason=found.verdict_reason,
        counts=found.counts,
        samples=_samples(what.rows, inputs, tuned, base),
        calls_asked=None if inputs.calls is None else len(inputs.calls.questions),
        rows=len(what.rows),
        rows_held_out=len(asked.rows.rows),
        rows_scored=sum(row.tokens > 0 for row in tuned.losses),
        seconds=round(seconds, 3),
        retention=found.retention,
        rows_answered=len(inputs.asked),
        rows_cut=inputs.encoded.cut,
        rows_too_long=inputs.encoded.too_long,
        rows_from=asked.rows.name,
        tokens=sum(row.tokens for row in tuned.losses),
        bleu_tokenizers=tuned.tokenizers,
        max_new_tokens=what.wanted.max_new_tokens,
        **subject.about,
    )


def _samples(rows: Sequence[HeldOut], inputs: Inputs, tuned: Measured, base: Measured | None) -> tuple[Sample, ...]:
    """A few answers beside what was wanted; half of them tool calls where there are some."""
    calls = inputs.calls.questions[: SAMPLES // 2] if inputs.calls is not None else ()
    found = [
        Sample(
            one.asked,
            one.shown,
            tuned.called[place].written,
            None if base is None else base.called[place].written,
        )
        for place, one in enumerate(calls)
    ]
    for place, number in enumerate(inputs.asked[: SAMPLES - len(found)]):
        texts = (tuned.answers[place].text, None if base is None else base.answers[place].text)
        found.append(Sample(rows[number].prompt, rows[number].reference, *texts))
    return tuple(found)


def write_report(folder: Path, report: dict[str, Any], text: str) -> None:
    """`report.json` and `report.txt` in `folder`. Raises EngineError(DISK)."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json_atomic(folder / REPORT_FILE, report)
        write_text_atomic(folder / "report.txt", text)
    except OSError as error:
        raise EngineError(
            f"the report cannot be written: {error.strerror}",
            code=ExitCode.DISK,
            where=str(folder),
            hint="free space there and evaluate again",
        ) from error
