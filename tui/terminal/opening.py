"""The terminal while the deck loads: keys typed then reach the deck as they were typed.

A shell's terminal edits lines: it turns enter into another key, keeps ctrl+r, ctrl+s and ctrl+u to itself and echoes
the rest. Textual ends that when its first screen opens, a third of a second too late for somebody who knows the keys.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

Attributes = list[Any]
"""What `termios.tcgetattr` gives."""
_INPUT, _LOCAL = 0, 3
_NOT_OF_INPUT = termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR
_NOT_OF_LINES = termios.ECHO | termios.ICANON | termios.IEXTEN


@contextlib.contextmanager
def keys_kept() -> Iterator[Attributes]:
    """Take keys as they come; at the end the terminal is as it was. ctrl+c ends the process until `loaded`.

    Gives what the terminal was like before.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        # A KeyboardInterrupt that meets a callback of the import system is printed and lost.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        os._exit(128 + number)

    signal.signal(signal.SIGINT, leave)
    kept = termios.tcgetattr(descriptor)
    kept[_INPUT] &= ~_NOT_OF_INPUT
    kept[_LOCAL] &= ~_NOT_OF_LINES
    termios.tcsetattr(descriptor, termios.TCSANOW, kept)
    try:
        yield before
    finally:
        loaded()
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def loaded() -> None:
    """The deck is there: ctrl+c is one of its keys now, and an interrupt from outside is Python's again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def restore_when_closed(driver: object, before: Attributes) -> None:
    """Have Textual's driver leave the terminal as it was before it took keys: what follows `q` is the shell's."""
    if hasattr(driver, "attrs_before"):
        driver.attrs_before = before
