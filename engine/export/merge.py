"""Base and adapter made into one model, in the export's dtype, on the CPU.

The base is always loaded fresh and unquantized: merging into dequantized nf4 would bake its error in.
Not here: whether the result is right (`parity.py`).
"""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.export import parity
from engine.export.clean import base_name, scrub_json
from engine.export.parity import Look, Merged, entry, look, lost, too_far
from engine.export.reload import load_again
from engine.export.report import FormatReport
from engine.export.sizes import ITEM_BYTES
from engine.export.texts import Texts
from engine.files import write_json_atomic
from engine.hardware.memory import system_memory
from engine.inference import answers as generation
from engine.inference.run import OpenedRun, load_adapter, load_full
from engine.modeling import adapter_files, load
from engine.modeling.wrappers import copy_processor
from engine.runs.job import Job, Warn
from engine.text import format_bytes

MEMORY_FACTOR = 1.25
"""The model once, and room for the layer that is merged and the logits that are compared."""


def in_dtype(trained: OpenedRun, dtype: str) -> OpenedRun:
    """The run with `model.dtype` replaced and generation's own attention."""
    model = trained.settings.model.model_copy(update={"dtype": dtype, "attention": "sdpa"})
    return dataclasses.replace(trained, settings=trained.settings.model_copy(update={"model": model}))


def export_dtype(trained: OpenedRun, asked: str | None) -> str:
    """`--dtype`, else `export.dtype`, else what the run computed in."""
    wanted = asked or trained.settings.export.dtype
    return trained.settings.model.dtype if wanted == "auto" else wanted


def check_memory(parameters: int, dtype: str) -> None:
    """Raises EngineError(RESOURCES) when the model does not fit the free main memory."""
    needed = int(parameters * ITEM_BYTES[dtype] * MEMORY_FACTOR)
    free = system_memory().available_bytes
    if needed > free:
        raise EngineError(
            f"merging takes {format_bytes(needed)} of main memory, {format_bytes(free)} is free",
            code=ExitCode.RESOURCES,
            hint="close other programs, leave --gguf out, or export the adapter alone with --no-merged",
        )


def load_unmerged(trained: OpenedRun, warn: Warn) -> Any:
    """What the export must equal: the unquantized base, without its adapter yet; or the fully tuned model."""
    if not trained.is_adapter:
        return load_full(trained, "cpu", warn).eval()
    return load.load_base(trained.settings, trained.base_dir, quantized=False, device="cpu", warn=warn).eval()


def source_of(trained: OpenedRun, warn: Warn) -> Path:
    """The directory of the model that is exported, or of the base that its adapter stands on."""
    return load.model_directory(trained.settings, trained.base_dir, warn) if trained.is_adapter else trained.weights


def put_on_adapter(model: Any, trained: OpenedRun) -> Any:
    """`model` with the run's adapter. Raises EngineError(MODEL) for one with values that are not numbers."""
    adapted = load_adapter(model, trained).eval()
    bad = [name for name, value in adapted.named_parameters() if "lora_" in name and not bool(value.isfinite().all())]
    if bad:
        raise EngineError(
            f"the adapter holds values that are not numbers, first in {bad[0]}",
            code=ExitCode.MODEL,
            where=str(trained.weights),
            hint="train again with a lower learning rate, or resume from an earlier checkpoint",
        )
    return adapted


def merge(adapted: Any) -> Any:
    """The plain model with the adapter's change added into its weights.

    Raises EngineError(MODEL) when a merged weight is not finite.
    """
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise EngineError(
            f"the merge gives values that are not numbers: {error}",
            code=ExitCode.MODEL,
            hint="export with --dtype bf16 or fp32: fp16 may be too narrow for these weights",
        ) from error
    _untie(merged)
    return merged


