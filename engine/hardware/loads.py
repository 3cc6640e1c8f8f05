"""What each card does now: memory, holders, clocks, power, heat, what slows it down, the bus.

`CardWatch` keeps the driver open and asks again and again; what never changes is asked once. Not here: what a machine
is (`probe.py`), who draws it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from engine.hardware.devices import list_devices, seen_now
from engine.hardware.machine import Gpu
from engine.hardware.memory import SystemMemory, system_memory
from engine.hardware.nvml import Session, open_nvml
from engine.hardware.visible import visible_gpus

_REASONS = (
    (0x04, "power limit"),
    (0x20, "heat"),
    (0x40, "heat"),
    (0x80, "power brake of the machine"),
    (0x08, "hardware slowdown"),
)
"""Bits of NVML's clock event reasons that take speed away; idling and clocks that a person set are not among them."""
_SM, _MEMORY = "NVML_CLOCK_SM", "NVML_CLOCK_MEM"
_CONSTANTS = {_SM: 1, _MEMORY: 2, "NVML_PCIE_UTIL_TX_BYTES": 0, "NVML_PCIE_UTIL_RX_BYTES": 1}
_SLOWDOWN_THRESHOLD = 1
"""NVML_TEMPERATURE_THRESHOLD_SLOWDOWN."""
_KIB = 1024
_LIST_AGAIN_S = 30.0
"""Cards and slices come and go seldom."""


@dataclass(frozen=True, slots=True)
class CardLoad:
    """One card or slice at one moment; `None` = the driver does not tell."""

    gpu: Gpu
    """What it is, with the memory, sensors and processes of this moment."""
    memory_busy_percent: int | None = None
    """Share of the time in which its memory was read or written."""
    sm_clock_mhz: int | None = None
    sm_clock_most_mhz: int | None = None
    memory_clock_mhz: int | None = None
    memory_clock_most_mhz: int | None = None
    slowdown_c: int | None = None
    """Temperature at which the hardware slows itself down."""
    slowed_by: tuple[str, ...] = ()
    """What keeps its clocks below what was asked for."""
    received_bytes_s: float | None = None
    """Over PCIe, to the card."""
    sent_bytes_s: float | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    fan_percent: int | None = None
    hidden: bool = False
    """Whether `CUDA_VISIBLE_DEVICES` keeps this process from using it."""
    busy_percent_of: Mapping[int, int] = field(default_factory=dict)
    """Share of the multiprocessors' time by process."""


@dataclass(frozen=True, slots=True)
class Loads:
    """All cards at `time_s` (seconds since the epoch), or why there are none."""

    time_s: float
    cards: tuple[CardLoad, ...] = ()
    notes: tuple[str, ...] = ()
    driver_version: str | None = None


