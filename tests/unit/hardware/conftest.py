"""A stand-in for the NVML library that replays recorded answers, and a kernel file tree to read from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml as real
import pytest

from engine.hardware.machine import Machine
from engine.hardware.probe import read_machine

RECORDINGS = Path(__file__).parent / "recordings"


class Handle:
    """What NVML hands out for a device or slice: its answers."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers


def _replayed(answer: Any) -> Any:
    """An answer as pynvml gives it: an exception, an object with fields, a list of those, or a plain value."""
    if isinstance(answer, dict):
        if set(answer) == {"error"}:
            raise real.NVMLError(answer["error"])
        return SimpleNamespace(**answer)
    if isinstance(answer, list):
        return [SimpleNamespace(**item) if isinstance(item, dict) else item for item in answer]
    return answer


class FakeNvml(ModuleType):
    """`pynvml` with recorded answers. A query that is not recorded, or that pynvml does not have, fails the test."""

    def __init__(self, recording: dict[str, Any]) -> None:
        super().__init__("pynvml")
        self.recording = recording
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        known = getattr(real, name)
        if not name.startswith("nvml") or not callable(known):
            return known

        def ask(handle: Handle | None = None, *_: Any) -> Any:
            assert self.opened, f"{name} was asked without nvmlInit"
            answers = self.recording if handle is None else handle.answers
            assert name in answers, f"{name} is not in the recording"
            return _replayed(answers[name])

        return ask

    def nvmlInit(self) -> None:
        if self.recording["init"]:
            raise real.NVMLError(self.recording["init"])
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.recording["devices"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle:
        return self._handle(self.recording["devices"][index])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int:
        return len(handle.answers["slices"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int) -> Handle:
        return self._handle(handle.answers["slices"][index])

    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int | None = None) -> Any:
        return _replayed(handle.answers["nvmlDeviceGetMemoryInfo"]["v2" if version == real.nvmlMemory_v2 else "v1"])

    def nvmlDeviceGetMaxClockInfo(self, handle: Handle, kind: int) -> Any:
        names = {real.NVML_CLOCK_SM: "sm", real.NVML_CLOCK_MEM: "mem"}
        return _replayed(handle.answers["nvmlDeviceGetMaxClockInfo"][names[kind]])

    def nvmlDeviceGetClockInfo(self, handle: Handle, kind: int) -> Any:
        names = {real.NVML_CLOCK_SM: "sm", real.NVML_CLOCK_MEM: "mem"}
        return _replayed(handle.answers["nvmlDeviceGetClockInfo"][names[kind]])

    def nvmlDeviceGetPcieThroughput(self, handle: Handle, counter: int) -> Any:
        names = {real.NVML_PCIE_UTIL_TX_BYTES: "tx", real.NVML_PCIE_UTIL_RX_BYTES: "rx"}
        return _replayed(handle.answers["nvmlDeviceGetPcieThroughput"][names[counter]])

    def _handle(self, answers: dict[str, Any]) -> Handle:
        return Handle(answers) if set(answers) != {"error"} else _replayed(answers)


def load_recording(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text())
    return loaded


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Kernel files of a small x86 machine without container limits, in the host's process id namespace."""
    write_files(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  Test\nflags\t\t: fpu avx2 avx512f\n\n",
            "proc/meminfo": "MemTotal:       65536000 kB\nMemFree:         1000000 kB\nMemAvailable:   52428800 kB\n",
        },
    )
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    os.symlink("pid:[4026531836]", tmp_path / "proc/self/ns/pid")
    return tmp_path


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


Replay = Callable[..., Machine]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, host: Path) -> Replay:
    """`replay("t4", CUDA_VISIBLE_DEVICES="0")`: the machine that the probe makes of a recording."""

    def run(name: str, *, edit: Callable[[dict[str, Any]], None] | None = None, **environ: str) -> Machine:
        recording = load_recording(name)
        if edit is not None:
            edit(recording)
        fake = FakeNvml(recording)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        machine = read_machine(str(host), environ)
        assert fake.opened == 0, "NVML was left open"
        return machine

    return run
