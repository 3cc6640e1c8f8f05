"""A thin wrapper over nvidia-ml-py: open the library, ask one thing at a time, never raise.

NVML may refuse any query on any card (old driver, laptop, container, MIG, vGPU), so each answer is a
value or the reason for none. Not here: what an answer means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIBRARY_MISMATCH = 18

_INIT_PROBLEMS = {
    DRIVER_NOT_LOADED: (
        "the NVIDIA driver is installed but not loaded: run 'sudo modprobe nvidia', or restart the machine; "
        "if that fails, install the driver again for this kernel"
    ),
    LIBRARY_MISMATCH: (
        "the NVIDIA driver was updated while its old kernel module is still loaded (driver/library version mismatch): "
        "restart the machine"
    ),
    NO_PERMISSION: "no permission to talk to the NVIDIA driver: add yourself to the group that owns /dev/nvidia*",
    GPU_IS_LOST: "a GPU fell off the bus: restart the machine, and look for 'Xid' in dmesg if it happens again",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What NVML said: a value, or the code and text of its refusal."""

    value: Any = None
    code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """An initialised library, or `problem`: why there is none and what to do."""

    library: Any = None
    problem: str | None = None

    def ask(self, function: str, *arguments: Any, **options: Any) -> Answer:
        """Call `function` of the library; a refusal is an answer too."""
        call = getattr(self.library, function, None)
        if call is None:
            return Answer(code=FUNCTION_NOT_FOUND, error="not in this version of nvidia-ml-py")
        try:
            return Answer(_decoded(call(*arguments, **options)))
        except self.library.NVMLError as error:
            return Answer(code=int(getattr(error, "value", 999)), error=str(error))

    def value(self, function: str, *arguments: Any, **options: Any) -> Any:
        """The value alone, `None` where NVML refused."""
        return self.ask(function, *arguments, **options).value

    def driver_version(self) -> str | None:
        """For example `580.95.05`."""
        version = self.value("nvmlSystemGetDriverVersion")
        return str(version) if version else None

    def cuda_driver_version(self) -> tuple[int, int] | None:
        """Newest CUDA that the driver runs, `(13, 0)` from NVML's 13000."""
        number = self.ask("nvmlSystemGetCudaDriverVersion_v2").value or self.value("nvmlSystemGetCudaDriverVersion")
        return (number // 1000, number % 1000 // 10) if number else None


@contextmanager
def open_nvml() -> Iterator[Session]:
    """A session for the length of a `with`; without a driver it carries the reason instead."""
    session = _start()
    try:
        yield session
    finally:
        if session.library is not None:
            session.ask("nvmlShutdown")


def _start() -> Session:
    if "pynvml" not in sys.modules and sys.platform == "linux" and not _has_library():
        return Session(problem=_no_library())
    try:
        import pynvml
    except ImportError:
        return Session(problem="the package nvidia-ml-py is missing, so no GPU can be seen: pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Session(problem=_init_problem(int(getattr(error, "value", 999)), str(error)))
    return Session(library=pynvml)


def _has_library() -> bool:
    """Whether NVML can be loaded, as pynvml asks it; without a driver the 10 ms for pynvml itself are saved."""
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _init_problem(code: int, text: str) -> str:
    if code == LIBRARY_NOT_FOUND:
        return _no_library()
    return _INIT_PROBLEMS.get(code, f"the NVIDIA driver does not answer ({text}): run nvidia-smi to see why")


def _no_library() -> str:
    if os.path.exists("/dev/nvidiactl") or os.path.exists("/proc/driver/nvidia/version"):
        return (
            "a GPU is here but its library libnvidia-ml.so.1 is not: in a container, start it with "
            "'--gpus all' (NVIDIA container toolkit, capability 'utility'); otherwise install the driver again"
        )
    return "no NVIDIA driver was found (libnvidia-ml.so.1): if this machine has a GPU, install the driver"


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
