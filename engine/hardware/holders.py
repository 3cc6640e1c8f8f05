"""Who holds memory on a GPU: NVML's process ids with the names and users this system knows for them.

Inside a container NVML reports the host's ids, which mean other processes here
or none, so they stay without names.
"""

from __future__ import annotations

import os
from typing import Any

from engine.hardware.files import read_text
from engine.hardware.machine import GpuProcess
from engine.hardware.nvml import Session

_HOST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed number for the first process id namespace (PROC_PID_INIT_INO)."""


def gpu_processes(session: Session, handle: Any, root: str = "/") -> tuple[GpuProcess, ...]:
    """Compute and graphics processes, largest first; memory is `None` where the driver does not tell (WSL, vGPU)."""
    used: dict[int, int | None] = {}
    for kind in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in session.value(kind, handle) or ():
            held = getattr(process, "usedGpuMemory", None)
            used[int(process.pid)] = max(held or 0, used.get(int(process.pid)) or 0) or None
    host = _in_host_namespace(root)
    found = [
        GpuProcess(pid, held, *(_name_and_user(pid, root) if host else (None, None))) for pid, held in used.items()
    ]
    return tuple(sorted(found, key=lambda process: (-(process.used_bytes or 0), process.pid)))


def _in_host_namespace(root: str) -> bool:
    try:
        return os.readlink(os.path.join(root, "proc/self/ns/pid")) == _HOST_PID_NAMESPACE
    except OSError:
        return False


def _name_and_user(pid: int, root: str) -> tuple[str | None, str | None]:
    name = read_text(root, f"proc/{pid}/comm", 256).strip() or None
    try:
        user_id = os.stat(os.path.join(root, f"proc/{pid}")).st_uid
    except OSError:
        return name, None
    return name, _user_name(user_id)


def _user_name(user_id: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
