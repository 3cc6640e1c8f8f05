"""Order, columns and groups of the list of runs, and keeping them in the settings file."""

from __future__ import annotations

from functools import partial

from engine.api.runs import WORDS
from tui.background import Lane
from tui.frame.screen import DeckScreen
from tui.runs.column_pick import ColumnPick
from tui.runs.columns import choices
from tui.runs.list_pane import RunListPane
from tui.runs.selecting import DEFAULT_ORDER
from tui.text import safe

_NOT_GROUPED = "nothing"


class Arranging:
    """Carries out the commands of `screen` on `pane`. What was chosen holds at the next start, too."""

    def __init__(self, screen: DeckScreen, pane: RunListPane) -> None:
        self._screen, self._pane = screen, pane
        self._keeper = Lane(screen, "settings")

    def as_kept(self) -> None:
        """Arrange the list as the settings file says."""
        kept = self._screen.deck_app.settings.runs
        order = kept.order or DEFAULT_ORDER
        self._pane.choose(columns=kept.columns, order=order, turned=kept.turned, group=kept.group)

    def sort(self, place: int | None) -> None:
        """Order by the next column, or by the one at `place`."""
        if place is None:
            self._pane.next_order()
        else:
            self._pane.order_by(place)
        self._keep()

    def sort_back(self) -> None:
        """Order by the column before."""
        self._pane.next_order(-1)
        self._keep()

    def turn(self) -> None:
        """Turn the order round."""
        self._pane.choose(turned=not self._pane.selection.turned)
        self._keep()

    def choose_columns(self) -> None:
        """Ask which columns are shown."""
        chosen = self._pane.selection.columns
        pick = ColumnPick("Columns of the list", self._choices(chosen), chosen, several=True)
        self._screen.app.push_screen(pick, self._take_columns)

    def _take_columns(self, columns: tuple[str, ...] | None) -> None:
        if columns is not None:
            self._pane.choose(columns=columns)
            self._keep()

    def choose_group(self) -> None:
        """Ask what runs are grouped by."""
        now = self._pane.selection.group
        first = [(_NOT_GROUPED, "one list")] if now else []
        words = [(key, WORDS[key]) for key in ("state", "model")]
        known = dict([*first, *words, *self._choices(())])
        pick = ColumnPick("Group by", list(known.items()), (now,) if now else (), several=False)
        self._screen.app.push_screen(pick, self._take_group)

    def _choices(self, chosen: tuple[str, ...]) -> list[tuple[str, str]]:
        return choices([row.traits for row in self._pane.rows], chosen)

    def _take_group(self, chosen: tuple[str, ...] | None) -> None:
        if chosen:
            self._pane.choose(group="" if chosen[0] == _NOT_GROUPED else chosen[0], closed=frozenset())
            self._pane.to_first()
            self._keep()

    def _keep(self) -> None:
        from tui.frame.remembering import remember

        shown = self._pane.selection
        order = "" if shown.order == DEFAULT_ORDER else shown.order
        values = {"columns": list(shown.columns), "order": order, "turned": shown.turned, "group": shown.group}
        keep = partial(remember, self._screen.deck_app.settings.path, "runs", values)
        self._keeper.submit(keep, lambda _: None, self._not_kept)

    def _not_kept(self, error: Exception) -> None:
        if not isinstance(error, (OSError, ValueError)):
            raise error
        self._screen.say(f"the deck's settings file cannot keep this: {safe(error, 200)}", error=True)
