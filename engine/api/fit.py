"""What this machine can train: its cards, the models, their plans. Loads neither pydantic nor torch.

What looks and plans is loaded when it is first used: the deck draws its first frame without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.hardware.cards import card_name as card_name
from engine.hardware.cards import card_title as card_title
from engine.hardware.cards import listed_gpus as listed_gpus
from engine.hardware.cards import model_name as model_name
from engine.hardware.cards import why_not as why_not
from engine.hardware.machine import Gpu as Gpu
from engine.hardware.machine import Machine as Machine
from engine.memory.shape import GIB as GIB
from engine.memory.shape import Term as Term
from engine.memory.shape import TrainingShape as TrainingShape
from engine.memory.shape import method_words as method_words
from engine.recommend.plan import MEMORY as MEMORY
from engine.recommend.plan import Choice as Choice
from engine.recommend.plan import Plan as Plan
from engine.recommend.plan import Requirements as Requirements

if TYPE_CHECKING:
    from engine.hardware.probe import hypothetical_machine as hypothetical_machine
    from engine.hardware.probe import probe_machine as probe_machine
    from engine.memory.calibration_store import last_measured_s as last_measured_s
    from engine.memory.measured_here import MeasuredDevice as MeasuredDevice
    from engine.memory.measured_here import forget_measured as forget_measured
    from engine.memory.measured_here import measured_devices as measured_devices
    from engine.memory.measured_here import measured_words as measured_words
    from engine.models.catalog import load_catalog as load_catalog
    from engine.models.resolve import resolve_model as resolve_model
    from engine.models.spec import ModelSpec as ModelSpec
    from engine.recommend.device import device_settings as device_settings
    from engine.recommend.room import Room as Room
    from engine.recommend.room import limit_words as limit_words
    from engine.recommend.room import room_of as room_of
    from engine.recommend.search import plan_model as plan_model
    from engine.recommend.search import rank_models as rank_models
else:
    _HOMES = {
        "hypothetical_machine": "engine.hardware.probe",
        "probe_machine": "engine.hardware.probe",
        "last_measured_s": "engine.memory.calibration_store",
        "load_catalog": "engine.models.catalog",
        "MeasuredDevice": "engine.memory.measured_here",
        "forget_measured": "engine.memory.measured_here",
        "measured_devices": "engine.memory.measured_here",
        "measured_words": "engine.memory.measured_here",
        "resolve_model": "engine.models.resolve",
        "ModelSpec": "engine.models.spec",
        "device_settings": "engine.recommend.device",
        "Room": "engine.recommend.room",
        "limit_words": "engine.recommend.room",
        "room_of": "engine.recommend.room",
        "plan_model": "engine.recommend.search",
        "rank_models": "engine.recommend.search",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
