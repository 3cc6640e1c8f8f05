"""Which card a run asked for where torch finds no CUDA device.

Called in the worker by training and by what reads a run back. Not here: what stands in the way (`engine probe`).
"""

from __future__ import annotations

import os

from engine.hardware.cards import card_title, listed_gpus
from engine.hardware.probe import read_machine

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def no_cuda(uuid: str | None) -> str:
    """`torch finds no CUDA device; asked for: GPU 1 GeForce RTX 4090`, or that no such card is in this machine."""
    # The worker's own variable leaves the asked card alone, and nothing where that is gone.
    cards = listed_gpus(read_machine("/", {name: os.environ[name] for name in os.environ if name != _VISIBLE}))
    titles = [card_title(gpu) for gpu in cards]
    if uuid is None:
        return "torch finds no CUDA device" + (f", though there is {', '.join(titles)}" if titles else "")
    found = next((gpu for gpu in cards if (gpu.uuid or "").lower().startswith(uuid.lower())), None)
    if found is not None:
        return f"torch finds no CUDA device; asked for: {card_title(found)} ({uuid})"
    return f"{uuid} is not in this machine, which has {', '.join(titles) or 'no GPU'}"
