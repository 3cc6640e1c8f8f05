"""Work in the main thread with a limit of time that also reaches it inside a call of the system."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


def can_ring() -> bool:
    """Whether this thread gets alarms: the main one does, where the system has timers."""
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextlib.contextmanager
def alarm(seconds: float, ring: Callable[[], float]) -> Iterator[None]:
    """Call `ring` after `seconds`: it raises what ends the work, or says in how many seconds to ring again.

    Nothing rings where `can_ring` says so.
    """
    if not can_ring():
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, ring())

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
