"""Time and memory limits around the rendering of a template that came with a model.

A template cannot leave Jinja's sandbox, but it can loop or build a string without end.
The memory limit exists on Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator

from engine.alarm import alarm, can_ring

PATIENCE = 12
"""Times the allowed seconds that may pass on the clock."""


class RenderTimeout(Exception):
    """Rendering took longer than it may."""


@contextlib.contextmanager
def limits(seconds: float, extra_bytes: int) -> Iterator[None]:
    """Raise RenderTimeout after `seconds` of the thread's processor time, MemoryError beyond `extra_bytes` more memory.

    What shares a busy machine gets its time all the same, but for no longer than PATIENCE times the seconds.
    """
    with _time_limit(seconds), _memory_limit(extra_bytes):
        yield


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    meter = _Meter(seconds)

    def ring() -> float:
        left = meter.left_s()
        if left <= 0:
            raise RenderTimeout
        return left

    with alarm(seconds, ring) if can_ring() else _thread_limit(meter):
        yield


class _Meter:
    """Counts the processor time of the thread that makes it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # macOS has no clock of another thread: there the clock on the wall decides.
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock = None if clock is None else clock(threading.get_ident())
        self._began, self._began_wall = self._used(), time.monotonic()

    def _used(self) -> float:
        return time.monotonic() if self._clock is None else time.clock_gettime(self._clock)

    def left_s(self) -> float:
        """Until the thread may have used up its time; 0 or less when it has, or the patience is over."""
        if time.monotonic() - self._began_wall >= PATIENCE * self.seconds:
            return 0.0
        left = self.seconds - (self._used() - self._began)
        return 0.0 if left <= _CLOSE_S else left


_CLOSE_S = 0.01


@contextlib.contextmanager
def _thread_limit(meter: _Meter) -> Iterator[None]:
    """The same for a thread that gets no signals: another one raises the exception in it."""
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread = ctypes.c_ulong(threading.get_ident())
    ended, lock = threading.Event(), threading.Lock()

    def watch() -> None:
        left = meter.seconds
        while not ended.wait(left):
            left = meter.left_s()
            if left > 0:
                continue
            with lock:
                if not ended.is_set():
                    raised(thread, ctypes.py_object(RenderTimeout))
            return

    threading.Thread(target=watch, name="rendering", daemon=True).start()
    try:
        yield
    finally:
        with lock:
            ended.set()


@contextlib.contextmanager
def _memory_limit(extra_bytes: int) -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    wanted = used_bytes + extra_bytes
    bounds = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
