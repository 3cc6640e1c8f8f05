"""A new profile from a plan: asks for the data, then opens the form on screen 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.dom import DOMNode

from engine.api.fit import Plan, Requirements, method_words
from engine.errors import EngineError
from tui.fit.view import short_model
from tui.frame.deck import deck_of
from tui.frame.path_field import PathField
from tui.text import trouble
from tui.widgets.dialogs import Ask
from tui.widgets.panes import notify

if TYPE_CHECKING:
    from tui.documents.form import Form

DATA_NOTE = "path of your examples, a folder of them, or hub:OWNER/NAME; tab completes"


def make_profile(node: DOMNode, plan: Plan, requirements: Requirements) -> None:
    """Open a profile of `plan` for the device asked for; the demo brings its own data."""
    from tui.documents.completion import data_wanted
    from tui.documents.new import data_path_problem, demo_form, plan_form

    if plan.model.name == "demo":
        _open_form(node, partial(demo_form, requirements))
        return

    def make(path: str | None) -> None:
        if path is not None:
            _open_form(node, partial(plan_form, plan, path, requirements))

    title = f"Data for {short_model(plan.model.name)}, {method_words(plan.shape)}"
    field = PathField("", data_wanted(Path.cwd()), data_path_problem)
    node.app.push_screen(Ask(title, DATA_NOTE, field=field), make)


def _open_form(node: DOMNode, make: Callable[[], Form]) -> None:
    try:
        form = make()
    except EngineError as error:
        notify(node, trouble(error), error=True)
        return
    deck_of(node).open_form(form)
