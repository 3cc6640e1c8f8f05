"""Names of cards as users read them, and the card that a user's name means.

`GPU 1`; a slice of a split card is `GPU 0 MIG 1g.5gb #2`, numbered as `nvidia-smi` numbers it.
Not here: which cards can be used (`capabilities.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.errors import EngineError, ExitCode
from engine.hardware.capabilities import usable_gpus
from engine.hardware.machine import Gpu, Machine

PROFILE_KEY = "launch.gpu"
_VENDOR = "NVIDIA "
_SLICE = " MIG"
_UUID_CHARS = 12
"""`GPU-` or `MIG-` and eight digits: the least of a UUID that is shown."""
_NUMBER = r"(?:gpu\s*)?(\d{1,4})(?::(\d{1,3}))?((?:\s.*)?)"
"""A text: most commands name no card, and compiling it takes a millisecond."""


def card_name(gpu: Gpu) -> str:
    """`GPU 1`, `GPU 0 MIG 1g.5gb #2`; what the driver calls it where it has no number."""
    if gpu.index is None:
        return gpu.name.removeprefix(_VENDOR)
    if gpu.mig != "slice":
        return f"GPU {gpu.index}"
    kind = gpu.name.partition(_SLICE)[2].rstrip()
    number = "" if gpu.mig_index is None else f" #{gpu.mig_index}"
    return f"GPU {gpu.index} MIG{kind}{number}"


def model_name(name: str) -> str:
    """`GeForce RTX 4090` of `NVIDIA GeForce RTX 4090`; of a slice the card that it is a part of."""
    return name.removeprefix(_VENDOR).partition(_SLICE)[0]


def card_title(gpu: Gpu) -> str:
    """`GPU 1 GeForce RTX 4090`."""
    name, model = card_name(gpu), model_name(gpu.name)
    return name if name.startswith(model) else f"{name} {model}"


def listed_gpus(machine: Machine) -> tuple[Gpu, ...]:
    """Every card, and slices in place of the card that is split into them."""
    split = {gpu.index for gpu in machine.gpus if gpu.mig == "slice"}
    return tuple(gpu for gpu in machine.gpus if gpu.mig != "parent" or gpu.index not in split)


def find_card(machine: Machine, wanted: str, where: str = PROFILE_KEY) -> Gpu:
    """The usable card that `wanted` names: `1`, `GPU 1`, `0:2`, a card's title or its start, a UUID or its start.

    Raises EngineError(RESOURCES) that lists the cards, for a name that none or several have, and for a card that
    cannot be used. `where`: the profile key or the option that has the name.
    """
    found = _named(listed_gpus(machine), wanted.strip())
    cards, shown = _choosable(machine), wanted[:64]
    if not found:
        message = f"no GPU here is called '{shown}'"
    elif len(found) > 1:
        cards, message = found, f"'{shown}' names {len(found)} GPUs"
    else:
        reason = why_not(found[0])
        if not reason:
            return found[0]
        message = f"{card_title(found[0])} cannot be used: {reason}"
    raise EngineError(message, code=ExitCode.RESOURCES, where=where, hint=_choices(cards, where))


def why_not(gpu: Gpu) -> str:
    """Why no run can be put on a card; empty where one can."""
    if gpu.mig == "parent":
        return "; ".join(gpu.notes) or "it is split into MIG slices"
    if not gpu.free_bytes:
        told = "nothing of its memory is free" if gpu.free_bytes == 0 else "its free memory is not known"
        return "; ".join(gpu.notes) or told
    return "" if gpu.uuid or gpu.hypothetical else "it does not tell its UUID"


def short_uuid(gpu: Gpu, among: Sequence[Gpu]) -> str:
    """The start of a UUID that no other card has."""
    uuid = gpu.uuid or ""
    others = [other.uuid or "" for other in among if other is not gpu]
    lengths = range(_UUID_CHARS, len(uuid))
    return next((uuid[:size] for size in lengths if not any(one.startswith(uuid[:size]) for one in others)), uuid)


def _choosable(machine: Machine) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in usable_gpus(machine) if gpu.uuid)


def _named(cards: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """By number and name first: no UUID begins with a digit or with `GPU` and a space."""
    number = re.fullmatch(_NUMBER, wanted, re.IGNORECASE)
    if number is not None:
        index, part, rest = number.groups()
        words = _words(f"GPU {index}{rest}")
        same = (gpu for gpu in cards if part is None or gpu.mig_index == int(part))
        return tuple(gpu for gpu in same if _words(card_title(gpu))[: len(words)] == words)
    if not wanted:
        return ()
    start = wanted.lower()
    found = tuple(gpu for gpu in cards if (gpu.uuid or "").lower().startswith(start))
    return tuple(gpu for gpu in found if (gpu.uuid or "").lower() == start) or found


def _words(name: str) -> list[str]:
    return name.lower().split()


def _choices(cards: Sequence[Gpu], where: str) -> str:
    if not cards:
        processor = "set launch.device = 'cpu'" if where == PROFILE_KEY else f"use {where} cpu"
        return f"no GPU can be used here: see 'engine probe' for the reason, or {processor}"
    return "choose one of " + ", ".join(f"{card_title(gpu)} ({short_uuid(gpu, cards)})" for gpu in cards)
