"""A model's estimate term by term, with every choice and its reason; enter makes a profile of it."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from engine.api.fit import Plan
from tui.fit.detail import long_detail
from tui.text import line
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Line, hint


class EstimateScreen(Modal[bool]):
    """One plan term by term. Closes with True for a profile of it."""

    BINDINGS: ClassVar = [("enter", "answer(True)", "profile"), ("escape,q", "answer(False)", "back")]

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def compose(self) -> ComposeResult:
        """The estimate and the two ways on."""
        with Vertical(classes="box tall"):
            with VerticalScroll():
                yield Line(id="estimate")
            keys = (*hint("enter"), " make a profile   ", *hint("esc", "escape"), " back")
            yield Line(line(*keys), classes="keys")

    def on_mount(self) -> None:
        """Arrows scroll at once."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        width = min(100, int(event.size.width * 0.96)) - 5
        self.query_one("#estimate", Line).show(long_detail(self._plan, width))

    def explained(self, plan: Plan) -> None:
        """The same plan with what else would work."""
        if plan.model.name == self._plan.model.name:
            self._plan = plan
        if self.query("#estimate"):  # the answer may be there before the screen is
            self.on_resize(events.Resize(self.size, self.size))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)
