"""A profile and a machine to settings without `"auto"`, each with where it came from.

`engine.runs.record` reads back what `Resolved.to_run_json` writes. Not here: which values are best; the recommender
decides those; `fill.py` tells it what the profile fixes and puts its answer in place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import ExitCode, Problem, problems_error
from engine.hardware.machine import Machine
from engine.models.spec import ModelSpec
from engine.profile.findings import error_of
from engine.profile.load import LoadedProfile
from engine.profile.overrides import put
from engine.profile.schema import Profile
from engine.profile.tomltext import shown_path
from engine.recommend.device import device_settings
from engine.recommend.plan import Plan, Requirements
from engine.resolve.adapter import decided_by
from engine.resolve.check import examine
from engine.resolve.fill import Provenance, fill, provenance_of
from engine.resolve.warnings import space_warnings
from engine.runs.record import SCHEMA_VERSION, package_versions
from engine.runs.start import START, Start

_LEFT_TO_A_PERSON = ("model.name_or_path", "data.datasets", "launch.device", "train.kernels")
"""Keys of a plan that a written profile spells out differently or leaves to the machine."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings ready for a worker. `provenance`: key -> {"value", "source", "reason"}."""

    settings: Profile
    provenance: Provenance
    plan: Plan
    spec: ModelSpec
    machine: Machine
    profile_path: Path
    base_dir: Path
    warnings: tuple[Problem, ...] = ()
    start: Start | None = None
    """What it begins with beside the base."""

    def to_run_json(self) -> dict[str, Any]:
        """The content of run.json: JSON values only."""
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "provenance": self.provenance,
            "estimate": _estimate(self.plan),
            "machine": _machine(self.machine),
            "model": asdict(self.spec),
            "profile_path": str(self.profile_path.absolute()),
            "base_dir": str(self.base_dir),
            "warnings": [problem.to_dict() for problem in self.warnings],
            "versions": package_versions(),
            **({} if self.start is None else {START: self.start.to_json()}),
        }


def resolve_profile(loaded: LoadedProfile, machine: Machine) -> Resolved:
    """Fill in everything that was left open. Raises EngineError with every problem of the profile."""
    seen = examine(loaded, machine)
    error = error_of(seen.problems, loaded)
    if error is not None:
        raise error
    asked, loaded = loaded.profile, seen.loaded or loaded
    assert asked is not None
    assert loaded.profile is not None
    assert seen.plan is not None
    assert seen.spec is not None
    adapter = seen.adapter
    decided = {} if adapter is None else decided_by(adapter, seen.spec, asked)
    filled = fill(loaded, loaded.profile, seen.plan, machine, decided)
    return Resolved(
        settings=filled.settings,
        provenance=filled.provenance,
        plan=seen.plan,
        spec=seen.spec,
        machine=machine,
        start=None if adapter is None else adapter.start(),
        profile_path=loaded.path,
        base_dir=loaded.base_dir,
        warnings=(
            *(item.problem for item in seen.warnings),
            *filled.warnings,
            *space_warnings(loaded, filled.settings, seen.plan, machine),
        ),
    )


def as_written(loaded: LoadedProfile) -> Provenance:
    """Every setting with its source before anything is chosen. Raises EngineError for an invalid profile."""
    if loaded.profile is None:
        raise problems_error(list(loaded.problems), ExitCode.PROFILE, shown_path(loaded.path))
    return provenance_of(loaded.profile, loaded, {}, set())


def plan_to_profile(plan: Plan, data_path: str, asked: Requirements | None = None) -> dict[str, Any]:
    """Nested settings of a new profile that pins what the plan chose, for `write_profile`.

    The device is pinned only where `asked` names one.
    """
    tree: dict[str, Any] = {"schema_version": 1, "model": {"name_or_path": model_reference(plan.model)}}
    for choice in plan.choices:
        if choice.key not in _LEFT_TO_A_PERSON:
            put(tree, choice.key, choice.value)
    # Two of the three say it all, and a person who edits one would have to edit a second.
    tree["train"].pop("gradient_accumulation_steps", None)
    if plan.shape.method == "lora":
        tree["lora"] = {"r": plan.shape.lora_r, "alpha": 2.0 * plan.shape.lora_r}
    for key, value in device_settings(asked or Requirements()).items():
        put(tree, key, value)
    tree["data"] = {"datasets": [{"path": data_path}]}
    return tree


def model_reference(spec: ModelSpec) -> str:
    """What names the model from any folder: the path of local files, else its name."""
    return spec.path if spec.path and spec.source in ("directory", "gguf") else spec.name


def _estimate(plan: Plan) -> dict[str, Any]:
    return {
        **asdict(plan.estimate),
        "shape": asdict(plan.shape),
        "available_bytes": plan.available_bytes,
        "device_name": plan.device_name,
        "card": plan.card,
        "verdict": plan.verdict,
        "tokens_per_second": plan.tokens_per_second,
    }


def _machine(machine: Machine) -> dict[str, Any]:
    """Without other people's processes: a run is kept and shared."""
    return asdict(replace(machine, gpus=tuple(replace(gpu, processes=()) for gpu in machine.gpus)))
