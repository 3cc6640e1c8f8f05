"""The best trial as a profile that can be trained from anywhere: `best.toml` in the sweep's directory."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.files import write_text_atomic
from engine.profile.load import load_text
from engine.profile.save import edited_text
from engine.profile.schema import Profile
from engine.runs.store import Run
from engine.sweep.combinations import Plan, trial_text
from engine.sweep.table import TrialRow

BEST_FILE = "best.toml"


def write_best(sweep: Run, plan: Plan, rows: Sequence[TrialRow]) -> None:
    """Write the profile of the first of ranked `rows`, if it has a value and is not there already."""
    if not rows or rows[0].value is None:
        return
    text = best_text(plan, rows[0], sweep.id)
    place = sweep.path / BEST_FILE
    with contextlib.suppress(FileNotFoundError):
        if place.read_text(encoding="utf-8") == text:
            return
    write_text_atomic(place, text)


def best_text(plan: Plan, row: TrialRow, sweep_id: str) -> str:
    """The person's profile with the trial's settings, its paths absolute, and a line that says where it comes from."""
    text = trial_text(plan, row.params)
    profile = load_text(text, plan.path).profile
    if profile is not None:
        text = edited_text(text, _absolute(profile, plan.path.absolute().parent), plan.path)
    return f"# Trial {row.trial} of sweep {sweep_id}: {plan.sweep.metric} {row.value:.6g}.\n{text}"


def _absolute(profile: Profile, folder: Path) -> dict[str, Any]:
    """Settings that name a file beside the profile, with its whole path."""
    told = {"model.name_or_path": profile.model.name_or_path, "data.validation_path": profile.data.validation_path}
    told |= {f"data.datasets.{number}.path": one.path for number, one in enumerate(profile.data.datasets)}
    told["evaluate.bertscore_encoder"] = profile.evaluate.bertscore_encoder
    return {
        key: str(folder / value)
        for key, value in told.items()
        if value and not Path(value).is_absolute() and (folder / value).exists()
    }
