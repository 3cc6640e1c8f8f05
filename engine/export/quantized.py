"""The merged model stored in 4 or 8 bits by bitsandbytes: written, loaded again, compared.

Two questions are asked of the files: are they what was quantized (the reloaded logits are those of the model that was
saved), and what did quantizing cost (against the merged model). Called by `run.py`.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import transformers

from engine.evaluate.trained import Trained
from engine.export import parity
from engine.export.clean import scrub_json
from engine.export.reload import answer, load_again
from engine.export.texts import texts_of
from engine.modeling.load import keep_plain_layout, quantization_config
from engine.profile.schema import Profile
from engine.worker_job import Job

_STORED = {"nf4": "U8", "int8": "I8"}
_SAME = 1e-4
"""Relative error between the model that was saved and the one that was loaded."""


def write_quantized(
    job: Job, trained: Trained, tokenizer: Any, method: str, dtype: str, merged: Path, folder: Path
) -> dict[str, Any]:
    """Quantize the model in `merged`, write it to `folder`, compare; the parity report.

    Raises EngineError(MODEL) when the files do not hold what was quantized.
    """
    job.phase("export", f"{method} of the merged model")
    texts = texts_of(trained, tokenizer, job.warn)
    model, _ = load_again(merged)
    reference = parity.logits_of(model, texts.rows)
    del model
    gc.collect()
    quantized = _quantize(trained.settings, method, dtype, merged)
    saved = parity.logits_of(quantized, texts.rows)
    quantized.save_pretrained(folder, max_shard_size=f"{trained.settings.export.max_shard_gib}GB")
    tokenizer.save_pretrained(folder)
    scrub_json(folder)
    del quantized
    gc.collect()
    job.phase("export", f"load {method} again and compare")
    again, found_tokenizer = load_again(folder)
    keep_plain_layout(again)
    found = parity.logits_of(again, texts.rows)
    same, cost = parity.distance(saved, found), parity.distance(reference, found)
    stored = parity.stored_dtypes(folder)
    problems = _problems(method, same, stored, found_tokenizer.chat_template == texts.template)
    if problems:
        raise parity.failed(problems, folder)
    generated = answer(again, found_tokenizer, texts.messages, trained.settings.evaluate.max_new_tokens)
    return {
        "rows": len(texts.rows),
        "positions": cost.positions,
        "source": texts.source,
        "dtype": method,
        "against": f"the merged model in {dtype}",
        "max_abs_diff": cost.max_abs,
        "mean_abs_diff": cost.mean_abs,
        "relative_rms": cost.relative,
        "top1_agreement": cost.top1,
        "reloaded_max_abs_diff": same.max_abs,
        "stored": stored,
        "generation": generated,
        "transformers": transformers.__version__,
        "passed": True,
    }


def _quantize(settings: Profile, method: str, dtype: str, merged: Path) -> Any:
    from transformers import AutoModelForCausalLM

    tree = settings.model_dump()
    tree["quantization"]["method"], tree["model"]["dtype"] = method, dtype
    model = AutoModelForCausalLM.from_pretrained(
        merged,
        dtype="auto",
        quantization_config=quantization_config(Profile.model_validate(tree)),
        device_map={"": "cpu"},
        local_files_only=True,
        use_safetensors=True,
    )
    keep_plain_layout(model)
    return model.eval()


def _problems(method: str, same: parity.Distance, stored: dict[str, int], template_survives: bool) -> list[str]:
    problems = []
    if not same.relative <= _SAME:
        problems.append(f"loaded again, its {method} logits are off by {same.relative:.2g} of their spread")
    if not stored.get(_STORED[method]):
        problems.append(f"it is stored as {', '.join(stored) or 'nothing'}, not {method}")
    if not template_survives:
        problems.append("its chat template is not the one it was trained with")
    return problems
