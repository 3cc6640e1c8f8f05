"""GGUF files of an export, each read back by transformers and compared with the merged model."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.export import gguf_read, llama_quantize, parity
from engine.export.formats import BY_NAME, K_QUANTS
from engine.export.gguf_write import write_gguf
from engine.export.parity import Merged, entry, limited, look, problems_of
from engine.export.reload import load_again
from engine.export.report import FormatReport
from engine.files import read_json
from engine.inference.run import OpenedRun
from engine.modeling import gguf_rope
from engine.runs.job import Job

MUCH = 0.3
"""Error of the logits from which on a person is told how much was lost."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the files are made from and compared with (logits in fp32, rotary positions), where they go, their name."""

    merged: Merged
    logits: Any
    rotary: Any
    folder: Path
    name: str
    program: Path | None
    """llama-quantize, for the K-quants."""


def prepare(job: Job, merged: Merged, folder: Path, name: str, program: Path | None) -> Source:
    """The merged model as every file of `folder` is compared with it."""
    folder.mkdir()
    model, _ = load_again(merged.folder)
    # In fp32, as the files are read back: rounding of the products must not count as theirs.
    logits = parity.logits_of(model.float(), merged.texts.ids)
    if gguf_rope.parameters_of(read_json(merged.folder / "config.json"))["rope_type"] != "default":
        job.warn("gguf_positions", "transformers reads no scaled positions from GGUF: they were put on for the check")
    return Source(merged, logits, model.get_decoder().rotary_emb, folder, name, program)


def write_kind(job: Job, trained: OpenedRun, source: Source, kind: str) -> FormatReport:
    """One file, stored as `kind`; its entry of the report.

    Raises EngineError: MODEL for what GGUF cannot hold or a file that does not hold it, ENVIRONMENT for a program that
    fails.
    """
    gc.collect()
    job.phase("export", f"GGUF {kind}")
    path = file_of(source, kind)
    notes = _write_k(source, path, kind, trained) if kind in K_QUANTS else _write(source, path, kind)
    for text in notes:
        job.warn("gguf_stored", text)
    made = _compare(path, kind, source)
    if made.figures.relative_rms > MUCH:
        same = f"the same next token in {made.figures.top1_agreement:.0%} of places"
        job.warn("gguf_quality", f"{kind} changes this model a lot ({same}): q8_0 keeps more")
    return made


def file_of(source: Source, kind: str) -> Path:
    """Where the file of `kind` lies."""
    return source.folder / f"{source.name}-{kind}.gguf"


def _write(source: Source, path: Path, kind: str) -> list[str]:
    merged = source.merged
    return write_gguf(merged.folder, path, kind, source.name, merged.texts.last_trained)


def _write_k(source: Source, path: Path, kind: str, trained: OpenedRun) -> list[str]:
    """A K-quant out of a 16-bit file, which is removed again. Raises EngineError(ENVIRONMENT) for other types."""
    program = source.program
    assert program is not None
    wide = path.with_name(f".{path.stem}-source.gguf")
    try:
        notes = _write(source, wide, "bf16" if "bf16" in parity.stored_dtypes(source.merged.folder) else "f16")
        threads = int(trained.settings.launch.threads or os.cpu_count() or 1)
        llama_quantize.run(program, wide, path, kind, threads)
    finally:
        wide.unlink(missing_ok=True)
    problems, otherwise = gguf_read.judge_k_quant(path, kind)
    if problems:
        raise llama_quantize.failed(program, f"did not write {kind}: {'; '.join(problems)}")
    return [*notes, *(f"{kind}: {text}" for text in otherwise)]


def _compare(path: Path, kind: str, source: Source) -> FormatReport:
    merged, texts, own = source.merged.look, source.merged.texts, source.merged.tokenizer
    model, tokenizer = gguf_read.read(path)
    pieces = gguf_read.is_sentencepiece(path)
    # transformers puts blanks before the texts of sentencepiece files in its own way: prompts are cut by the original.
    seen = replace(look(model, own if pieces else tokenizer, texts), template=tokenizer.chat_template)
    against = "the merged model in fp32"
    limit = BY_NAME[kind].limit
    made = limited(entry(kind, source.logits, against, seen, texts, gguf_read.stored(path), merged), limit)
    worst, off = gguf_read.worst_weight(model, source.merged.folder)
    size_bytes = gguf_read.tensor_bytes(path)
    made = replace(made, file=path.name, memory_bytes=size_bytes, largest_weight_error=off)
    problems = problems_of(made, limit, merged)
    if not off <= gguf_read.WEIGHT_LIMIT:
        problems.append(f"its {worst} is off by {off:.2g} of its size")
    if gguf_read.positions_differ(path, source.rotary):
        problems.append("its positions turn otherwise than the model's")
    text = own.decode(texts.ids[0], skip_special_tokens=pieces).strip()
    if tokenizer(text, add_special_tokens=False).input_ids != own(text, add_special_tokens=False).input_ids:
        problems.append("its tokenizer cuts text differently")
    if problems:
        raise parity.failed(kind, problems)
    return made
