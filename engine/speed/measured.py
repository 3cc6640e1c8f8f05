"""What a device was measured to do: rates of products, of the work between them, and of memory, kept beside its runs.

One file a device, `$XDG_STATE_HOME/tunedeck/calibration/<device>.rates.json`, one record for each combination of
torch, driver and threads. Read on the way of `engine fit`, so nothing heavy is imported, and whatever the file
holds, reading raises nothing. Taking the figures: `engine.measure.microbench`; using them: `rates.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration_store import calibration_path, device_key, read_records

MOST_RECORDS = 8
_RATE_BOUNDS = (1e6, 1e18)
_TIME_BOUNDS = (1e-15, 1e-3)
_TIMES = ("value_s", "score_s", "logit_s")
_MOST_WIDTHS = 16
_WIDTH_BOUNDS = (1, 2**20)
_CONTEXT_BOUNDS = (2**20, 2**34)

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DtypeRates:
    """One compute dtype. `products`: (width of the matrices, FLOP/s), narrow to wide."""

    products: tuple[tuple[int, float], ...]
    value_s: float = 0.0
    """Seconds that a decoder layer's work between its products takes a token and unit of width, forward and backward;
    0 on a GPU, where it is not measured."""
    score_s: float = 0.0
    """Seconds an attention score takes, forward and backward; 0 on a GPU."""
    logit_s: float = 0.0
    """Seconds the loss takes a logit, without the head's product; 0 on a GPU."""

    def flops_at(self, width: float) -> float:
        """FLOP/s of products of about that width: that of the nearest measured one, by ratio."""
        return min(self.products, key=lambda one: max(one[0] / width, width / one[0]))[1]


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """One device with the software that is installed now."""

    date: str
    """Day of the measurement, `2026-11-24`."""
    threads: int
    bandwidth_bytes_s: float
    """Read and written, as a copy of a large tensor moves them."""
    dtypes: Mapping[str, DtypeRates]
    context_bytes: int | None = None
    """What the measuring process took from a card outside the allocator; None where nothing told."""


def load_rates(gpu: Gpu | None, machine: Machine) -> MeasuredRates | None:
    """What `gpu` (the processor for `None`) was measured to do with this torch and driver; `None` when it was not."""
    path = rates_path(gpu, machine)
    if path is None:
        return None
    try:
        for record in reversed(read_records(path)):
            if record.get("software") == rates_software(gpu, machine):
                return decode_rates(record)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # Less is known then, which the figures say of themselves; the next measurement writes the file anew.
        return None
    return None


def rates_path(gpu: Gpu | None, machine: Machine) -> Path | None:
    """The file of a device; `None` for a card that was named and not found."""
    device = device_key(gpu, machine)
    return None if device is None else calibration_path(device).with_suffix(".rates.json")


def rates_software(gpu: Gpu | None, machine: Machine) -> dict[str, str]:
    """Versions that decide how fast a kernel is."""
    found = {"torch": machine.torch_version or ""}
    if gpu is not None:
        found |= {"cuda": machine.torch_cuda_version or "", "driver": machine.driver_version or ""}
    return found


def encode_rates(rates: MeasuredRates, software: dict[str, str]) -> Record:
    """A record as it stands in the file."""
    dtypes = {
        name: {"products": [list(one) for one in found.products], **{key: getattr(found, key) for key in _TIMES}}
        for name, found in rates.dtypes.items()
    }
    head = {"software": software, "date": rates.date, "threads": rates.threads}
    context = {} if rates.context_bytes is None else {"context_bytes": rates.context_bytes}
    return {**head, **context, "bandwidth_bytes_s": rates.bandwidth_bytes_s, "dtypes": dtypes}


def decode_rates(record: Record) -> MeasuredRates:
    """A record of a file, checked. Raises KeyError, TypeError or ValueError for one that cannot be."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"]):
        raise ValueError("date")
    dtypes = {
        name: _dtype_rates(record["dtypes"][name]) for name in ("fp32", "bf16", "fp16") if name in record["dtypes"]
    }
    return MeasuredRates(
        date=record["date"],
        threads=int(_within(record["threads"], (1, 4096))),
        bandwidth_bytes_s=_within(record["bandwidth_bytes_s"], _RATE_BOUNDS),
        dtypes=dtypes,
        context_bytes=int(_within(record["context_bytes"], _CONTEXT_BOUNDS)) if "context_bytes" in record else None,
    )


def _dtype_rates(value: Record) -> DtypeRates:
    products = tuple(
        (int(_within(width, _WIDTH_BOUNDS)), _within(flops, _RATE_BOUNDS)) for width, flops in value["products"]
    )
    if not 1 <= len(products) <= _MOST_WIDTHS:
        raise ValueError("products")
    times = {name: _within(value[name], _TIME_BOUNDS) if value[name] else 0.0 for name in _TIMES}
    return DtypeRates(products, **times)


def _within(value: Any, bounds: tuple[float, float]) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError("not a number")
    if not bounds[0] <= value <= bounds[1]:
        raise ValueError("out of range")
    return float(value)
