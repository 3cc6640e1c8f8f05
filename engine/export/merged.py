"""The merged model on disk: merged, written, loaded again by plain transformers and compared.

Called by `run.py`. The steps are `merge.py`, `reload.py` and `parity.py`; here is their order.
"""

from __future__ import annotations

import gc
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transformers

from engine.evaluate import generate as generation
from engine.evaluate.trained import Trained
from engine.export import merge, parity
from engine.export.clean import scrub_json
from engine.export.reload import answer, load_again
from engine.export.texts import Texts, texts_of
from engine.worker_job import Job


def write_merged(job: Job, trained: Trained, tokenizer: Any, dtype: str, folder: Path) -> dict[str, Any]:
    """Merge, write, load again, compare; the parity report.

    One model at a time is in memory. Raises EngineError(MODEL) when the result is not the tuned model.
    """
    trained = merge.in_dtype(trained, dtype)
    job.phase("export", "load the base model")
    texts = texts_of(trained, tokenizer, job.warn)
    rows = texts.rows
    model = merge.load_unmerged(trained, job.warn)
    stops = generation.stop_ids(tokenizer, model, texts.last_trained)
    base = parity.logits_of(model, rows)
    tuned = base
    if trained.is_adapter:
        job.phase("export", "merge")
        model = merge.put_on_adapter(model, trained)
        tuned = parity.logits_of(model, rows)
        model = merge.merge(model)
    job.phase("export", "write")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    shard_gib = trained.settings.export.max_shard_gib
    merge.save_model(model, folder, stop_ids=stops, pad_id=pad_id, shard_gib=shard_gib)
    tokenizer.save_pretrained(folder)
    scrub_json(folder)
    del model
    gc.collect()
    job.phase("export", "load again and compare")
    return _compare(job, trained, dtype, folder, texts, base if trained.is_adapter else None, tuned)


def _compare(
    job: Job, trained: Trained, dtype: str, folder: Path, texts: Texts, base: Any, tuned: Any
) -> dict[str, Any]:
    again, tokenizer = load_again(folder)
    found = parity.logits_of(again, texts.rows)
    to_tuned = parity.distance(tuned, found)
    effect = parity.distance(base, tuned) if base is not None else None
    to_base = parity.distance(base, found) if base is not None else None
    stored = parity.stored_dtypes(folder)
    problems = parity.judge(dtype, to_tuned, effect, to_base, stored)
    if problems:
        raise parity.failed(problems, folder)
    if parity.closer_to_base(to_tuned, effect, to_base):
        job.warn("weak_adapter", f"{dtype} rounds most of the adapter's change away: export with --dtype fp32")
    generated = answer(again, tokenizer, texts.messages, trained.settings.evaluate.max_new_tokens)
    if not generated["stopped"]:
        job.warn("generation", "the reloaded model's answer ran to the limit of new tokens and did not end by itself")
    return {
        "rows": len(texts.rows),
        "positions": to_tuned.positions,
        "source": texts.source,
        "dtype": dtype,
        "tolerance": parity.allowed(dtype, effect),
        "max_abs_diff": to_tuned.max_abs,
        "mean_abs_diff": to_tuned.mean_abs,
        "relative_rms": to_tuned.relative,
        "top1_agreement": to_tuned.top1,
        "adapter_effect": asdict(effect) if effect else None,
        "stored": stored,
        "template_survives": tokenizer.chat_template == texts.template,
        "generation": generated,
        "transformers": transformers.__version__,
        "passed": True,
    }
