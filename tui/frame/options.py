"""What the command line of the deck may change: plain data, made by `main.py`, read by the app."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one deck. `refresh_s` = seconds between updates of the run screen."""

    refresh_s: float = 1.0
    ascii_only: bool = False
    mouse: bool = True
