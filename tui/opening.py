"""The terminal while the deck loads: keys typed then reach the deck as they were typed.

A shell's terminal edits lines: it turns enter into another key, keeps ctrl+r, ctrl+s and ctrl+u to itself and echoes
the rest. Textual ends that when its first screen opens, a third of a second too late for somebody who knows the keys.
"""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator
from typing import Any

Attributes = list[Any]
"""What `termios.tcgetattr` gives."""
_INPUT, _LOCAL = 0, 3
_NOT_OF_INPUT = termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR
_NOT_OF_LINES = termios.ECHO | termios.ICANON | termios.IEXTEN


@contextlib.contextmanager
def keys_kept() -> Iterator[Attributes]:
    """Take keys as they come; at the end the terminal is as it was. ctrl+c still interrupts until the deck is there.

    Gives what the terminal was like before.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    kept = termios.tcgetattr(descriptor)
    kept[_INPUT] &= ~_NOT_OF_INPUT
    kept[_LOCAL] &= ~_NOT_OF_LINES
    termios.tcsetattr(descriptor, termios.TCSANOW, kept)
    try:
        yield before
    finally:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def restore_when_closed(driver: object, before: Attributes) -> None:
    """Have Textual's driver leave the terminal as it was before it took keys: what follows `q` is the shell's."""
    if hasattr(driver, "attrs_before"):
        driver.attrs_before = before
