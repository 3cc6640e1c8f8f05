"""How soon a screen of the deck is there at its first visit, how soon it is at rest after a window was dragged, and
what the cards' screen costs while cards train."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

from deck_terminal import Deck, cost, deck

_VISITS = {"2": b"no profile", "3": b"no run is attached", "4": b"0 runs", "5": b"runs list", "6": b"driver"}
"""Key of a screen, and words that only it shows on a machine without runs."""
_REPLAYED = (str(Path(__file__).with_name("replayed_deck.py")),)
_IDLE_S = 3.0
_QUIET_S = 0.15


def measure_visits(rounds: int) -> dict[str, Any]:
    """From the key to the screen's own words, each in a deck that has not shown it before; medians."""
    found: dict[str, list[float]] = {key: [] for key in _VISITS}
    for _ in range(rounds):
        with deck() as one:
            one.wait_for(b"demo (built")
            one.read(_IDLE_S)
            for key, words in _VISITS.items():
                found[key].append(_until(one, key.encode(), words) * 1000)
                one.read(0.3)
    medians = {key: statistics.median(times) for key, times in found.items()}
    return {"first_visit_ms": max(medians.values()), "first_visits_ms": medians}


def _until(one: Deck, key: bytes, words: bytes) -> float:
    one.seen = b""
    began = time.perf_counter()
    os.write(one.master, key)
    while words not in one.seen:
        if time.perf_counter() - began > 10:
            raise SystemExit(f"{words!r} did not come after {key!r}; the end was {one.seen[-600:]!r}")
        one.read(0.002)
    return time.perf_counter() - began


def measure_resize(rounds: int) -> dict[str, Any]:
    """30 sizes within a third of a second, as when a window is dragged: until nothing more is drawn."""
    settled = []
    with deck() as one:
        one.wait_for(b"demo (built")
        one.read(_IDLE_S)
        for _ in range(rounds):
            for step in range(30):
                one.resize(80 + 2 * step, 24 + step)
                one.read(0.01)
            began = last = time.perf_counter()
            while time.perf_counter() - last < _QUIET_S:
                if one.read(0.01):
                    last = time.perf_counter()
            settled.append(last - began)
            one.resize(80, 24)
            one.read(1.5)
    return {"resize_settled_s": statistics.median(settled), "resize_settled_all_s": settled}


def measure_cards(seconds: float, recording: str = "four-h100") -> dict[str, Any]:
    """Bytes and processor time of the cards' screen while every card works."""
    with deck(recording, program=_REPLAYED) as one:
        one.wait_for(b"1 Fit")
        os.write(one.master, b"6")
        one.wait_for(b"on the GPUs")
        one.read(3.0)
        return {**cost(one, seconds, "cards"), "cards_seconds": seconds, "cards_rss_mib": one.rss_mib}
