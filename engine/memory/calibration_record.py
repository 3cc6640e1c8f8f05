"""A measurement as JSON, and back with every field checked: the file may be damaged or somebody's joke.

Used by `calibration_store.py` and `engine.train.calibrate`. Not here: files.
"""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from typing import Any

from engine.memory.calibration import Measurement
from engine.memory.shape import TrainingShape
from engine.text import sanitize

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
