"""Keeping a run's measurement in the file of its device, beside those of other runs.

Called by `calibrate.py`. Two runs that end together wait for each other; a file that cannot be read is set aside.
Not here: reading for a prediction (`engine.memory.calibration_store`).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from engine.memory.calibration import Measurement
from engine.memory.calibration_record import Record, decode, encode
from engine.memory.calibration_store import FILE_VERSION, MOST_RECORDS, read_records
from engine.runs.files import write_json_atomic
from engine.runs.lock import acquire
from engine.worker_job import Warn

_PATIENCE_S = 60.0
"""A writer holds the lock for two syncs of the disk, which can take seconds each on a network home."""


def keep(path: Path, measurement: Measurement, installed: dict[str, str], warn: Warn) -> None:
    """Put `measurement` among the newest records of `path`. Raises OSError when it cannot be written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(path.with_suffix(".lock"))
    try:
        records = _records(path, warn)
        merged = with_measurement(records, measurement, installed)
        write_json_atomic(path, {"v": FILE_VERSION, "records": merged[-MOST_RECORDS:]})
    finally:
        os.close(lock)


def with_measurement(records: list[Record], measurement: Measurement, installed: dict[str, str]) -> list[Record]:
    """`records` with `measurement` as the newest, joined with what was known of the same configuration."""
    fresh = encode(measurement, installed)
    same = [record for record in records if _same(record, fresh)]
    for record in same:
        try:
            measurement = join(decode(record), measurement)
        except (KeyError, TypeError, ValueError):
            continue
    return [record for record in records if not _same(record, fresh)] + [encode(measurement, installed)]


def _same(one: Record, other: Record) -> bool:
    return all(one.get(key) == other[key] for key in ("software", "model_key", "shape"))


def join(old: Measurement, new: Measurement) -> Measurement:
    """Both runs of one configuration in one record: the higher peaks, the newer speed.

    A run that ended well says more than one that ran out of memory; one that had less than a good run took says
    nothing new.
    """
    if new.out_of_memory:
        return old if not old.out_of_memory and new.reserved_bytes <= old.reserved_bytes else new
    if old.out_of_memory:
        return new
    newer = new if new.tokens_per_second else old
    return replace(
        new,
        reserved_bytes=max(old.reserved_bytes, new.reserved_bytes),
        allocated_bytes=_higher(old.allocated_bytes, new.allocated_bytes),
        context_bytes=_higher(old.context_bytes, new.context_bytes),
        tokens_per_second=newer.tokens_per_second,
        predicted_tokens_per_second=newer.predicted_tokens_per_second,
        rates_measured=newer.rates_measured,
    )


def _higher(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _records(path: Path, warn: Warn) -> list[Record]:
    try:
        return read_records(path)
    except (ValueError, RecursionError) as error:
        aside = path.with_suffix(".damaged")
        warn("calibration_damaged", f"{path} cannot be read ({error}): it is now {aside.name}, and a new one begins")
        os.replace(path, aside)
        return []


def _lock(path: Path) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while (descriptor := acquire(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} is held by another run")
        time.sleep(0.05)
    return descriptor
