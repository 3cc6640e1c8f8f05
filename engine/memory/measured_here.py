"""What runs measured on this machine's devices, as a person reads it, and how to forget it.

A measurement changes later predictions for its device: here it can be seen, with the figures that were predicted, and
dropped. Not here: what a measurement does to a prediction (`calibration.py`), the files (`calibration_store.py`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.hardware.cards import card_title
from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration import Measurement
from engine.memory.calibration_store import (
    calibration_path,
    device_key,
    read_and_note,
    software,
)
from engine.memory.shape import GIB, method_words
from engine.text import sanitize

_BESIDE = (".rates.json", ".kernels.json")
"""Of the same device: how fast it computes, and which kernels were found faster."""


@dataclass(frozen=True, slots=True)
class MeasuredDevice:
    """A device with what is kept of it."""

    name: str
    path: Path
    measurements: tuple[Measurement, ...]
    """Oldest first; those that hold for the software that is installed now."""
    others: int = 0
    """Kept for other versions of that software, and not used."""
    rates: bool = False
    """Whether its speed was measured."""
    note: str = ""
    """Why the file cannot be read."""


def measured_devices(machine: Machine) -> tuple[MeasuredDevice, ...]:
    """The devices of `machine` of which something is kept, GPUs first."""
    found = (_device(gpu, machine) for gpu in (*machine.gpus, None))
    return tuple(one for one in found if one is not None)


def forget_measured(device: MeasuredDevice) -> None:
    """Delete what is kept of a device; predictions are the closed form's again. Raises EngineError(ENVIRONMENT)."""
    for path in (device.path, *(device.path.with_suffix(suffix) for suffix in _BESIDE)):
        try:
            with suppress(FileNotFoundError):
                path.unlink()
        except OSError as error:
            raise EngineError(
                f"what was measured cannot be deleted: {error.strerror}",
                code=ExitCode.ENVIRONMENT,
                where=str(path),
                hint="check who owns the file",
            ) from error


def measured_words(measured: Measurement) -> tuple[str, ...]:
    """A measurement as cells: day, model, how it trained, rows x tokens, GiB and tokens/s with what was predicted."""
    shape = measured.shape
    took = (
        "ran out of memory"
        if measured.out_of_memory
        else _against(measured.reserved_bytes / GIB, measured.predicted_reserved_bytes / GIB, ".2f")
    )
    speed = _against(measured.tokens_per_second, measured.predicted_tokens_per_second, ",.0f")
    name = sanitize(measured.model.rpartition("/")[2] or "?", max_chars=40, single_line=True)
    return measured.date, name, method_words(shape), f"{shape.micro_batch} x {shape.max_length}", took, speed


HEADS = ("date", "model", "how", "rows x tokens", "GiB of predicted", "tokens/s of predicted")


def _against(value: float | None, predicted: float | None, form: str) -> str:
    if value is None:
        return "–"
    return f"{value:{form}} of {predicted:{form}}" if predicted else f"{value:{form}}"


def _device(gpu: Gpu | None, machine: Machine) -> MeasuredDevice | None:
    key = device_key(gpu, machine)
    if key is None:
        return None
    path = calibration_path(key)
    name = card_title(gpu) if gpu is not None else f"CPU {machine.cpu.name}"
    rates = path.with_suffix(".rates.json").exists()
    if not rates and not path.exists():
        return None
    found, others, note = read_and_note(path, software(gpu, machine))
    return MeasuredDevice(sanitize(name, max_chars=80, single_line=True), path, tuple(found), others, rates, note)
