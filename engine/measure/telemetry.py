"""Memory of a running worker, every second and later every five, as `memory` events; a driver that fails costs nothing.

Started by `train.run` around the training; CUDA's own counters, NVML's view of the card and of this
process, and the host's resident memory.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import psutil
import torch

from engine.hardware.loads import slowed_by
from engine.hardware.nvml import Session
from engine.measure.peaks import PhasePeaks
from engine.runs.events import EventWriter

PERIOD_S = 1.0
CLOSE_SAMPLES, LATER_PERIODS = 600, 5
"""After ten minutes memory has settled: a sample every five seconds keeps a night's events small."""


class Telemetry(threading.Thread):
    """Writes `memory` events until stopped."""

    def __init__(
        self, events: EventWriter, predicted_bytes: int | None, peaks: PhasePeaks, period_s: float = PERIOD_S
    ) -> None:
        super().__init__(name="telemetry", daemon=True)
        self._events, self._folder = events, events.folder
        self._predicted_bytes = predicted_bytes
        self._peaks = peaks
        self._period_s = period_s
        self._over = threading.Event()
        self._process = psutil.Process()
        self._card = _open_card()

    def run(self) -> None:
        """Sample until `stop`."""
        samples = 0
        while not self._over.wait(self._period_s if samples < CLOSE_SAMPLES else LATER_PERIODS * self._period_s):
            self._events.write("memory", **self.sample())
            samples += 1

    def stop(self) -> None:
        """End, with a last sample."""
        self._over.set()
        self.join()
        self._events.write("memory", **self.sample())

    def sample(self) -> dict[str, Any]:
        """The fields of one `memory` event; those that are not known are left out."""
        found: dict[str, Any] = {
            "disk_free_bytes": _disk_free_bytes(self._folder),
            "host_rss_bytes": self._process.memory_info().rss,
            "predicted_bytes": self._predicted_bytes,
        }
        if torch.cuda.is_available():
            peak = self._peaks.whole()
            found |= {
                "allocated_bytes": torch.cuda.memory_allocated(),
                "reserved_bytes": torch.cuda.memory_reserved(),
                "peak_allocated_bytes": peak.allocated,
                "peak_reserved_bytes": peak.reserved,
            }
        else:
            found["limit_bytes"] = psutil.virtual_memory().total
        if self._card is not None:
            found |= _card_sample(self._card)
        return {key: value for key, value in found.items() if value is not None}


def _disk_free_bytes(folder: Path) -> int | None:
    """What is left where the run saves its checkpoints."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def driver_view() -> tuple[int | None, int | None]:
    """Bytes that the driver counts for this process, and bytes free on its card; None where it does not tell."""
    card = _open_card()
    found = {} if card is None else _card_sample(card)
    used, total = found.get("device_used_bytes"), found.get("device_total_bytes")
    return found.get("process_bytes"), None if used is None or total is None else total - used


def _open_card() -> Any:
    """NVML handle of the card this process trains on, None when there is none to be had."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        return pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    except Exception:  # telemetry must never end a run: any driver trouble means "not known"
        return None


def _card_sample(card: Any) -> dict[str, Any]:
    import pynvml

    def ask(query: Any) -> Any:
        try:
            return query()
        except pynvml.NVMLError:
            return None

    memory = ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(card))
    processes = ask(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(card)) or []
    mine = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    power = ask(lambda: pynvml.nvmlDeviceGetPowerUsage(card))
    rates = ask(lambda: pynvml.nvmlDeviceGetUtilizationRates(card))
    return {
        "device_used_bytes": memory and memory.used,
        "device_total_bytes": memory and memory.total,
        "limit_bytes": memory and memory.total,
        "process_bytes": mine[0] if mine else None,
        "utilization_percent": rates and rates.gpu,
        "temperature_c": ask(lambda: pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU)),
        "power_w": power and power / 1000,
        "slowed_by": list(slowed_by(Session(library=pynvml), card)) or None,
    }
