"""How long a run of the open profile would take, as far as that is known before its data were read.

Pure functions of a plan, what the profile resolves to and, where the data were read, their report.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.models.packing import alone_reason
from engine.profile.data_files import SUFFIXES, data_path
from engine.profile.file_patterns import is_pattern, matching_files
from engine.profile.schedule import per_epoch_steps, total_steps
from engine.recommend.plan import Plan
from engine.text import format_count, format_duration

BYTES_PER_TOKEN = 4.0
"""Of JSON text in a language of Europe; others take two to three. Only used until the data are read."""


@dataclass(frozen=True, slots=True)
class RunTime:
    """Tokens and steps of a whole run and its seconds; `source` says how sure that is."""

    tokens: float
    steps: int
    seconds: float | None
    source: str


def run_time(
    plan: Plan, provenance: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any] | None, folder: Path
) -> RunTime | None:
    """The time of a run; None when neither steps are given nor any data can be measured."""
    micro, accumulate = plan.shape.micro_batch, plan.shape.gradient_accumulation_steps
    batch = micro * accumulate
    epochs = float(_value(provenance, "train.num_train_epochs") or 1.0)
    steps = int(_value(provenance, "train.max_steps") or 0)
    full = batch * plan.shape.max_length
    if report is not None:
        alone = alone_reason(plan.model, plan.shape.device)
        sequences = int(report["train"]["documents" if alone else "sequences"])
        tokens = float(report["train"]["tokens"])
        each = tokens / max(1, sequences) * batch
        steps = steps or total_steps(per_epoch_steps(sequences, micro, accumulate), epochs)
        return _time(plan, steps * each, steps, "data counted")
    if steps > 0:
        return _time(plan, float(steps * full), steps, "full batches")
    size = data_bytes(provenance, folder)
    if not size:
        return None
    tokens = size / BYTES_PER_TOKEN * epochs
    return _time(plan, tokens, max(1, math.ceil(tokens / full)), "by file size")


def _time(plan: Plan, tokens: float, steps: int, source: str) -> RunTime:
    return RunTime(tokens, steps, plan.training_time_s(tokens), source)


def _value(provenance: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    value = provenance.get(key, {}).get("value")
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def data_bytes(provenance: Mapping[str, Mapping[str, Any]], folder: Path) -> int:
    """Bytes of the data files that are on this machine; 0 when none can be measured."""
    total = 0
    for key, setting in provenance.items():
        if key.startswith("data.datasets.") and key.endswith(".path"):
            try:
                total += _size(data_path(str(setting.get("value") or ""), folder))
            except (EngineError, OSError, ValueError):
                continue
    return total


def _size(path: Path) -> int:
    if is_pattern(path):
        return sum(file.stat().st_size for file in matching_files(path, SUFFIXES) if file.is_file())
    if path.is_dir():
        return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
    return path.stat().st_size if path.is_file() else 0


def time_words(time: RunTime | None) -> str:
    """`252 steps, 31 s`, with `about` until the data are counted."""
    if time is None:
        return ""
    about = "" if time.source == "data counted" else "about "
    took = f", {format_duration(time.seconds)}" if time.seconds is not None else ""
    return f"{about}{format_count(time.steps)} steps{took} ({time.source})"
