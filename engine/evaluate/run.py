"""The evaluation job: base against tuned on held-out rows, one report as JSON and as a page.

Called by the worker for `{"job": "evaluate", "run_dir": …, "rows": …}`. Writes `eval/report.json` and
`eval/report.txt` in the run. Offline; nothing is downloaded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.evaluate import generate as generation
from engine.evaluate import perplexity
from engine.evaluate.bertscore import BertScore
from engine.evaluate.compare import Measured, add_answers, add_gains, add_losses, compare
from engine.evaluate.encode import EncodedRows, encode_rows
from engine.evaluate.page import page
from engine.evaluate.relevance import askable, mismatched
from engine.evaluate.rows import HeldOut, choose, read_held_out
from engine.evaluate.trained import Trained, device_of, load_tokenizer, models, open_run, refuse_scores
from engine.profile.schema import Profile
from engine.runs.files import write_json_atomic, write_text_atomic
from engine.worker_job import Job

REPORT_VERSION = 1
SAMPLES = 6
"""Answers shown side by side; also generated when only perplexity was asked for."""


def run(job: Job) -> dict[str, Any]:
    """Evaluate the run named in the job and return the report.

    Raises EngineError: DATA when nothing was held out, MODEL or RESOURCES as `open_run`.
    """
    began = time.monotonic()
    trained = open_run(job)
    refuse_scores(trained, "evaluate")
    job.phase("data", "held-out rows")
    held_out = read_held_out(trained.run_dir)
    if not held_out:
        raise EngineError(
            "the run held no rows out",
            code=ExitCode.DATA,
            where=str(trained.run_dir / "data"),
            hint="train with data.validation_fraction above 0 or a data.validation_path",
        )
    rows = choose(held_out, int(job.params.get("rows") or trained.settings.evaluate.max_samples))
    tokenizer = load_tokenizer(trained, job.warn)
    encoded = _encode(job, trained, rows, tokenizer)
    others = _encode_mismatched(trained, rows, tokenizer)
    encoder = _encoder(trained)
    device = device_of(trained.settings, job.warn)
    job.phase("load", "base model")
    measured = {}
    for name, model in models(trained, device, job.warn):
        measured[name] = _measure(job, name, model, tokenizer, rows, encoded, others, trained.settings, encoder)
        _tell(job, name, measured[name], rows, _asked(encoded, trained.settings), trained)
    report = _finite(_report(trained, rows, encoded, measured, len(held_out), device, time.monotonic() - began))
    _write(trained.run_dir / "eval", report)
    return {"outcome": "completed", **report}


def _encode(job: Job, trained: Trained, rows: Sequence[HeldOut], tokenizer: Any) -> EncodedRows:
    settings = trained.settings
    max_length = int(settings.model.max_length)
    context = int(trained.run_json.get("model", {}).get("max_position_embeddings") or max_length)
    room = context - settings.evaluate.max_new_tokens
    encoded = encode_rows(rows, tokenizer, max_length=max_length, room_tokens=room)
    if encoded.cut:
        job.warn("rows_cut", f"{encoded.cut} held-out rows are longer than max_length and are scored up to it")
    if encoded.too_long:
        job.warn("rows_too_long", f"{encoded.too_long} prompts leave no room for an answer and are not generated")
    return encoded


def _encoder(trained: Trained) -> BertScore | None:
    """BERTScore where it is asked for, loaded before the models: a missing encoder ends the job at once."""
    wanted = trained.settings.evaluate
    if "bertscore" not in wanted.metrics:
        return None
    if wanted.bertscore_encoder is None:
        raise EngineError(
            "bertscore needs an encoder",
            code=ExitCode.PROFILE,
            where="evaluate.bertscore_encoder",
            hint="name a directory, such as one of microsoft/deberta-xlarge-mnli or roberta-large",
        )
    return BertScore(wanted.bertscore_encoder, trained.base_dir, wanted.bertscore_layer)


def _encode_mismatched(trained: Trained, rows: Sequence[HeldOut], tokenizer: Any) -> EncodedRows | None:
    """Answers behind other rows' prompts; None where there are too few, or the template takes them differently."""
    found = mismatched(rows)
    if not found or "perplexity" not in trained.settings.evaluate.metrics:
        return None
    return encode_rows(found, tokenizer, max_length=int(trained.settings.model.max_length), room_tokens=0)


