"""What commands on a run and on a sweep say alike: that it has begun, that it has ended, that it is gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from engine.cli.common import line, note, print_json
from engine.runs import store
from engine.runs.store import Run

Kind = Literal["run", "sweep"]
_POLL_S = 0.1


def tell_begun(kind: Kind, begun: Run, *, as_json: bool, **more: Any) -> None:
    """The id of what works by itself from now on."""
    print_json({kind: begun.id, "path": str(begun.path), **more}) if as_json else line(begun.id)


def tell_stopped(kind: Kind, asked: Run, wait_s: float, *, as_json: bool) -> None:
    """Wait up to `wait_s` for the end of a worker that was asked to stop, and say how it stands."""
    deadline = time.monotonic() + wait_s
    while store.worker_pid(asked) is not None and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    state = store.run_state(asked)
    print_json({kind: asked.id, "state": state}) if as_json else line(f"{asked.id}  {state}")


def tell_removed(removed: Sequence[Run], *, as_json: bool) -> None:
    """What is gone: ids for a program, a count for a person."""
    print_json({"removed": [one.id for one in removed]}) if as_json else note(f"removed {len(removed)}")
