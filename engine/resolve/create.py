"""The text of a new profile: from a shipped one with its comments, or from a plan for this machine.

Not here: writing it (`save.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.save import edited_text, profile_text
from engine.profile.shipped import shipped_profile
from engine.resolve.resolve import model_reference, plan_to_profile
from engine.text import format_bytes


def from_shipped(name: str, model: str | None, data_path: str | None, device: str, target: Path) -> str:
    """A shipped profile's text with another model, data file or device. Raises EngineError for unknown names."""
    from engine.models.resolve import resolve_model

    changes: dict[str, Any] = {}
    if model is not None:
        changes["model.name_or_path"] = model_reference(resolve_model(model))
    if data_path is not None:
        changes["data.datasets.0.path"] = data_path
    changes |= _settings_of(device)
    text = shipped_profile(name).path.read_text(encoding="utf-8")
    return edited_text(text, changes, target)


def _settings_of(device: str) -> dict[str, Any]:
    from engine.hardware.probe import probe_machine
    from engine.recommend.device import AUTO, device_settings, on_device
    from engine.recommend.plan import Requirements

    if device == AUTO:
        return {}
    return device_settings(on_device(Requirements(), probe_machine(processes=False), device))


def from_model(model: str, data_path: str, device: str) -> str:
    """Settings chosen for `model` on `device` of this machine. Raises EngineError(MODEL or RESOURCES)."""
    from engine.hardware.probe import probe_machine
    from engine.models.resolve import resolve_model
    from engine.recommend.device import on_device
    from engine.recommend.plan import Requirements
    from engine.recommend.search import plan_model

    machine = probe_machine(processes=False)
    asked = on_device(Requirements(), machine, device)
    plan = plan_model(resolve_model(model), machine, asked)
    if plan.verdict == "NO":
        needed, there = format_bytes(plan.estimate.device_bytes), format_bytes(plan.available_bytes)
        hint = plan.alternatives[0] if plan.alternatives else "see 'engine fit' for models that fit"
        message = f"{plan.model.name} does not fit: {needed} needed, {there} free on {plan.device_title}"
        raise EngineError(message, code=ExitCode.RESOURCES, hint=hint)
    return profile_text(plan_to_profile(plan, data_path, asked))
