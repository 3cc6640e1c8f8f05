"""How documents are put into batches in a run: packed, or one a row where the model lets packed ones see each other.

What the plan knows of a model (`engine.models.alone`) is not tried first; what nobody knows is asked of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.data.alone import AloneDataset, Collate, collate_masked, collate_rows
from engine.data.batch import PackedDataset, collate
from engine.data.pack import Packed
from engine.data.preference import NEEDED
from engine.data.prepare import Prepared
from engine.errors import EngineError, ExitCode
from engine.modeling.adapters import base_of
from engine.models.alone import kernels_note, why_alone
from engine.models.config import spec_from_config
from engine.models.packing import alone_reason
from engine.models.spec import ModelSpec
from engine.profile.schema import Profile
from engine.runs.job import Warn
from engine.train.leaks import Layout, find_leak, first_exact


@dataclass(frozen=True, slots=True)
class Arranged:
    """The data of a run as its batches are made of them."""

    train: PackedDataset
    validation: PackedDataset | None
    collate: Collate = collate
    as_predicted: bool = True
    """Whether batches have the one shape that memory and speed are predicted for."""


def arrange(model: Any, settings: Profile, prepared: Prepared, warn: Warn) -> Arranged:
    """The data in the first layout that is exact for `model`, with a warning where it is not the one asked for.

    Raises EngineError(MODEL) where no layout is, and for answers that are compared side by side in one row.
    """
    asked: Layout = "packed" if settings.data.packing or settings.train.objective in NEEDED else "rows"
    spec = _known(model)
    known = alone_reason(spec, settings.launch.device) if spec is not None else ""
    planned = bool(known) and settings.train.objective not in NEEDED
    layouts = _to_try(settings, asked, spec if planned else None)
    rows = int(settings.train.per_device_train_batch_size)
    tokens = prepared.train.input_ids[: min(rows, 2)].astype(np.int64)
    ids = torch.from_numpy(tokens).to(next(model.parameters()).device)
    on_gpu = settings.launch.device == "cuda"
    with torch.autocast("cuda", dtype=torch.float16, enabled=on_gpu and settings.model.dtype == "fp16"):
        layout, wrong = first_exact(layouts, lambda each: find_leak(model, ids, rows, each))
    if layout is None:
        raise _no_way(settings, wrong)
    if layout == asked and not planned:
        return Arranged(PackedDataset(prepared.train), _maybe(PackedDataset, prepared.validation))
    train = AloneDataset(prepared.train)
    why = _why(asked, known if planned else "", wrong)
    warn("packing_leaks", _told(settings, why, layout, prepared.train, len(train), spec if planned else None))
    if spec is not None and planned and settings.launch.device == "cuda" and kernels_note(spec):
        warn("kernels_missing", kernels_note(spec))
    way = collate_masked if layout == "padded" else collate_rows
    return Arranged(train, _maybe(AloneDataset, prepared.validation), way, as_predicted=False)


def _to_try(settings: Profile, asked: Layout, alone: ModelSpec | None) -> list[Layout]:
    """Layouts in the order of what they cost; `alone`: a model whose documents are known to need rows of their own."""
    if settings.train.objective in NEEDED:
        return ["packed"]
    if alone is not None:
        # Convolutions and state spaces look back alone: padding behind a document needs no mask.
        return ["rows", "padded"] if why_alone(alone) else ["padded"]
    return ["packed", "rows", "padded"] if asked == "packed" else ["rows", "padded"]


def _maybe(kind: type[PackedDataset], packed: Packed | None) -> PackedDataset | None:
    return None if packed is None else kind(packed)


def _why(asked: Layout, known: str, wrong: list[str]) -> str:
    """Why documents do not share rows: what was `known` before the check, or what the check found."""
    if known:
        return known
    first = "packed documents see each other in this model" if asked == "packed" else "padding reaches documents"
    return f"{first} ({wrong[0]})"


def _known(model: Any) -> ModelSpec | None:
    """The model as the plan saw it; None for one that no plan knows."""
    # What this run packed into 4 or 8 bits is no property of the architecture.
    config = {key: value for key, value in base_of(model).config.to_dict().items() if key != "quantization_config"}
    try:
        return spec_from_config(config, "", "config.json", source="directory", path=None)
    except EngineError:
        return None


def _told(
    settings: Profile, why: str, layout: Layout, packed: Packed, documents: int, planned: ModelSpec | None
) -> str:
    train, length = settings.train, packed.max_length
    mask = " behind an attention mask" if layout == "padded" else ""
    each = int(train.per_device_train_batch_size) * int(train.gradient_accumulation_steps)
    density = documents / max(1, len(packed))
    short = planned is not None and bool(why_alone(planned))
    speed = "" if short else "; its speed counts full rows"
    text = (
        f"{why}: it trains on one document a row, padded to the longest of its batch{mask}. "
        f"Rows have up to {length:,} tokens, so memory stays within the prediction{speed}"
    )
    if density < 1.5:
        return text
    accumulation = math.ceil(int(train.gradient_accumulation_steps) * density)
    missed = "" if short else " and is not reached with shorter ones"
    return (
        f"{text}{missed}. A step learns {each:,} documents in place of about "
        f"{each * density:,.0f}: train.gradient_accumulation_steps = {accumulation} makes up for that"
    )


def _no_way(settings: Profile, wrong: list[str]) -> EngineError:
    if settings.train.objective in NEEDED:
        return EngineError(
            f"documents of one row see each other in this model ({wrong[0]}), and '{settings.train.objective}' compares"
            " answers side by side in one row",
            code=ExitCode.MODEL,
            where="train.objective",
            hint="use 'sft' with the chosen answers, or another model",
        )
    return EngineError(
        f"documents see each other in this model, also one a row ({wrong[-1]})",
        code=ExitCode.MODEL,
        where="model.name_or_path",
        hint="use another model",
    )
