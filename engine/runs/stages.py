"""Stages in a row: runs of which each begins with the adapter of the one before.

`stages.json` in each run's folder holds the whole row, so that a run that is resumed goes on with the stages behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.files import write_json_atomic
from engine.jsonvalues import Unreadable, load_object, tables_in, text_in, whole_in
from engine.runs.store import Run, list_runs

STAGES_FILE = "stages.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class StageProfile:
    """A stage before it runs: its profile, as it was when the row began."""

    path: str
    text: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageRow:
    """The place of one run in a row of stages. `number` counts from 1; `before`: the run of the stage before."""

    number: int
    stages: tuple[StageProfile, ...]
    name: str = ""
    before: str = ""

    @property
    def count(self) -> int:
        """How many stages there are."""
        return len(self.stages)

    @property
    def profile(self) -> StageProfile:
        """This stage's own."""
        return self.stages[self.number - 1]

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.number >= self.count

    def after(self, run: Run) -> StageRow:
        """The place of the next stage, which begins with `run`."""
        return StageRow(self.number + 1, self.stages, self.name, run.id)

    def __str__(self) -> str:
        return f"stage {self.number} of {self.count}: {Path(self.profile.path).name}"


def write_row(run: Run, row: StageRow) -> None:
    """Keep a run's place in its row."""
    found = {"v": _VERSION, "number": row.number, "name": row.name, "before": row.before}
    write_json_atomic(run.path / STAGES_FILE, {**found, "stages": [asdict(stage) for stage in row.stages]})


def row_of(run_dir: Path) -> StageRow | None:
    """A run's place in a row of stages; None for a run of its own."""
    if not (run_dir / STAGES_FILE).is_file():
        return None
    found = load_object(
        run_dir / STAGES_FILE, name=STAGES_FILE, version_key="v", newest=_VERSION, hint="start the next stage by hand"
    )
    if isinstance(found, Unreadable):
        raise found.error()
    number, stages = whole_in(found, "number") or 0, tuple(map(_stage, tables_in(found, "stages")))
    if not 1 <= number <= len(stages):
        return None
    return StageRow(number, stages, text_in(found, "name"), text_in(found, "before"))


def _stage(found: Mapping[str, Any]) -> StageProfile:
    given = found.get("overrides")
    return StageProfile(
        text_in(found, "path"), text_in(found, "text"), tuple(map(str, given)) if isinstance(given, list) else ()
    )


def next_run(run: Run) -> Run | None:
    """The newest run of the stage behind `run`; None where it was not begun."""
    for other in list_runs():
        row = row_of(other.path)
        if row is not None and row.before == run.id:
            return other
    return None
