"""The ranked models of the fit screen: their rows, and the filter above them."""

from __future__ import annotations

from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList

from engine.api.fit import Plan
from tui.fit.filter import Filter, matches, parse_filter
from tui.fit.order import ORDERS, ordered
from tui.fit.ranking import Ranking
from tui.fit.view import heading, model_row, none_found_line, told_line
from tui.widgets.lines import Drawn
from tui.widgets.rows import Row, Rows


class ModelsPane(Vertical):
    """Plans from best to worst, those that the filter leaves; the cursor highlights one."""

    class Highlighted(Message):
        """Another plan is under the cursor, or none."""

        def __init__(self, plan: Plan | None) -> None:
            super().__init__()
            self.plan = plan

    class Chosen(Message):
        """Enter on a row."""

    class Filtered(Message):
        """Other models are left by the filter."""

    def __init__(self) -> None:
        super().__init__(id="list")
        self._ranking: Ranking | None = None
        self._trouble = ""
        self._filter = Filter()
        self._shown: dict[str, Plan] = {}
        self._order = ORDERS[0]
        self._sought = ""
        """The model to go to once it is ranked."""

    def compose(self) -> ComposeResult:
        """The line of the question, the filter, the heading, the rows."""
        yield Drawn(id="task")
        field = Input(
            placeholder="words, -word, mem<24 size>=7b ctx>=32k tok>500 first<0.5; esc clears",
            compact=True,
            id="filter",
        )
        field.cursor_blink = False
        yield field
        yield Drawn(id="heading")
        yield Rows(id="models")

    @property
    def count(self) -> str:
        """How many models fit, and how many of them the filter leaves."""
        if self._ranking is None:
            return ""
        fits = sum(plan.verdict != "NO" for plan in self._ranking.plans)
        shown = f"{len(self._shown)} shown, " if self._filter else ""
        return f"{shown}{fits} of {len(self._ranking.plans)} fit"

    @property
    def filter_has_keyboard(self) -> bool:
        """Whether words are being typed."""
        return self.query_one("#filter", Input).has_focus

    def show(self, ranking: Ranking | None, trouble: str) -> None:
        """Show the newest plans, or why there are none."""
        self._ranking, self._trouble = ranking, trouble
        found_plans = [plan for plan in ranking.plans if matches(plan, self._filter)] if ranking else []
        plans = ordered(found_plans, self._order)
        self._shown = {plan.model.name: plan for plan in plans}
        self.query_one(Rows).set_rows([Row(plan.model.name, partial(model_row, plan)) for plan in plans])
        found, problem = bool(plans) or ranking is None, trouble or self._filter.problem
        self.query_one("#heading", Drawn).show(
            partial(told_line, problem) if problem else partial(heading, self._order) if found else none_found_line
        )
        if self._sought in self._shown:
            self._to_sought()
        self._moved()  # rows that keep their order say nothing themselves, and their plans are new ones

    @on(OptionList.OptionHighlighted, "#models")
    def _moved(self) -> None:
        current = self.query_one(Rows).current
        self.post_message(self.Highlighted(self._shown.get(current.key) if current else None))

    @on(OptionList.OptionSelected, "#models")
    def _chosen(self) -> None:
        self.post_message(self.Chosen())

    def order_by(self, place: int | None) -> None:
        """Order by one of `ORDERS`, without `place` by the next one."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS) if place is None else place]
        self.show(self._ranking, self._trouble)

    def seek(self, name: str) -> None:
        """Go to the row of a model, at once or when it is ranked; a filter that hides it goes."""
        self._sought = name
        if name not in self._shown:
            self.close_filter()
        if name in self._shown:
            self._to_sought()

    def _to_sought(self) -> None:
        rows = self.query_one(Rows)
        self.screen.set_focus(rows)
        rows.highlighted = list(self._shown).index(self._sought)
        self._sought = ""

    def open_filter(self) -> None:
        """Type words to filter by."""
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def close_filter(self) -> bool:
        """Show all models again; False when no filter is open."""
        if not self.has_class("-filtering"):
            return False
        self.query_one("#filter", Input).value = ""
        self.remove_class("-filtering")
        self.query_one(Rows).focus()
        return True

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        self._filter = parse_filter(event.value)
        self.show(self._ranking, self._trouble)
        self.post_message(self.Filtered())

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.set_class(bool(self._filter), "-filtering")
        self.query_one(Rows).focus()
