"""The device that a person names, as part of what they ask for, and as settings of a profile.

Not here: choosing one (`budget.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.hardware.cards import find_card
from engine.hardware.machine import Machine
from engine.recommend.plan import Requirements

AUTO, CPU = "auto", "cpu"
_OPTION = "--device"


def on_device(asked: Requirements, machine: Machine, wanted: str) -> Requirements:
    """`asked` on `auto`, `cpu`, or the card that `--device` names. Raises EngineError(RESOURCES) for one not here."""
    if wanted.lower() in (AUTO, CPU):
        return replace(asked, gpu_uuid=None, device=None if wanted.lower() == AUTO else CPU)
    return replace(asked, gpu_uuid=find_card(machine, wanted, _OPTION).uuid, device="cuda")


def device_settings(asked: Requirements) -> dict[str, Any]:
    """What a profile has to say by dotted key to run where it was asked for; nothing where any device would do."""
    if asked.gpu_uuid:
        return {"launch.device": "cuda", "launch.gpu": asked.gpu_uuid}
    return {"launch.device": CPU} if asked.device == CPU else {}