def _measure(
    job: Job,
    name: str,
    model: Any,
    tokenizer: Any,
    rows: Sequence[HeldOut],
    encoded: EncodedRows,
    others: EncodedRows | None,
    settings: Profile,
    encoder: BertScore | None,
) -> Measured:
    measured = Measured()
    metrics = settings.evaluate.metrics
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    if "perplexity" in metrics:
        job.phase("evaluate", f"perplexity of {name}")
        losses = perplexity.score(
            model,
            encoded.documents,
            pad_id,
            lambda done, total: job.progress("evaluate", done, total, "rows"),
            job.warn,
        )
        by_row = encoded.by_row(losses, len(rows))
        add_losses(measured, by_row)
        if others is not None:
            job.phase("evaluate", f"answers of {name} behind other prompts")
            mixed = perplexity.score(model, others.documents, pad_id, lambda done, total: None, job.warn)
            asked_rows = askable(rows)
            add_gains(measured, [by_row[number] for number in asked_rows], others.by_row(mixed, len(asked_rows)))
    job.phase("evaluate", f"answers of {name}")
    asked = _asked(encoded, settings)
    how = generation.Sampling(
        settings.evaluate.max_new_tokens,
        settings.evaluate.batch_size,
        generation.stop_ids(tokenizer, model, encoded.last_trained),
        pad_id,
    )
    answers = generation.generate(
        model,
        tokenizer,
        [encoded.prompts[number] for number in asked],
        how,
        lambda done, total: job.progress("evaluate", done, total, "answers"),
        job.warn,
    )
    add_answers(measured, answers, [rows[number].reference for number in asked], metrics, encoder)
    return measured


def _asked(encoded: EncodedRows, settings: Profile) -> list[int]:
    """Rows to answer: all with a prompt, or a few to show when no metric needs answers."""
    numbers = sorted(encoded.prompts)
    return numbers if set(settings.evaluate.metrics) - {"perplexity"} else numbers[:SAMPLES]


def _tell(
    job: Job, name: str, measured: Measured, rows: Sequence[HeldOut], asked: Sequence[int], trained: Trained
) -> None:
    job.events.write(
        "eval",
        model=name,
        step=0 if name == "base" else trained.summary().get("weights_step"),
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
    trained: Trained,
    rows: Sequence[HeldOut],
    encoded: EncodedRows,
    measured: dict[str, Measured],
    held_out: int,
    device: str,
    seconds: float,
) -> dict[str, Any]:
    base, tuned = measured["base"], measured["tuned"]
    settings = trained.settings
    asked = _asked(encoded, settings)
    samples = [
        {"prompt": rows[number].prompt, "reference": rows[number].reference, "base": one.text, "tuned": other.text}
        for number, one, other in zip(asked, base.answers, tuned.answers, strict=True)
    ]
    return {
        "v": REPORT_VERSION,
        "run": trained.run_dir.name,
        **compare(base, tuned, len(rows)),
        "samples": samples[:SAMPLES],
        "rows": len(rows),
        "rows_held_out": held_out,
        "rows_answered": len(asked),
        "rows_cut": encoded.cut,
        "rows_too_long": encoded.too_long,
        "tokens": sum(row.tokens for row in base.losses),
        "bleu_tokenizers": base.tokenizers,
        "max_new_tokens": settings.evaluate.max_new_tokens,
        "dtype": settings.model.dtype,
        "quantization": settings.quantization.method,
        "device": device,
        "seconds": round(seconds, 3),
    }


def _write(folder: Path, report: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        write_json_atomic(folder / "report.json", report)
        write_text_atomic(folder / "report.txt", page(report))
    except OSError as error:
        raise EngineError(
            f"the report cannot be written: {error.strerror}",
            code=ExitCode.DISK,
            where=str(folder),
            hint="free space there and evaluate again",
        ) from error


def _finite(value: Any) -> Any:
    """Infinite perplexities as null: JSON has no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
