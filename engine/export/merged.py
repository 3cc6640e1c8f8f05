"""Adapter and merged model on disk: written, loaded again by plain libraries and compared with what was trained.

Called by `run.py`. The steps are `merge.py`, `reload.py`, `look.py` and `parity.py`; here is their order.
"""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engine.evaluate import generate as generation
from engine.evaluate.trained import Trained
from engine.export import merge, parity
from engine.export.clean import base_name, scrub_json
from engine.export.look import Look, Merged, entry, look, lost, too_far
from engine.export.reload import load_again
from engine.export.texts import Texts
from engine.runs.files import write_json_atomic
from engine.worker_job import Job

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Reference:
    """What was trained, on the texts of the export: logits of the base (None after full tuning) and of the tuned model,
    and every token that ends an answer."""

    base: list[torch.Tensor] | None
    tuned: list[torch.Tensor]
    stops: tuple[int, ...]


def copy_adapter(trained: Trained, tokenizer: Any, folder: Path) -> None:
    """The adapter with its tokenizer, named after a base that others can find."""
    folder.mkdir()
    for name in _ADAPTER_FILES:
        shutil.copyfile(trained.weights / name, folder / name)
    config_path = folder / "adapter_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    name, on_hub = base_name(trained.settings.model.name_or_path, trained.base_dir)
    config["base_model_name_or_path"] = name
    config["revision"] = trained.settings.model.revision if on_hub else None
    write_json_atomic(config_path, config, mode=0o644)
    tokenizer.save_pretrained(folder)
    scrub_json(folder)


def write_merged(
    job: Job, trained: Trained, tokenizer: Any, dtype: str, folder: Path, texts: Texts
) -> tuple[Reference, Merged, dict[str, Any]]:
    """Merge, write, load again, compare: what was trained, what was written, and its entry of the report.

    One model at a time is in memory. Raises EngineError(MODEL) when the result is not the tuned model.
    """
    trained = merge.in_dtype(trained, dtype)
    model, reference = _trained_model(job, trained, tokenizer, texts)
    if trained.is_adapter:
        job.phase("export", "merge")
        model = merge.merge(model)
    job.phase("export", "write")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else reference.stops[0]
    shard_gib = trained.settings.export.max_shard_gib
    merge.save_model(model, folder, stop_ids=reference.stops, pad_id=pad_id, shard_gib=shard_gib)
    tokenizer.save_pretrained(folder)
    scrub_json(folder)
    del model
    gc.collect()
    job.phase("export", "load again and compare")
    seen, made = _compare(job, trained, dtype, folder, texts, reference)
    return reference, Merged(folder, dtype, tokenizer, texts, seen), made


def _trained_model(job: Job, trained: Trained, tokenizer: Any, texts: Texts) -> tuple[Any, Reference]:
    """The tuned model as it was trained, its adapter beside its base."""
    job.phase("export", "load the base model")
    model = merge.load_unmerged(trained, job.warn)
    stops = generation.stop_ids(tokenizer, model, texts.last_trained)
    if not trained.is_adapter:
        return model, Reference(None, parity.logits_of(model, texts.ids), stops)
    base = parity.logits_of(model, texts.ids)
    model = merge.put_on_adapter(model, trained)
    return model, Reference(base, parity.logits_of(model, texts.ids), stops)


def _compare(
    job: Job, trained: Trained, dtype: str, folder: Path, texts: Texts, reference: Reference
) -> tuple[Look, dict[str, Any]]:
    again, tokenizer = load_again(folder)
    seen = look(again, tokenizer, texts)
    stored = parity.stored_dtypes(folder)
    against = f"base + adapter in {dtype}" if trained.is_adapter else f"the tuned model in {dtype}"
    made = entry("merged", reference.tuned, against, seen, texts, stored, None)
    base, tuned = reference.base, reference.tuned
    effect = parity.distance(base, tuned) if base is not None else None
    to_base = parity.distance(base, seen.logits) if base is not None else None
    to_tuned = parity.distance(tuned, seen.logits)
    problems = parity.judge(dtype, to_tuned, effect, to_base, stored) + lost(made)
    if problems:
        raise parity.failed("merged", problems)
    if parity.closer_to_base(to_tuned, effect, to_base):
        job.warn("weak_adapter", f"{dtype} rounds most of the adapter's change away: export with --dtype fp32")
    if not any(found["stopped"] for found in made["answers"]):
        job.warn("generation", "the reloaded model's answers ran to the limit of new tokens and did not end themselves")
    made |= {"tolerance": parity.allowed(dtype, effect), "adapter_effect": asdict(effect) if effect else None}
    return seen, made


def compare_adapter(
    job: Job, trained: Trained, dtype: str, folder: Path, texts: Texts, reference: Reference | None, merged: Look | None
) -> dict[str, Any]:
    """The report's entry of the adapter in `folder`, put on a fresh base by PEFT alone as its card says.

    Without `reference` (no merged model is wanted) it is made here. Raises EngineError(MODEL).
    """
    from peft import PeftModel
    from transformers import AutoTokenizer

    trained = merge.in_dtype(trained, dtype)
    job.phase("export", "load the adapter again and compare")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if reference is None:
        _, reference = _trained_model(job, trained, tokenizer, texts)
        gc.collect()
    # What a fall-back at loading has to say was said at the first loading.
    base = merge.load_unmerged(trained, lambda code, message: None)
    again = PeftModel.from_pretrained(base, str(folder)).eval()
    own = base.generation_config.eos_token_id
    known = texts.last_trained <= set(own if isinstance(own, list) else [own])
    # Where answers end stands in a model's files, never in an adapter's: its card has to say it.
    base.generation_config.eos_token_id = list(reference.stops)
    seen = look(again, tokenizer, texts)
    against = f"base + adapter in {dtype}"
    made = entry("adapter", reference.tuned, against, seen, texts, parity.stored_dtypes(folder), merged)
    # PEFT computes a 16-bit adapter in fp32 unless told otherwise: in deep models that is no small difference.
    effect = parity.distance(reference.base, reference.tuned) if reference.base is not None else None
    made |= {"tolerance": parity.allowed(dtype, effect), "stops": None if known else list(reference.stops)}
    if not known:
        job.warn("adapter_stops", "the base model does not stop where the adapter ends answers: its card says how")
    problems = too_far(made) + lost(made)
    if problems:
        raise parity.failed("adapter", problems)
    return made
