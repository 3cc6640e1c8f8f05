"""What the cards do and which of this user's runs hold them, read in a thread."""

from __future__ import annotations

from dataclasses import dataclass

from engine.api import runs
from engine.api.cards import CardWatch, Loads, run_of_process
from engine.api.runs import RunRecord
from tui.reading.snapshot import make_facts

RunOf = tuple[str, str, int | None]
"""Id, name and predicted bytes of a run."""


@dataclass(frozen=True, slots=True)
class CardsReading:
    """One look: the cards, and the run that each process works on."""

    loads: Loads
    runs: dict[int, RunOf]


class CardsReader:
    """Looks again and again; used by one thread at a time."""

    def __init__(self) -> None:
        self._watch = CardWatch()
        self._known: dict[tuple[int, str | None], RunOf | None] = {}
        """What processes work on, by id and program: it never changes while they live."""

    def read(self) -> CardsReading:
        """All cards now."""
        loads = self._watch.read()
        seen = {(process.pid, process.name) for load in loads.cards for process in load.gpu.processes}
        # Without a name the process is not of this system: in a container ids of the host mean others or none.
        self._known = {key: self._known[key] if key in self._known else _run_of(key[0]) for key in seen if key[1]}
        return CardsReading(loads, {pid: run for (pid, _), run in self._known.items() if run is not None})

    def close(self) -> None:
        """Let go of the driver."""
        self._watch.close()


def _run_of(pid: int) -> RunOf | None:
    run = run_of_process(pid)
    if run is None:
        return None
    record = runs.load_record(run.path)
    facts = make_facts(run.id, record)
    return run.id, facts.name, facts.predicted_bytes if isinstance(record, RunRecord) else None
