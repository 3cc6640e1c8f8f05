"""`python -m bench.gpu.memory_cases WORKERS`: predicted against measured memory, several cases at once.

The cases are those of `bench/memory.py`. Each process counts its own allocator, so they do not disturb each other's
figures; their times mean nothing, and neither does what the driver counts. No more start than fit on the card by their
predictions. A line of JSON with all findings so far follows each case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import memory
from bench.gpu.job import told
from bench.gpu.steps import ROOT

_USABLE_SHARE = 0.85
_SMALL, _FAMILIES = 25, 5
"""Of the small cases, five models have the same five shapes in turn: shape by shape shows each kind early."""
_PEAKS = ("allocated", "reserved")


class Room:
    """Bytes of the card that cases share."""

    def __init__(self, total_bytes: float) -> None:
        self._free_bytes = total_bytes
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._free_bytes >= size_bytes)
            self._free_bytes -= size_bytes

    def give(self, size_bytes: int) -> None:
        """Make room again."""
        with self._changed:
            self._free_bytes += size_bytes
            self._changed.notify_all()


def order(count: int) -> list[int]:
    """Numbers of the cases: small ones of two kinds, the large ones, the other small ones."""
    small = sorted(range(min(count, _SMALL)), key=lambda number: (number % _FAMILIES, number))
    kinds = 2 * _FAMILIES
    return small[:kinds] + list(range(_SMALL, count)) + small[kinds:]


def measure(number: int, case: Any, predicted: dict[str, int], room: Room) -> dict[str, Any]:
    """One case in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", "one", "--case", str(number)]
    variables = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True", "OMP_NUM_THREADS": "2"}
    room.take(predicted["device"])
    try:
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    finally:
        room.give(predicted["device"])
    row: dict[str, Any] = {"case": case.name, "predicted_bytes": {name: predicted[name] for name in _PEAKS}}
    if done.returncode:
        return {**row, "error": (done.stderr.strip().splitlines() or ["?"])[-1][:300]}
    measured = json.loads(done.stdout.splitlines()[-1])
    return {**row, "measured_bytes": {name: measured[name] for name in _PEAKS}}


def main(workers: int) -> None:
    """Every case that fits on the card."""
    import torch

    from engine.memory.terms import estimate_memory

    gpu = memory.gpu_here()
    usable = _USABLE_SHARE * torch.cuda.get_device_properties(0).total_memory
    room, rows, cases, lock = Room(usable), [], memory.gpu_cases(), threading.Lock()

    def one(number: int) -> None:
        case = cases[number]
        estimate = estimate_memory(case.spec, case.shape, gpu=gpu)
        predicted = {name: int(getattr(estimate, f"{name}_bytes")) for name in (*_PEAKS, "device")}
        if predicted["device"] > usable:
            return
        found = measure(number, case, predicted, room)
        with lock:
            rows.append(found)
            told({"memory": rows})

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, order(len(cases))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
