"""Running a step's items in child processes: none of them can hang, crash or slow down the command itself.

A child is `python -m engine.selftest.device JOB OUT` in a session of its own; it appends a line to OUT where an item
begins and one where it ends. An item that takes too long, or whose process dies, has failed; a fresh process goes on
with the rest. Not here: which items begin (`run.py`), what they do (`engine.selftest.device`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.selftest.checks import FAILED, SPENT, Finding, Item

POLL_S = 0.05
_GRACE_S = 2.0
_LOG_TAIL_BYTES = 4000
Begins = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where children work: environment, and a folder for their jobs, results and logs."""

    environment: Mapping[str, str]
    folder: Path


class _Child:
    """One process and the lines it has written so far."""

    def __init__(self, items: Sequence[Item], workplace: Workplace) -> None:
        number = len(list(workplace.folder.glob("job-*.json")))
        self._job, self._out = workplace.folder / f"job-{number}.json", workplace.folder / f"out-{number}.jsonl"
        self._log = workplace.folder / f"log-{number}.txt"
        jobs = [{"name": item.name, "run": item.run, "params": dict(item.params)} for item in items]
        self._job.write_text(json.dumps({"folder": str(workplace.folder), "items": jobs}))
        self._out.touch()
        self._offset = 0
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.selftest.device", str(self._job), str(self._out)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(workplace.environment),
                cwd=workplace.folder,
                start_new_session=True,
            )

    def lines(self) -> list[dict[str, object]]:
        """Whole lines written since the last call."""
        with self._out.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [json.loads(line) for line in data[:end].splitlines()]

    def how_it_ended(self) -> str:
        """Exit code or signal in words, with the last line of its log."""
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "its process was killed from outside, most likely for want of memory"
        how = f"with signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()
        return f"its process ended {how}" + (f": {said[-1][:200]}" if said else " and said nothing")

    def end(self) -> None:
        """End the whole group and reap the process."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def run_items(items: Sequence[Item], workplace: Workplace, *, alone: bool, begins: Begins) -> Iterator[Finding]:
    """Findings as they come. `begins(number)` is asked for each item before it starts; the first no ends it all.

    However this generator is left, no process remains.
    """
    done = 0
    while done < len(items) and begins(done):
        first, batch = done, items[done : done + 1] if alone else items[done:]

        def next_begins(number: int, first: int = first) -> bool:
            return begins(first + number)

        for finding in _in_one_process(batch, workplace, next_begins):
            done += 1
            yield finding


def _in_one_process(items: Sequence[Item], workplace: Workplace, begins: Begins) -> Iterator[Finding]:
    """Findings until the items are done, one of them ends the process, or `begins` says no."""
    child = _Child(items, workplace)
    current, since = 0, time.monotonic()
    try:
        while current < len(items):
            over = child.process.poll() is not None
            lines = child.lines()
            for line in lines:
                if "status" in line:
                    finding = Finding.from_dict(line)
                    # With the start of the process, which the child does not see.
                    seconds = round(time.monotonic() - since, 2) if current == 0 else finding.seconds
                    yield replace(finding, seconds=seconds)
                    current, since = current + 1, time.monotonic()
                    if current < len(items) and not begins(current):
                        return
            if current < len(items) and not lines:
                if over and child.process.returncode == SPENT:
                    return
                wrong = child.how_it_ended() if over else _too_long(items[current], since)
                if wrong:
                    yield Finding(items[current].name, FAILED, wrong, seconds=round(time.monotonic() - since, 2))
                    return
                time.sleep(POLL_S)
    finally:
        child.end()


def _too_long(item: Item, since: float) -> str:
    return f"it was ended after its limit of {item.limit_s:.0f} s" if time.monotonic() - since > item.limit_s else ""
