"""How documents are put into batches in a run: packed, or one a row where the model lets packed ones see each other."""

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
from engine.models.families import family_of
from engine.models.packing import alone_reason
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
    known = alone_reason(family_of(base_of(model).config.get_text_config().model_type), settings.launch.device)
    layouts = _to_try(settings, asked, bool(known))
    rows = int(settings.train.per_device_train_batch_size)
    tokens = prepared.train.input_ids[: min(rows, 2)].astype(np.int64)
    ids = torch.from_numpy(tokens).to(next(model.parameters()).device)
    on_gpu = settings.launch.device == "cuda"
    with torch.autocast("cuda", dtype=torch.float16, enabled=on_gpu and settings.model.dtype == "fp16"):
        layout, wrong = first_exact(layouts, lambda each: find_leak(model, ids, rows, each))
    if layout is None:
        raise _no_way(settings, wrong)
    if layout == asked:
        return Arranged(PackedDataset(prepared.train), _maybe(PackedDataset, prepared.validation))
    train = AloneDataset(prepared.train)
    warn("packing_leaks", _told(settings, _why(asked, known, wrong), layout, prepared.train, len(train)))
    way = collate_masked if layout == "padded" else collate_rows
    return Arranged(train, _maybe(AloneDataset, prepared.validation), way, as_predicted=False)


def _to_try(settings: Profile, asked: Layout, alone: bool) -> list[Layout]:
    """Layouts in the order of what they cost; `alone`: it is known that documents cannot share a row."""
    if settings.train.objective in NEEDED:
        return ["packed"]
    if alone:
        return ["padded"]
    return ["packed", "rows", "padded"] if asked == "packed" else ["rows", "padded"]


def _maybe(kind: type[PackedDataset], packed: Packed | None) -> PackedDataset | None:
    return None if packed is None else kind(packed)


def _why(asked: Layout, known: str, wrong: list[str]) -> str:
    """Why documents do not share rows: what was `known` before the check, or what the check found."""
    if known:
        return known
    first = "packed documents see each other in this model" if asked == "packed" else "padding reaches documents"
    return f"{first} ({wrong[0]})"


def _told(settings: Profile, why: str, layout: Layout, packed: Packed, documents: int) -> str:
    train, length = settings.train, packed.max_length
    mask = " behind an attention mask" if layout == "padded" else ""
    each = int(train.per_device_train_batch_size) * int(train.gradient_accumulation_steps)
    density = documents / max(1, len(packed))
    text = (
        f"{why}: it trains on one document a row, padded to the longest of its batch{mask}. "
        f"Rows have up to {length:,} tokens, so memory stays within the prediction; its speed counts full rows"
    )
    if density < 1.5:
        return text
    accumulation = math.ceil(int(train.gradient_accumulation_steps) * density)
    return (
        f"{text} and is not reached with shorter ones. A step learns {each:,} documents in place of about "
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
