"""Which kernels were the fastest on a device, kept beside what else was measured there. No torch.

One file a device, `$XDG_STATE_HOME/tunedeck/calibration/<device>.kernels.json`, one record for each model, shape and
set of versions. A damaged file says nothing: a run measures anew and writes it whole again. Not here: the measuring
(`engine.train.kernel_choice`).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.files import write_json_atomic
from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration_store import FILE_VERSION, calibration_path, device_key, read_records

MOST_RECORDS = 64
_PACKAGES = ("bitsandbytes", "liger-kernel", "peft", "torch", "transformers", "triton", "tunedeck")
_NAME = re.compile(r"[a-z]{1,20}(\+[a-z]{1,20}){0,5}|plain")
_MOST_WAYS = 16
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """The ways that one training step was tried in, such as `liger+fused`, and the fastest of them."""

    chosen: str
    seconds: dict[str, float]
    """Forward and backward pass of a micro-batch, by way."""
    unfit: tuple[str, ...] = ()
    """Ways that are not to be had: memory does not suffice, or the result was another."""
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))


def records_path(gpu: Gpu | None, machine: Machine) -> Path | None:
    """The file of a device; `None` for a card without a name of its own."""
    device = device_key(gpu, machine)
    return None if device is None else calibration_path(device).with_suffix(".kernels.json")


def versions(machine: Machine) -> dict[str, str]:
    """What decides how fast a kernel is, beside the card."""
    found = {"driver": machine.driver_version or ""}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def find_record(path: Path, subject: dict[str, Any]) -> KernelRecord | None:
    """The newest record of `subject` (versions, model and shape); None without one or where the file cannot be read."""
    try:
        records = read_records(path)
    except (OSError, ValueError, RecursionError):
        return None
    for record in reversed(records):
        if record.get("subject") == subject:
            try:
                return _decoded(record)
            except (KeyError, TypeError, ValueError, OverflowError):
                return None
    return None


def keep_record(path: Path, subject: dict[str, Any], record: KernelRecord) -> None:
    """Put `record` in place of what the file says of `subject`. Raises OSError when it cannot be written."""
    try:
        others = [each for each in read_records(path) if each.get("subject") != subject]
    except (ValueError, RecursionError):
        others = []
    fresh = {
        "subject": subject,
        "chosen": record.chosen,
        "seconds": record.seconds,
        "unfit": list(record.unfit),
        "date": record.date,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json_atomic(path, {"v": FILE_VERSION, "records": [*others[1 - MOST_RECORDS :], fresh]})


def _decoded(record: dict[str, Any]) -> KernelRecord:
    seconds, unfit = record["seconds"], record["unfit"]
    if not isinstance(seconds, dict) or not isinstance(unfit, list) or len(seconds) + len(unfit) > _MOST_WAYS:
        raise ValueError("ways")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"]):
        raise ValueError("date")
    found = {_way(name): _seconds(value) for name, value in seconds.items()}
    if record["chosen"] not in found:
        raise ValueError("chosen")
    return KernelRecord(record["chosen"], found, tuple(_way(name) for name in unfit), record["date"])


def _way(name: Any) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("name")
    return str(name)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _LONGEST_S:
        raise ValueError("seconds")
    return float(value)
