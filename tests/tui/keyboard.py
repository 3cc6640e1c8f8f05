"""What a terminal sends, all at once: bytes through the deck's parser and Textual's driver, with no pause."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from tui.terminal.escape import KeyParser

ENTER, CLEAR, SAVE, START, QUIT, COPY, PALETTE, TAB = (
    "\r", "\x15", "\x13", "\x12", "\x11", "\x03", "\x10", "\t"
)  # fmt: skip
DOWN, END, F1 = "\x1b[B", "\x1b[F", "\x1bOP"


def at_once(pilot: Pilot[Any], *keys: str) -> None:
    """Send `keys` as one chunk. Nothing was done with them when this returns."""
    app = pilot.app
    driver = app._driver
    assert driver is not None
    parser = KeyParser(False)
    for event in [*parser.feed("".join(keys)), *parser.tick()]:
        driver.process_message(event)


def wheel(x: int, y: int, *, up: bool) -> str:
    """What a terminal sends for a turn of the wheel over a cell, counted from 0."""
    return f"\x1b[<{64 if up else 65};{x + 1};{y + 1}M"


def click(x: int, y: int) -> str:
    """What a terminal sends for a click on a cell, counted from 0."""
    return f"\x1b[<0;{x + 1};{y + 1}M\x1b[<0;{x + 1};{y + 1}m"
