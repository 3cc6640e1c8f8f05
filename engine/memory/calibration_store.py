"""Where a machine's measurements are kept, and which of them hold for what is installed.

One file a device, `$XDG_STATE_HOME/tunedeck/calibration/<device>.json`, with the newest configurations. A
record holds while the device and the software that decide its numbers are the same; others stay in the file
and are not used. Read on the way of `engine fit`, so nothing heavy is imported; whatever a file holds, reading
it raises nothing. Written by `engine.measure.calibrate`.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration import Calibration, Measurement, calibration_of
from engine.memory.shape import GIB, TrainingShape
from engine.text import sanitize

FILE_VERSION = 1
MOST_RECORDS = 64
_MOST_FILE_BYTES = 2**20
_PACKAGES = ("bitsandbytes", "peft", "transformers", "tunedeck")


def load_calibration(gpu: Gpu | None, machine: Machine) -> Calibration | None:
    """What was measured on `gpu` (on the processor for `None`) with the software installed now.

    `None` when nothing was. A file that cannot be read gives a calibration without measurements and a note.
    """
    device = device_key(gpu, machine)
    if device is None:
        return None
    found, _, note = read_and_note(calibration_path(device), software(gpu, machine))
    notes = (note,) if note else ()
    return calibration_of(found, notes) if found or notes else None


def read_and_note(path: Path, installed: dict[str, str]) -> tuple[list[Measurement], int, str]:
    """The measurements of a file that hold with the software `installed`, how many others there are, and what of the
    file cannot be read, in words."""
    try:
        records = read_records(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = sanitize(str(error), max_chars=120, single_line=True)
        return [], 0, f"measurements of earlier runs are not used: {path}: {reason}"
    mine = [record for record in records if record.get("software") == installed]
    found, bad = _decode_all(mine)
    note = f"{bad} of the measurements in {path} cannot be read and are not used" if bad else ""
    return found, len(records) - len(mine), note


def device_key(gpu: Gpu | None, machine: Machine) -> str | None:
    """Name of a device's file; `None` for a card that was named and not found, or that has no UUID."""
    if gpu is None:
        name = f"cpu-{machine.cpu.name}-{machine.cpu.logical_cores}-{round(machine.ram_total_bytes / GIB)}gib"
    elif gpu.hypothetical or not gpu.uuid:
        return None
    else:
        name = gpu.uuid
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:100] or None


def calibration_path(device: str) -> Path:
    """The file of a device by its key."""
    return _folder() / f"{device}.json"


def _folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base, "tunedeck", "calibration")


def last_measured_s() -> float:
    """When something was measured here last, on any device: plans made before it are not the newest. 0 = never."""
    try:
        return max((entry.stat().st_mtime for entry in os.scandir(_folder())), default=0.0)
    except OSError:
        return 0.0


def software(gpu: Gpu | None, machine: Machine) -> dict[str, str]:
    """Versions that decide what a run takes, from file names: `importlib.metadata` takes 20 ms to import."""
    found = {"torch": machine.torch_version or "", **_installed()}
    if gpu is not None:
        found |= {"cuda": machine.torch_cuda_version or "", "driver": machine.driver_version or ""}
    return found


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            package, _, rest = name.partition("-")
            if rest.endswith(".dist-info") and package in _PACKAGES:
                found.setdefault(package, rest.removesuffix(".dist-info"))
    return {name: found.get(name, "") for name in _PACKAGES}


def read_records(path: Path) -> list[Record]:
    """The records of a file, oldest first, as they are; empty when there is none. Raises OSError or ValueError."""
    try:
        # Not blocking: somebody's pipe of that name must not hold `engine fit`.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    import json  # 3 ms that a machine without measurements need not pay

    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = file.read(_MOST_FILE_BYTES + 1)
    if len(data) > _MOST_FILE_BYTES:
        raise ValueError(f"larger than {_MOST_FILE_BYTES} bytes")
    whole = json.loads(data, parse_constant=_refuse)
    if not isinstance(whole, dict) or whole.get("v") != FILE_VERSION or not isinstance(whole.get("records"), list):
        raise ValueError(f"not a calibration file of version {FILE_VERSION}")
    return [record for record in whole["records"] if isinstance(record, dict)]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _decode_all(records: list[Record]) -> tuple[list[Measurement], int]:
    found, bad = [], 0
    for record in records:
        try:
            found.append(decode(record))
        except (KeyError, TypeError, ValueError, OverflowError):
            bad += 1
    return found, bad


_MOST_BYTES = 2**50
_MOST_NUMBER = 2**31
_MOST_TARGETS = 64
_LEAST_SHARE = 0.25
"""A run that took less than this share of its prediction was not measured, its file was damaged."""
_SPEEDS = ("tokens_per_second", "predicted_tokens_per_second")

Record = dict[str, Any]


def encode(measurement: Measurement, installed: dict[str, str]) -> Record:
    """A record as it stands in the file."""
    shape = {name: list(item) if isinstance(item, tuple) else item for name, item in asdict(measurement.shape).items()}
    return {"software": installed, **asdict(measurement), "shape": shape}


def decode(record: Record) -> Measurement:
    """A record of a file, checked. Raises KeyError, TypeError or ValueError for one that cannot be."""
    reserved, predicted = _count(record["reserved_bytes"]), _count(record["predicted_reserved_bytes"])
    allocated, context = (_optional_count(record.get(key)) for key in ("allocated_bytes", "context_bytes"))
    speeds = {key: _speed(record.get(key)) for key in _SPEEDS}
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"]):
        raise ValueError("date")
    if not isinstance(record["out_of_memory"], bool):
        raise TypeError("out_of_memory")
    if not isinstance(record.get("rates_measured", False), bool):
        raise TypeError("rates_measured")
    too_little = not record["out_of_memory"] and reserved < _LEAST_SHARE * predicted
    if too_little or (allocated or 0) > reserved:
        raise ValueError("reserved_bytes")
    return Measurement(
        model_key=_text(record["model_key"], 2000),
        shape=shape_from(record["shape"]),
        date=record["date"],
        reserved_bytes=reserved,
        predicted_reserved_bytes=predicted,
        allocated_bytes=allocated,
        context_bytes=context,
        out_of_memory=record["out_of_memory"],
        rates_measured=record.get("rates_measured", False),
        model=sanitize(_text(record.get("model", ""), 300), single_line=True),
        **speeds,
    )


def shape_from(value: Any) -> TrainingShape:
    """A shape from JSON; a field that is missing had not been invented. Raises TypeError or ValueError."""
    known = {item.name: item.default for item in fields(TrainingShape)}
    if not isinstance(value, dict) or not value.keys() <= known.keys():
        raise ValueError("shape")
    return TrainingShape(**{name: _like(item, known[name]) for name, item in value.items()})


def _like(value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list) or len(value) > _MOST_TARGETS:
            raise TypeError("not a list")
        return tuple(_text(item, 100) for item in value)
    if isinstance(default, str):
        return _text(value, 100)
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise TypeError("not a number")
    if not 0 <= value <= _MOST_NUMBER:
        raise ValueError("out of range")
    return value


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise TypeError("not a text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not bytes")
    if not 0 <= value <= _MOST_BYTES:
        raise ValueError("bytes out of range")
    return value


def _optional_count(value: Any) -> int | None:
    return None if value is None else _count(value)


def _speed(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not 0 < value < _MOST_NUMBER:
        raise ValueError("tokens per second")
    return float(value)
