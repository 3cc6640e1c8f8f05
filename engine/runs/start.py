"""What a run begins with when it does not begin with the base alone: an adapter, or the state of another run.

run.json tells it under `start`; the files lie in the run's own folder `start/`, so that the run can be resumed when
the other run or folder is gone. They are linked where the file system can, which takes no space. No torch here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.jsonvalues import Table, flag_in, table_in, text_in, whole_in

START = "start"
"""Key of run.json, and folder of a run."""
ADAPTER, BRANCH, STAGE = "adapter", "branch", "stage"
"""Kinds: an adapter that the profile names; the state of another run; the stage before in a row of them."""
TRAINABLE, REFERENCE = "trainable.safetensors", "reference.safetensors"
_MOMENTS = ("optimizer.safetensors", "optimizer.json", "scaler.json")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run's first weights are from. `files`: their places, by name in `start/`."""

    kind: str = ""
    run: str = ""
    """The run that they are from; empty for a folder that is no run's."""
    path: str = ""
    step: int | None = None
    """Of the checkpoint, or of the adapter's weights where that is known."""
    moments: bool = False
    """Whether the optimizer goes on with its moments."""
    new_reference: bool = True
    """Whether dpo and kto compare with the model as it starts; else with what the other run compared with."""
    differences: tuple[tuple[str, Any, Any], ...] = ()
    """Settings that are others than in that run: key, there, here."""
    files: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The value of `start` in run.json."""
        return {
            "kind": self.kind,
            "run": self.run,
            "path": self.path,
            "step": self.step,
            "moments": self.moments,
            "new_reference": self.new_reference,
            "differences": [{"key": key, "was": was, "now": now} for key, was, now in self.differences],
            "files": [list(pair) for pair in self.files],
        }

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        if self.kind == BRANCH:
            return f"the state of run {self.run}{step}, {'with' if self.moments else 'without'} optimizer moments"
        return f"the adapter of run {self.run}{step}" if self.run else f"the adapter in {self.path}"


def start_of(raw: Mapping[str, Any]) -> Start | None:
    """What run.json says a run began with; None for the base alone."""
    found = table_in(raw, START)
    if not found:
        return None
    return Start(
        kind=text_in(found, "kind"),
        run=text_in(found, "run"),
        path=text_in(found, "path"),
        step=whole_in(found, "step"),
        moments=flag_in(found, "moments"),
        new_reference=flag_in(found, "new_reference"),
        differences=tuple(_differences(found)),
        files=tuple(_pairs(found)),
    )


def _differences(found: Table) -> Iterator[tuple[str, Any, Any]]:
    told = found.get("differences")
    for item in told if isinstance(told, list) else []:
        if isinstance(item, Mapping):
            yield text_in(item, "key"), item.get("was"), item.get("now")


def _pairs(found: Table) -> Iterator[tuple[str, str]]:
    told = found.get("files")
    for item in told if isinstance(told, list) else []:
        if isinstance(item, list) and len(item) == 2:
            yield str(item[0]), str(item[1])


def adapter_files(folder: Path) -> tuple[tuple[str, str], ...]:
    """An adapter's files by their names in `start/`."""
    return tuple((f"{ADAPTER}/{name}", str(folder / name)) for name in _ADAPTER_FILES)


def branch_files(run_dir: Path, checkpoint: Path, start: Start | None, *, moments: bool) -> tuple[tuple[str, str], ...]:
    """A checkpoint's weights and moments, and what the run itself began with: the form and the reference of its
    adapter."""
    own = run_dir / START
    names = [TRAINABLE, *(_MOMENTS if moments else ())]
    found = [(name, str(checkpoint / name)) for name in names if (checkpoint / name).is_file()]
    if (own / ADAPTER).is_dir():
        found += adapter_files(own / ADAPTER)
    if start is not None:
        reference = own / (TRAINABLE if start.new_reference else REFERENCE)
        found += [(REFERENCE, str(reference))] if reference.is_file() else []
    return tuple(found)


def refuse_incomplete(run_dir: Path, start: Start | None) -> None:
    """Raise EngineError(MODEL) where a run has lost what it began with: without it, it would begin with the base."""
    for name, _ in () if start is None else start.files:
        if not (run_dir / START / name).is_file():
            raise EngineError(
                "what the run began with is gone from its folder",
                code=ExitCode.MODEL,
                where=str(run_dir / START / name),
                hint="put the file back, or start a new run with engine train",
            )


def bring_start(run_dir: Path, start: Start) -> None:
    """Put the files of a start into `run_dir`. Raises EngineError(DISK) or, where one is gone, EngineError(MODEL)."""
    for name, source in start.files:
        target = run_dir / START / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _link_or_copy(Path(source), target)
        except FileNotFoundError:
            raise EngineError(
                "what the run begins with is gone", code=ExitCode.MODEL, where=source, hint="name another start"
            ) from None
        except OSError as error:
            raise EngineError(
                f"what the run begins with cannot be copied: {error.strerror}",
                code=ExitCode.DISK,
                where=source,
                hint=f"look at it, and at the space of {run_dir}",
            ) from error


def _link_or_copy(source: Path, target: Path) -> None:
    real = source.resolve(strict=True)
    if target.name in (TRAINABLE, REFERENCE, *_MOMENTS):
        try:
            os.link(real, target)
            return
        except OSError:
            pass
    shutil.copyfile(real, target)
