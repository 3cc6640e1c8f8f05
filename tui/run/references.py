"""Choosing the run that lies under the live one; what was chosen stays while the deck runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from textual.content import Content
from textual.widget import Widget

from engine.api import runs as runs_api
from engine.api.runs import Run
from engine.errors import EngineError
from engine.jsonvalues import Unreadable
from tui.background import Lane
from tui.frame.deck import deck_of
from tui.run.reference import Candidate, Reference, find_candidates, mismatch, read_reference
from tui.text import Part, safe, trouble
from tui.widgets.dialogs import Pick
from tui.widgets.panes import notify


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """The run that was chosen last, and whether it is shown."""

    run: Run | None = None
    shown: bool = False


class References:
    """Finds, reads and remembers the reference of the run that a widget shows."""

    def __init__(self, owner: Widget, changed: Callable[[], None]) -> None:
        self.current: Reference | None = None
        """What is drawn now."""
        self._owner, self._changed = owner, changed
        self._lane = Lane(owner, "reference")
        self._run: Run | None = None

    @property
    def _choice(self) -> ReferenceChoice:
        return deck_of(self._owner).deck.of(ReferenceChoice)

    def _remember(self, choice: ReferenceChoice) -> None:
        deck_of(self._owner).deck.put(choice)

    def follow(self, run: Run | None) -> None:
        """Prepare for another run; a reference that is shown is laid under it too, if it can be."""
        self._run, self.current = run, None
        if run is not None and self._choice.shown:
            self._load()

    def toggle(self) -> None:
        """Take the reference away, or lay the one chosen last under the run; without one, choose."""
        if self.current is not None:
            self.current = None
            self._remember(replace(self._choice, shown=False))
            self._changed()
        elif self._choice.run is not None and self._run is not None and self._choice.run.id != self._run.id:
            self._load()
        else:
            self._find(at_once=True)

    def choose(self) -> None:
        """Choose among all runs."""
        self._find(at_once=False)

    def _load(self) -> None:
        run, other = self._run, self._choice.run
        if run is None or other is None or other.id == run.id:
            return

        def read() -> Reference | str:
            records = [runs_api.load_record(one.path) for one in (run, other)]
            known = [one for one in records if not isinstance(one, Unreadable)]
            return (mismatch(*known) if len(known) == 2 else "its settings cannot be read") or read_reference(other)

        self._lane.submit(read, partial(self._take, run, other), self._failed)

    def _take(self, run: Run, other: Run, found: Reference | str) -> None:
        if run is not self._run:
            return
        if isinstance(found, str):
            notify(self._owner, f"{safe(other.id, 80)} is not laid under this run: {found}; B chooses another")
            return
        self.current = found
        self._remember(ReferenceChoice(other, shown=True))
        self._changed()

    def _find(self, *, at_once: bool) -> None:
        run = self._run
        if run is not None:
            self._lane.submit(partial(find_candidates, run), partial(self._offer, run, at_once), self._failed)

    def _offer(self, run: Run, at_once: bool, found: list[Candidate]) -> None:
        """A list to choose from, or at once the best trial of the sweep that the run belongs to."""
        if run is not self._run:
            return
        if not found:
            notify(self._owner, "no other run is over: there is nothing to lay under this one")
        elif at_once and found[0].best and not found[0].problem:
            self._chosen(found, 0)
        else:
            choices = [Content.assemble(*candidate_parts(one)) for one in found]
            title = "Lay under this run"
            self._owner.app.push_screen(Pick(title, choices, self._marked(found)), partial(self._chosen, found))

    def _marked(self, found: list[Candidate]) -> int:
        now = self._choice.run
        return next((place for place, one in enumerate(found) if now is not None and one.run.id == now.id), 0)

    def _chosen(self, found: list[Candidate], index: int | None) -> None:
        if index is None:
            return
        one = found[index]
        if one.problem:
            notify(self._owner, f"{one.name} cannot be compared with this run: {one.problem}")
            return
        self._remember(ReferenceChoice(one.run, shown=True))
        self._load()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (EngineError, OSError)):
            raise error
        notify(self._owner, trouble(error), error=True)


def candidate_parts(one: Candidate) -> list[Part]:
    """A line of the list: the name, then what speaks for or against it."""
    if one.problem:
        return [(f"{one.name}  not comparable: {one.problem}", "dim")]
    return [one.name, ("  best trial of this sweep", "$success")] if one.best else [one.name]
