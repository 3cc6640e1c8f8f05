"""Limits that a container or a service manager puts on this process: cgroup v2, and v1 where it still runs.

Limits count on every level up to the root, so each is read.
Not here: ulimits, and what to do about a limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from engine.hardware.files import read_int, read_text

_MOUNT = "sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """One level's limit and use; use leaves out file cache that the kernel gives back on demand."""

    limit_bytes: int
    used_bytes: int


def memory_limits(root: str = "/") -> list[MemoryLimit]:
    """Every memory limit above this process, innermost first."""
    found = []
    for directory, version in _levels(root, "memory"):
        limit = read_int(root, f"{directory}/{'memory.max' if version == 2 else 'memory.limit_in_bytes'}")
        used = read_int(root, f"{directory}/{'memory.current' if version == 2 else 'memory.usage_in_bytes'}")
        if limit is not None and limit > 0:
            cache = _stat(root, f"{directory}/memory.stat", "inactive_file" if version == 2 else "total_inactive_file")
            found.append(MemoryLimit(limit, max(0, (used or 0) - cache)))
    return found


def cpu_limit(root: str = "/") -> float | None:
    """Processors that the tightest quota allows, such as 1.5; `None` without one."""
    limits = []
    for directory, version in _levels(root, "cpu"):
        if version == 2:
            quota, _, period = read_text(root, f"{directory}/cpu.max", 64).strip().partition(" ")
        else:
            quota = str(read_int(root, f"{directory}/cpu.cfs_quota_us") or "")
            period = str(read_int(root, f"{directory}/cpu.cfs_period_us") or "")
        if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _levels(root: str, controller: str) -> Iterator[tuple[str, int]]:
    """Directories (relative to `root`) that may limit `controller`, with their cgroup version."""
    for line in read_text(root, "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if number == "0" and not controllers:
            yield from ((level, 2) for level in _upwards(_MOUNT, path))
        elif controller in names:
            mount = next((name for name in (controllers, controller) if _is_directory(root, name)), controller)
            yield from ((level, 1) for level in _upwards(f"{_MOUNT}/{mount}", path))


def _is_directory(root: str, name: str) -> bool:
    return os.path.isdir(os.path.join(root, _MOUNT, name))


def _upwards(mount: str, path: str) -> Iterator[str]:
    """`mount/a/b`, `mount/a`, `mount`: inside a container only the last exists, and it is the container's own."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield "/".join([mount, *parts[:length]])


def _stat(root: str, path: str, key: str) -> int:
    for line in read_text(root, path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0
