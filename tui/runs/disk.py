"""How much of the disk runs take: measured in a thread, and again only where something has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from textual.message_pump import MessagePump

from engine.api import runs
from engine.api.runs import Run
from tui.background import Lane

LOOK_EVERY_S = 15.0


class DiskUse:
    """Bytes by run. `on_measured` gets all of them when some have changed."""

    def __init__(self, owner: MessagePump, on_measured: Callable[[Mapping[str, int]], None]) -> None:
        self.sizes: Mapping[str, int] = {}
        self._marks: dict[str, tuple[int, ...]] = {}
        self._looked_at = 0.0
        self._lane = Lane(owner, "disk")
        self._tell = on_measured

    @property
    def total_bytes(self) -> int:
        """Of all runs that were measured."""
        return sum(self.sizes.values())

    def look(self, listed: Sequence[Run]) -> None:
        """Measure runs that are new or have changed, unless that is being done already or was done just now."""
        due = time.monotonic() - self._looked_at > LOOK_EVERY_S or any(run.id not in self.sizes for run in listed)
        if due and not self._lane.busy:
            self._looked_at = time.monotonic()
            self._lane.submit(lambda: self._measure(listed), self._take, _fail)

    def _measure(self, listed: Sequence[Run]) -> Mapping[str, int]:
        """In the thread."""
        known, sizes, marks = self.sizes, dict[str, int](), dict[str, tuple[int, ...]]()
        for run in listed:
            marks[run.id] = runs.disk_mark(run.path)
            unchanged = run.id in known and self._marks.get(run.id) == marks[run.id]
            sizes[run.id] = known[run.id] if unchanged else runs.disk_bytes(run.path)
        self._marks = marks
        return sizes

    def _take(self, sizes: Mapping[str, int]) -> None:
        if sizes != self.sizes:
            self.sizes = sizes
            self._tell(sizes)


def _fail(error: Exception) -> None:
    raise error