def place_of(gpu: Gpu) -> tuple[int | None, int | None]:
    """Numbers of a card and of a slice in it: the same device at every look."""
    return gpu.index, gpu.mig_index


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What is asked once of a card."""

    sm_clock_most_mhz: int | None
    memory_clock_most_mhz: int | None
    slowdown_c: int | None


class CardWatch:
    """The driver, open from the first `read` until `close`. One thread at a time may use it."""

    def __init__(self, root: str = "/", clock: Callable[[], float] = time.time) -> None:
        self._root, self._clock = root, clock
        self._opened: AbstractContextManager[Session] | None = None
        self._session: Session | None = None
        self._devices: tuple[tuple[Gpu, Any], ...] = ()
        self._fixed: dict[str, _Fixed] = {}
        self._listed_s = float("-inf")
        self._driver: str | None = None
        self._heard_us: dict[str, int] = {}
        """Until when the driver told about processes, by card."""

    def read(self) -> Loads:
        """All cards now. Never raises for hardware."""
        session, now = self._session or self._open(), self._clock()
        if session.problem:
            self.close()  # a driver that comes back is found
            return Loads(now, notes=(session.problem,))
        if now - self._listed_s >= _LIST_AGAIN_S:
            self._devices, self._listed_s = list_devices(session, system_memory(self._root)), now
        allowed, notes = visible_gpus(tuple(gpu for gpu, _ in self._devices), os.environ)
        seen = {place_of(gpu) for gpu in allowed}
        memory = system_memory(self._root)
        loads = (self._load(session, gpu, handle, memory) for gpu, handle in self._devices)
        cards = tuple(load if place_of(load.gpu) in seen else replace(load, hidden=True) for load in loads)
        return Loads(now, cards, notes, self._driver)

    def close(self) -> None:
        """Let go of the driver."""
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
        self._opened = self._session = None
        self._listed_s = float("-inf")

    def _open(self) -> Session:
        self._opened = opened = open_nvml()
        self._session = session = opened.__enter__()
        self._driver = None if session.problem else session.driver_version()
        return session

    def _load(self, session: Session, gpu: Gpu, handle: Any, memory: SystemMemory) -> CardLoad:
        if handle is None:
            return CardLoad(gpu)
        gpu = seen_now(session, handle, gpu, memory, self._root)
        if gpu.mig == "slice":
            return CardLoad(gpu)  # clocks, power and heat are the whole card's
        key = gpu.uuid or str(gpu.index)
        if key not in self._fixed:
            self._fixed[key] = _fixed(session, handle)
        fixed, rates = self._fixed[key], session.value("nvmlDeviceGetUtilizationRates", handle)
        return CardLoad(
            gpu,
            memory_busy_percent=_whole(getattr(rates, "memory", None)),
            sm_clock_mhz=_clock(session, handle, "nvmlDeviceGetClockInfo", _SM),
            sm_clock_most_mhz=fixed.sm_clock_most_mhz,
            memory_clock_mhz=_clock(session, handle, "nvmlDeviceGetClockInfo", _MEMORY),
            memory_clock_most_mhz=fixed.memory_clock_most_mhz,
            slowdown_c=fixed.slowdown_c,
            slowed_by=slowed_by(session, handle),
            received_bytes_s=_traffic(session, handle, "NVML_PCIE_UTIL_RX_BYTES"),
            sent_bytes_s=_traffic(session, handle, "NVML_PCIE_UTIL_TX_BYTES"),
            pcie_generation=_whole(session.value("nvmlDeviceGetCurrPcieLinkGeneration", handle)),
            pcie_lanes=_whole(session.value("nvmlDeviceGetCurrPcieLinkWidth", handle)),
            fan_percent=_whole(session.value("nvmlDeviceGetFanSpeed", handle)),
            busy_percent_of=self._busy(session, handle, key),
        )

    def _busy(self, session: Session, handle: Any, key: str) -> Mapping[int, int]:
        """The newest sample of each process since the last look; the driver has none for an idle card."""
        samples = session.value("nvmlDeviceGetProcessUtilization", handle, self._heard_us.get(key, 0)) or ()
        newest: dict[int, tuple[int, int]] = {}
        for sample in samples:
            pid, at_us = int(sample.pid), int(sample.timeStamp)
            if pid and at_us >= newest.get(pid, (0, 0))[0]:
                newest[pid] = at_us, int(sample.smUtil)
        self._heard_us[key] = max([self._heard_us.get(key, 0), *(at_us for at_us, _ in newest.values())])
        return {pid: percent for pid, (_, percent) in newest.items()}


def _fixed(session: Session, handle: Any) -> _Fixed:
    return _Fixed(
        _clock(session, handle, "nvmlDeviceGetMaxClockInfo", _SM),
        _clock(session, handle, "nvmlDeviceGetMaxClockInfo", _MEMORY),
        _whole(session.value("nvmlDeviceGetTemperatureThreshold", handle, _SLOWDOWN_THRESHOLD)),
    )


def _constant(session: Session, name: str) -> int:
    return int(getattr(session.library, name, _CONSTANTS[name]))


def _clock(session: Session, handle: Any, query: str, kind: str) -> int | None:
    return _whole(session.value(query, handle, _constant(session, kind)))


def slowed_by(session: Session, handle: Any) -> tuple[str, ...]:
    """What keeps a card's clocks down, in words; asked by its new name, or the one before driver 535."""
    reasons = session.value("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = session.value("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    bits = int(reasons or 0)
    return tuple(dict.fromkeys(words for bit, words in _REASONS if bits & bit))


def _traffic(session: Session, handle: Any, counter: str) -> float | None:
    """Bytes a second; NVML measures over 20 ms and gives KiB."""
    found = session.value("nvmlDeviceGetPcieThroughput", handle, _constant(session, counter))
    return None if found is None else float(found) * _KIB


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
