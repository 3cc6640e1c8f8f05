"""The evaluation job: measure base and tuned on held-out rows, compare them, write the report.

Its job is `{"job": "evaluate", "run_dir": …, "path": …, "data": …, "base": …, "rows": …}`. It writes
`report.json` and `report.txt` into the run's `eval/`, or a folder there for another model or other rows. Offline;
nothing is downloaded that is not named.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.evaluate.bertscore import BertScore
from engine.evaluate.compare import Findings, Measured, alone, compare
from engine.evaluate.measure import SAMPLES, Inputs, Questions, inputs_of, measure
from engine.evaluate.page import page
from engine.evaluate.report import REPORT_FILE, EvaluationReport, Sample, finite
from engine.evaluate.retention_files import read_kept
from engine.files import write_json_atomic, write_text_atomic
from engine.inference.evaluated import EvaluatedModels, open_models
from engine.inference.rows import HeldOut, choose
from engine.runs.job import Job


def run(job: Job) -> dict[str, Any]:
    """Evaluate what the job names and return the report.

    Raises EngineError: DATA when there are no rows, MODEL, RESOURCES or PROFILE as `open_models`.
    """
    began = time.monotonic()
    subject = open_models(job)
    job.phase("data", "held-out rows")
    held_out = subject.rows(job.warn)
    wanted = subject.settings.evaluate
    what = Questions(
        choose(held_out, int(job.params.get("rows") or wanted.max_samples)),
        read_kept(subject.settings, subject.base_dir, job.warn),
        wanted,
        subject.max_length,
        subject.context,
        _encoder(subject),
    )
    inputs = _inputs(job, what, subject.tokenizers)
    job.phase("load", f"{next(iter(subject.tokenizers))} model")
    measured: dict[str, Measured] = {}
    for name, model in subject.load():
        measured[name] = measure(job, name, model, what, inputs[name])
        _tell(job, name, measured[name], what.rows, inputs[name].asked, subject)
        # The next model is loaded while this loop still holds the name.
        del model
    found = _compared(measured, what)
    report = _report(subject, what, inputs["tuned"], measured, found, len(held_out), time.monotonic() - began)
    if subject.folder is not None:
        write_report(subject.folder, report.to_json(), page(report))
    return {
        "outcome": "completed",
        **report.to_json(),
        "report": str(subject.folder / "report.txt") if subject.folder else None,
    }


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
    return {name: replace(inputs, asked=asked) for name, inputs in found.items()}


def _compared(measured: dict[str, Measured], what: Questions) -> Findings:
    if "base" not in measured:
        return alone(measured["tuned"], what.kept)
    return compare(measured["base"], measured["tuned"], len(what.rows), what.kept)


def _tell(
    job: Job, name: str, measured: Measured, rows: Sequence[HeldOut], asked: Sequence[int], subject: EvaluatedModels
) -> None:
    job.events.write(
        "eval",
        model=name,
        step=0 if name == "base" else subject.step,
        loss=measured.scores.get("loss"),
        perplexity=measured.scores.get("perplexity"),
        tokens=sum(row.tokens for row in measured.losses),
        scores=measured.scores,
    )
    for number, answer in list(zip(asked, measured.answers, strict=True))[:SAMPLES]:
        job.events.write(
            "sample", model=name, prompt=rows[number].prompt, output=answer.text, reference=rows[number].reference
        )


def _report(
    subject: EvaluatedModels,
    what: Questions,
    inputs: Inputs,
    measured: dict[str, Measured],
    found: Findings,
    held_out: int,
    seconds: float,
) -> EvaluationReport:
    tuned = measured["tuned"]
    base = measured.get("base")
    samples = tuple(
        Sample(
            what.rows[number].prompt,
            what.rows[number].reference,
            tuned.answers[place].text,
            None if base is None else base.answers[place].text,
        )
        for place, number in enumerate(inputs.asked[:SAMPLES])
    )
    return EvaluationReport(
        run=subject.title,
        base=finite(found.base),
        tuned=finite(found.tuned),
        delta=finite(found.delta),
        intervals=found.intervals,
        verdict=found.verdict,
        verdict_reason=found.verdict_reason,
        counts=found.counts,
        samples=samples,
        rows=len(what.rows),
        rows_held_out=held_out,
        seconds=round(seconds, 3),
        retention=found.retention,
        rows_answered=len(inputs.asked),
        rows_cut=inputs.encoded.cut,
        rows_too_long=inputs.encoded.too_long,
        rows_from=subject.data,
        tokens=sum(row.tokens for row in tuned.losses),
        bleu_tokenizers=tuned.tokenizers,
        max_new_tokens=what.wanted.max_new_tokens,
        **subject.about,
    )


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
