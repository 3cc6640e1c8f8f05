"""Messages that commands on runs and on sweeps share: started, stopped, removed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from engine.cli.common import line, note, print_json
from engine.runs import store
from engine.runs.state import run_state
from engine.runs.store import Run

Kind = Literal["run", "sweep"]
_POLL_S = 0.1


def tell_begun(kind: Kind, begun: Run, *, as_json: bool, **more: Any) -> None:
    """Print the id of a run or sweep that goes on in the background."""
    print_json({kind: begun.id, "path": str(begun.path), **more}) if as_json else line(begun.id)


def tell_stopped(kind: Kind, stopping: Run, wait_s: float, *, as_json: bool) -> None:
    """Wait up to `wait_s` for a worker to stop, and print the state."""
    deadline = time.monotonic() + wait_s
    while store.worker_pid(stopping) is not None and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    state = run_state(stopping)
    print_json({kind: stopping.id, "state": state}) if as_json else line(f"{stopping.id}  {state}")


def tell_removed(removed: Sequence[Run], *, as_json: bool) -> None:
    """Print what was removed: ids as JSON, a count as text."""
    print_json({"removed": [one.id for one in removed]}) if as_json else note(f"removed {len(removed)}")
