"""Steps of a part: each a process with a limit, its finding written as JSON when it is there, skipped once it is.

A step's finding is the last line of JSON on its stdout, so one that is cut by its limit leaves what it had found so
far, marked `cut`, and runs again the next time. A step that fails leaves the end of its log. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LEAST_S = 15
"""A step is not begun with less time than this."""
_KEPT_LOG = 3_000


@dataclass(frozen=True, slots=True)
class Step:
    """`name` is that of its JSON file. `site`: whose wheels it sees, `project` or `peers`."""

    name: str
    command: tuple[str, ...]
    limit_s: int
    site: str = "project"
    models: tuple[str, ...] = ()
    """Checkpoints that it reads."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part runs: wheels, work folder, results, and the clock it must not outrun."""

    kit: Path
    work: Path
    out: Path
    ends: float
    """On `time.monotonic`."""

    def left_s(self) -> float:
        """Seconds to go."""
        return self.ends - time.monotonic()


def environment(place: Place, site: str) -> dict[str, str]:
    """No network, state and caches of their own, and the wheels before what the machine has."""
    paths = [str(place.work / site), str(ROOT)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "XDG_STATE_HOME": str(place.work / "state"),
        "XDG_CACHE_HOME": str(place.work / "cache"),
    }


def is_done(step: Step, out: Path) -> bool:
    """Whether its finding is there and whole."""
    file = out / f"{step.name}.json"
    return file.exists() and not json.loads(file.read_text(encoding="utf-8")).get("cut")


def run_group(steps: tuple[Step, ...], place: Place) -> None:
    """Steps that do not disturb each other, at once; those that are done are left out."""
    threads = [threading.Thread(target=run_step, args=(step, place)) for step in steps if not is_done(step, place.out)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_step(step: Step, place: Place) -> None:
    """Run it within its limit and what is left of the part's, and write what it found or why it did not."""
    limit_s = min(step.limit_s, place.left_s())
    if limit_s < LEAST_S:
        say(f"{step.name}: no time left")
        return
    began = time.monotonic()
    code, out, log = call(step.command, environment(place, step.site), place.work, limit_s)
    took_s = round(time.monotonic() - began, 1)
    found = last_json(out)
    if found is None or code not in (0, None):
        reason = f"cut after {limit_s:.0f} s" if code is None else f"ended with {code}"
        (place.out / f"{step.name}.failed.txt").write_text(f"{reason}\n{log[-_KEPT_LOG:]}\n", encoding="utf-8")
        say(f"{step.name}: {reason} [{took_s} s]\n{log[-600:]}")
        return
    record = {**found, "took_s": took_s, **({"cut": True} if code is None else {})}
    beside = place.out / f".{step.name}.part"
    beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    beside.rename(place.out / f"{step.name}.json")
    (place.out / f"{step.name}.failed.txt").unlink(missing_ok=True)
    say(f"{step.name}: done{' in part' if code is None else ''} [{took_s} s]")


def call(
    command: tuple[str, ...], variables: dict[str, str], folder: Path, limit_s: float
) -> tuple[int | None, str, str]:
    """Exit code (None where the limit ended it), stdout and stderr of `python` with these arguments."""
    with subprocess.Popen(
        [sys.executable, *command],
        env=variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, log = process.communicate(timeout=limit_s)
            return process.returncode, out, log
        except subprocess.TimeoutExpired:
            # The whole session: a step's own children hold the card's memory.
            os.killpg(process.pid, signal.SIGKILL)
            out, log = process.communicate()
            return None, out, log


def last_json(text: str) -> dict[str, Any] | None:
    """The last line of `text` that is a whole JSON object."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else None
    return None


_BEGAN = time.monotonic()


def say(message: str) -> None:
    """A line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:4.0f} s] {message}", file=sys.stderr, flush=True)
