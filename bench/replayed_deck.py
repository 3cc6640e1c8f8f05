"""`python bench/replayed_deck.py RECORDING`: the deck on a recorded machine whose cards train.

Recordings of real machines are those of the tests; every value that a driver samples changes twice a second.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

_CHANGE_S = 0.5


def _replay(recording: dict[str, Any]) -> None:
    beat, chance = 0, random.Random(7)
    while True:
        time.sleep(_CHANGE_S)
        beat += 1
        for number, card in enumerate(recording["devices"]):
            _change(card, math.sin(beat / 20 + number), chance)


def _change(card: dict[str, Any], swing: float, chance: random.Random) -> None:
    """Set what a driver samples; `swing` is between -1 and 1. What the machine did not tell stays untold."""
    busy = int(60 + 35 * swing)
    memory, limit = card["nvmlDeviceGetMemoryInfo"].get("v2"), card.get("nvmlDeviceGetEnforcedPowerLimit")
    if isinstance(memory, dict) and "total" in memory:
        memory["used"] = int(memory["total"] * (0.4 + 0.3 * swing))
        memory["free"] = memory["total"] - memory["used"] - memory.get("reserved", 0)
    if isinstance(limit, int):
        card["nvmlDeviceGetPowerUsage"] = int(limit * (0.3 + 0.65 * busy / 95))
        card["nvmlDeviceGetCurrentClocksEventReasons"] = 4 if busy > 90 else 0
    if isinstance(card.get("nvmlDeviceGetTemperature"), int):
        card["nvmlDeviceGetTemperature"] = 40 + busy // 3
    if "gpu" in card.get("nvmlDeviceGetUtilizationRates", {}):
        card["nvmlDeviceGetUtilizationRates"] = {"gpu": busy, "memory": busy // 2}
    if "tx" in card.get("nvmlDeviceGetPcieThroughput", {}):
        card["nvmlDeviceGetPcieThroughput"] = {"tx": chance.randint(1, 900_000), "rx": chance.randint(1, 3_000_000)}


def main() -> int:
    """The deck over the recording that is the first argument."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.unit.hardware.conftest import FakeNvml, load_recording

    recording = load_recording(sys.argv.pop(1))
    sys.modules["pynvml"] = FakeNvml(recording)
    threading.Thread(target=_replay, args=(recording,), daemon=True).start()
    from tui.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
