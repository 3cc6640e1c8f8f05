"""The merged model quantized after training by bitsandbytes or torchao: written, loaded again, compared.

Two questions are asked of the files: are they what was quantized (the reloaded logits are those of the model that was
saved), and what did quantizing cost (against the merged model).
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.export import parity
from engine.export.clean import scrub_json
from engine.export.formats import BITSANDBYTES, BY_NAME
from engine.export.parity import Merged, entry, limited, look, problems_of
from engine.export.reload import load_again, loader_of, readable
from engine.export.report import FormatReport
from engine.inference import scales
from engine.modeling.load import keep_plain_layout, quantization_config
from engine.modeling.wrappers import copy_processor, outside_text
from engine.profile.schema import Profile
from engine.runs.job import Job

_STORED = {"nf4": "uint8"}
_SAME = 1e-4
"""Relative error between the model that was saved and the one that was loaded."""


def write_quantized(job: Job, settings: Profile, merged: Merged, method: str, folder: Path) -> FormatReport:
    """Quantize the merged model by `method` into `folder`, compare; its entry of the report.

    Raises EngineError(MODEL) when the files do not hold what was quantized, or it is too far from the merged model.
    """
    job.phase("export", f"{method} of the merged model")
    texts = merged.texts
    fixed, layers = _measure(job, merged) if method == "int8-static" else ({}, 0)
    gc.collect()
    model = _quantize(job, settings, merged, method)
    # The scales are no part of what transformers saves: they stand in a file of their own.
    model.save_pretrained(folder, max_shard_size=int(settings.export.max_shard_gib * 2**30))
    if fixed:
        scales.save(fixed, folder)
        scales.put_on(model, fixed)
    saved = parity.logits_of(model, texts.ids)
    merged.tokenizer.save_pretrained(folder)
    copy_processor(merged.folder, folder)
    scrub_json(folder)
    del model
    gc.collect()
    job.phase("export", f"load {method} again and compare")
    again, tokenizer = load_again(folder)
    keep_plain_layout(again)
    seen = look(again, tokenizer, texts)
    same = parity.distance(saved, seen.logits)
    stored = parity.stored_dtypes(folder)
    against = f"the merged model in {merged.dtype}"
    made = limited(entry(method, merged.look.logits, against, seen, texts, stored, merged.look), BY_NAME[method].limit)
    made = replace(made, reloaded_max_abs_diff=same.max_abs)
    if method == "int8-static":
        made = replace(made, calibration_rows=len(texts.calibration), fixed_layers=len(fixed), layers=layers)
    problems = _problems(method, same, stored) + problems_of(made, BY_NAME[method].limit, merged.look)
    if problems:
        raise parity.failed(method, problems)
    return made


def _measure(job: Job, merged: Merged) -> tuple[dict[str, Any], int]:
    """Scales of the layers that one scale suits, and how many layers there are. Raises EngineError(MODEL) for none."""
    model, _ = load_again(merged.folder)
    if merged.texts.calibration == merged.texts.ids:
        job.warn("calibration", "int8-static takes its scales from the rows it is compared on: there are no others")
    fixed, layers = scales.measure(model, merged.texts.calibration)
    if not fixed:
        raise parity.failed("int8-static", ["one scale suits the activations of none of its layers"])
    if len(fixed) < layers:
        left = f"{layers - len(fixed)} of {layers} layers have outliers that one scale would spoil"
        job.warn("calibration", f"int8-static: {left}: they go on measuring each token")
    return fixed, layers


def _quantize(job: Job, settings: Profile, merged: Merged, method: str) -> Any:
    with readable(f"the merged model cannot be quantized to {method}", merged.folder):
        loader = loader_of(merged.folder)
        config = _bitsandbytes(settings, method, merged.dtype) if method in BITSANDBYTES else _torchao(job)
        _spare_towers(config, loader, merged.folder)
        model = loader.from_pretrained(
            merged.folder,
            dtype="auto",
            quantization_config=config,
            device_map={"": "cpu"},
            local_files_only=True,
            use_safetensors=True,
        )
    keep_plain_layout(model)
    return model.eval()


def _spare_towers(config: Any, loader: Any, folder: Path) -> None:
    """Keep what sees or hears as it is: texts tell nothing of what quantizing it would cost."""
    import torch
    from transformers import AutoConfig
    from transformers.quantizers.base import get_keys_to_not_convert

    with torch.device("meta"):
        empty = loader.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    if towers := outside_text(empty):
        key = "llm_int8_skip_modules" if hasattr(config, "llm_int8_skip_modules") else "modules_to_not_convert"
        setattr(config, key, sorted({*towers, *get_keys_to_not_convert(empty)}))


def _bitsandbytes(settings: Profile, method: str, dtype: str) -> Any:
    tree = settings.model_dump()
    tree["quantization"]["method"], tree["model"]["dtype"] = method, dtype
    return quantization_config(Profile.model_validate(tree))


def _torchao(job: Job) -> Any:
    """Weights in int8 by row, activations by token as they come; int8-static puts its scales on afterwards."""
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig
    from torchao.utils import should_reduce_range
    from transformers import TorchAoConfig

    narrow = should_reduce_range(torch.device("cpu"))
    if narrow:
        job.warn("int8_range", "this processor's products of int8 overflow: 7 of the 8 bits are used")
    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=narrow))


def _problems(method: str, same: parity.Distance, stored: dict[str, int]) -> list[str]:
    problems = []
    if not same.relative <= _SAME:
        problems.append(f"loaded again, its {method} logits are off by {same.relative:.2g} of their spread")
    if not stored.get(_STORED.get(method, "int8")):
        problems.append(f"it is stored as {', '.join(stored) or 'nothing'}, not {method}")
    return problems
