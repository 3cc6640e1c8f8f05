"""A profile on disk with its data, the built-in model on fifty rows, and the deck opened on its form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tests.tui.conftest import deck, until
from tui.app import DeckApp
from tui.documents.new import file_form
from tui.profile.field import FieldRow
from tui.profile.form_pane import FormPane
from tui.profile.screen import ProfileScreen

SMALL = [(60, 16), (80, 24)]
TEXT = """\
schema_version = 1

[model]
name_or_path = "demo"
max_length = 256

[lora]
r = 8

[[data.datasets]]
path = "rows.jsonl"
format = "alpaca"
"""


def put_profile(folder: Path) -> Path:
    """`mine.toml` in `folder`, and the rows that it names."""
    (folder / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 50)
    path = folder / "mine.toml"
    path.write_text(TEXT)
    return path


def opened(path: Path) -> DeckApp:
    app = deck()
    app.deck.form = file_form(path)
    return app


def form_of(app: DeckApp) -> ProfileScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, ProfileScreen)
    return screen


def pane_of(app: DeckApp) -> FormPane:
    return form_of(app).form_pane


def rows(app: DeckApp) -> dict[str, FieldRow]:
    return {row.spec.key: row for row in pane_of(app).rows}


def current(app: DeckApp) -> str:
    row = pane_of(app).row
    return row.spec.key if row is not None else ""


def open_sections(app: DeckApp) -> None:
    """No section is folded."""
    if len(rows(app)) < 20:
        pane_of(app).toggle_sections()


async def on_row(pilot: Pilot[Any], app: DeckApp, key: str) -> None:
    """The form is there with its sections open, and `key` has the keyboard."""
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen_stack[0], ProfileScreen))
    await until(pilot, lambda: rows(app) and app.focused is not None and pane_of(app).found.plan is not None)
    open_sections(app)
    form_of(app).set_focus(rows(app)[key])
    await pilot.pause()
