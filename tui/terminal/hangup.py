"""Leaving when asked to, and when the terminal is gone: then nothing can be restored, and nothing may wait for it.

The kernel follows a hang-up with SIGCONT, on which Textual would start its terminal anew; its thread that writes
dies on the closed terminal, and whoever writes more than it can queue waits for ever. Called by `app.py` only.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

PATIENCE_S = 3.0
"""For the deck to end by itself after a hang-up."""
Leave = Callable[[int], None]
"""`leave(return_code)`: end the app; called on its loop."""


@dataclass(slots=True)
class Ending:
    """The return code that a hang-up decided; 0 before one. What fails on the closed terminal after it is no crash."""

    code: int = 0


def install(leave: Leave) -> Ending:
    """Answer SIGTERM and SIGHUP for as long as the process lives. Call on the main thread, inside the running loop."""
    loop, ending = asyncio.get_running_loop(), Ending()
    loop.add_signal_handler(signal.SIGTERM, leave, 128 + signal.SIGTERM)

    def hang_up(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGCONT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending.code = 128 + number
        _close_terminal()
        _end_at_the_latest(ending.code)
        loop.call_soon_threadsafe(leave, ending.code)

    # Not through the loop: it would come after Textual's own handler of SIGCONT.
    signal.signal(signal.SIGHUP, hang_up)
    threading.Thread(target=_watch_terminal, name="terminal gone", daemon=True).start()
    return ending


def _watch_terminal() -> None:
    """Send SIGHUP once the terminal is gone: no signal comes where it was not the process's own, or before `install`.

    Without an end Textual would read from it for ever, as fast as it can.
    """
    poller = select.poll()
    poller.register(0, 0)  # a hang-up is told without being asked for
    if any(events & select.POLLHUP for _, events in poller.poll()):
        os.kill(os.getpid(), signal.SIGHUP)


def _close_terminal() -> None:
    """Put /dev/null in the place of the terminal: what is still written goes nowhere instead of failing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _end_at_the_latest(return_code: int) -> None:
    timer = threading.Timer(PATIENCE_S, os._exit, (return_code,))
    timer.daemon = True
    timer.start()
