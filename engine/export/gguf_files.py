"""GGUF files of an export, each read back by transformers and compared with the merged model. Called by `run.py`."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import transformers

from engine.evaluate.trained import Trained
from engine.export import parity
from engine.export.gguf_write import write_gguf
from engine.export.reload import load_again, readable
from engine.export.texts import Texts, texts_of
from engine.modeling.gguf_import import dense_options
from engine.worker_job import Job

ALLOWED = {"f16": 1e-2, "bf16": 3e-2, "q8_0": 0.2, "q5_1": 1.2, "q5_0": 1.2, "q4_0": 1.2}
"""Largest error of the logits, root mean square relative to their spread, before the file counts as broken. A permuted
head or a tensor out of place gives more than 1; few bits alone cost a model of 135 M parameters up to 0.9."""
MUCH = 0.3
"""From here on a person is told how much was lost."""


def write_ggufs(
    job: Job, trained: Trained, tokenizer: Any, kinds: tuple[str, ...], merged: Path, folder: Path, name: str
) -> dict[str, dict[str, Any]]:
    """A file for each of `kinds` in `folder`; parity reports by kind. Raises EngineError(MODEL)."""
    folder.mkdir()
    texts = texts_of(trained, tokenizer, job.warn)
    model, _ = load_again(merged)
    # In fp32, as the files are read back: rounding of the products must not count as theirs.
    reference = parity.logits_of(model.float(), texts.rows)
    del model
    found = {}
    for kind in kinds:
        gc.collect()
        job.phase("export", f"GGUF {kind}")
        path = folder / f"{name}-{kind}.gguf"
        for told in write_gguf(merged, path, kind, name):
            job.warn("gguf_stored", told)
        found[kind] = _compare(path, kind, texts, reference)
        if found[kind]["relative_rms"] > MUCH:
            same = f"the same next token in {found[kind]['top1_agreement']:.0%} of places"
            job.warn("gguf_quality", f"{kind} changes this model a lot ({same}): q8_0 keeps more")
    _write_modelfile(folder / "Modelfile", folder / f"{name}-{kinds[0]}.gguf", trained)
    return found


def _write_modelfile(path: Path, model: Path, trained: Trained) -> None:
    """For `ollama create`: file, what ends an answer, system message. Ollama takes the template from the file."""
    ends = trained.read("data/report.json").get("ends", [])
    lines = [f"FROM ./{model.name}", *(f"PARAMETER stop {json.dumps(str(end))}" for end in ends)]
    if trained.settings.data.system.strip():
        lines.append(f"SYSTEM {json.dumps(trained.settings.data.system, ensure_ascii=False)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _compare(path: Path, kind: str, texts: Texts, reference: Any) -> dict[str, Any]:
    model, tokenizer = _read(path)
    cost = parity.distance(reference, parity.logits_of(model, texts.rows))
    problems = []
    if not cost.relative <= ALLOWED[kind]:
        limit = f"(allowed: {ALLOWED[kind]:g})"
        problems.append(f"{kind}: its logits are off by {cost.relative:.2g} of their spread {limit}")
    if tokenizer.chat_template != texts.template:
        problems.append(f"{kind}: its chat template is not the one it was trained with")
    text = tokenizer.decode(texts.rows[0])
    if tokenizer(text, add_special_tokens=False).input_ids != list(texts.rows[0]):
        problems.append(f"{kind}: its tokenizer cuts text differently")
    if problems:
        raise parity.failed(problems, path.parent)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "rows": len(texts.rows),
        "positions": cost.positions,
        "max_abs_diff": cost.max_abs,
        "mean_abs_diff": cost.mean_abs,
        "relative_rms": cost.relative,
        "top1_agreement": cost.top1,
        "stored": _stored(path),
        "transformers": transformers.__version__,
        "passed": True,
    }


def _read(path: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with readable("the GGUF cannot be read back", path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, **dense_options(path)
        )
    return model.eval(), tokenizer


def _stored(path: Path) -> dict[str, int]:
    """Tensors by stored type, read from the file."""
    from gguf import GGUFReader

    found: dict[str, int] = {}
    for tensor in GGUFReader(path).tensors:
        name = tensor.tensor_type.name.lower()
        found[name] = found.get(name, 0) + 1
    return found
