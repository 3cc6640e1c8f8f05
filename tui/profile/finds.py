"""What the palette finds of screen 2: the settings of the open profile, and files of profiles."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui.frame.finding import Entry
from tui.text import safe, short_path, trouble

if TYPE_CHECKING:
    from tui.frame.deck import Deck


def setting_entries(deck: Deck) -> list[Entry]:
    """A row to go to for each setting; none while no profile is open."""
    form = deck.deck.form
    if form is None:
        return []
    from tui.documents.form import form_fields
    from tui.profile.form_filter import ALIASES
    from tui.profile.view import label_of

    return [
        Entry(
            "setting",
            label_of(spec),
            safe(" ".join(filter(None, (spec.key, ALIASES.get(spec.key), "·", spec.description))), 300),
            partial(_to_setting, spec.key),
        )
        for spec in form_fields(form)
    ]


def _to_setting(key: str, deck: Deck) -> None:
    deck.go_to("profile", key)


def file_entries(deck: Deck) -> list[Entry]:
    """Profiles of this folder, then those that come with the program."""
    from tui.documents import document
    from tui.documents.new import nearby

    here = [Entry("file", safe(path.name, 80), short_path(path.parent), partial(_open, path)) for path in nearby()]
    shipped = [
        Entry("file", safe(name, 80), "shipped profile", partial(_open_shipped, name, text))
        for name, text in document.shipped()
    ]
    return here + shipped


def _open(path: Path, deck: Deck) -> None:
    from tui.documents.new import file_form

    try:
        deck.open_form(file_form(path))
    except EngineError as error:
        deck.say(trouble(error), error=True)


def _open_shipped(name: str, text: str, deck: Deck) -> None:
    from tui.documents.new import shipped_form

    deck.open_form(shipped_form(name, text))