def _untie(model: Any) -> None:
    """A head or embedding trained by itself is no longer the other one, whatever the configuration says."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight.data_ptr() == embedding.weight.data_ptr():
        return
    if torch.equal(head.weight, embedding.weight):
        return
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def save_model(model: Any, folder: Path, *, stop_ids: tuple[int, ...], pad_id: int, shard_gib: float) -> None:
    """Sharded safetensors, config and generation_config; generation stops where training ended answers."""
    own = model.generation_config
    own.eos_token_id = list(stop_ids) if len(stop_ids) > 1 else next(iter(stop_ids), None)
    own.pad_token_id = pad_id
    try:
        own.validate(strict=True)
    except ValueError:
        # Some published models carry sampling values beside do_sample = false, which cannot be saved.
        own.do_sample = True
    model.save_pretrained(folder, max_shard_size=int(shard_gib * 2**30))


_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Reference:
    """What was trained, on the texts of the export: logits of the base (None after full tuning) and of the tuned model,
    and every token that ends an answer."""

    base: list[torch.Tensor] | None
    tuned: list[torch.Tensor]
    stops: tuple[int, ...]


def copy_adapter(trained: OpenedRun, tokenizer: Any, folder: Path) -> None:
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
    job: Job, trained: OpenedRun, tokenizer: Any, dtype: str, folder: Path, texts: Texts
) -> tuple[Reference, Merged, FormatReport]:
    """Merge, write, load again, compare: what was trained, what was written, and its entry of the report.

    One model at a time is in memory. Raises EngineError(MODEL) when the result is not the tuned model.
    """
    trained = in_dtype(trained, dtype)
    model, reference = _trained_model(job, trained, tokenizer, texts)
    if trained.is_adapter:
        job.phase("export", "merge")
        model = merge(model)
    job.phase("export", "write")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else reference.stops[0]
    shard_gib = trained.settings.export.max_shard_gib
    save_model(model, folder, stop_ids=reference.stops, pad_id=pad_id, shard_gib=shard_gib)
    tokenizer.save_pretrained(folder)
    copy_processor(source_of(trained, job.warn), folder)
    scrub_json(folder)
    del model
    gc.collect()
    job.phase("export", "load again and compare")
    seen, made = _compare(job, trained, dtype, folder, texts, reference)
    return reference, Merged(folder, dtype, tokenizer, texts, seen), made


def _trained_model(job: Job, trained: OpenedRun, tokenizer: Any, texts: Texts) -> tuple[Any, Reference]:
    """The tuned model as it was trained, its adapter beside its base."""
    job.phase("export", "load the base model")
    model = load_unmerged(trained, job.warn)
    stops = generation.stop_ids(tokenizer, model, texts.last_trained)
    if not trained.is_adapter:
        return model, Reference(None, parity.logits_of(model, texts.ids), stops)
    base = parity.logits_of(model, texts.ids)
    model = put_on_adapter(model, trained)
    return model, Reference(base, parity.logits_of(model, texts.ids), stops)


def _compare(
    job: Job, trained: OpenedRun, dtype: str, folder: Path, texts: Texts, reference: Reference
) -> tuple[Look, FormatReport]:
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
    if not any(found.stopped for found in made.answers):
        job.warn("generation", "the reloaded model's answers ran to the limit of new tokens and did not end themselves")
    shown = asdict(effect) if effect else None
    return seen, replace(made, tolerance=parity.allowed(dtype, effect), adapter_effect=shown)


def _put_on_by_peft(trained: OpenedRun, folder: Path) -> tuple[Any, int]:
    """A fresh base with the adapter in `folder`, and how many of its tensors PEFT alone would put elsewhere."""
    from peft import PeftModel

    def fresh() -> Any:
        # What a fall-back at loading has to say was said at the first loading.
        return load_unmerged(trained, lambda code, message: None)

    file = folder / _ADAPTER_FILES[0]
    try:
        again = PeftModel.from_pretrained(fresh(), str(folder)).eval()
        off = len(adapter_files.misplaced(again, file))
    except (ValueError, RuntimeError):
        again, off = None, adapter_files.tensors_in(file)
    if again is None or off:
        del again
        gc.collect()
        with adapter_files.names_as_they_are():
            again = PeftModel.from_pretrained(fresh(), str(folder)).eval()
    return again, off


def compare_adapter(
    job: Job,
    trained: OpenedRun,
    dtype: str,
    folder: Path,
    texts: Texts,
    reference: Reference | None,
    merged: Look | None,
) -> FormatReport:
    """The report's entry of the adapter in `folder`, put on a fresh base by PEFT as its card says.

    Without `reference` (no merged model is wanted) it is made here. Raises EngineError(MODEL).
    """
    from transformers import AutoTokenizer

    trained = in_dtype(trained, dtype)
    job.phase("export", "load the adapter again and compare")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if reference is None:
        _, reference = _trained_model(job, trained, tokenizer, texts)
        gc.collect()
    again, misplaced = _put_on_by_peft(trained, folder)
    if misplaced:
        job.warn(
            "adapter_names",
            f"PEFT alone does not find the place of {misplaced} tensors of this adapter, as it renames parts of such a"
            " model: the merged model is right, and so is the adapter with the lines that its card has",
        )
    base = again.get_base_model()
    own = base.generation_config.eos_token_id
    known = texts.last_trained <= set(own if isinstance(own, list) else [own])
    # Where answers end stands in a model's files, never in an adapter's: its card has to say it.
    base.generation_config.eos_token_id = list(reference.stops)
    seen = look(again, tokenizer, texts)
    against = f"base + adapter in {dtype}"
    made = entry("adapter", reference.tuned, against, seen, texts, parity.stored_dtypes(folder), merged)
    # PEFT computes a 16-bit adapter in fp32 unless told otherwise: in deep models that is no small difference.
    effect = parity.distance(reference.base, reference.tuned) if reference.base is not None else None
    stops = None if known else tuple(reference.stops)
    made = replace(made, tolerance=parity.allowed(dtype, effect), stops=stops, misplaced=misplaced or None)
    if not known:
        job.warn("adapter_stops", "the base model does not stop where the adapter ends answers: its card says how")
    problems = too_far(made) + lost(made)
    if problems:
        raise parity.failed("adapter", problems)
    return made
