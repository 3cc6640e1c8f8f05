"""What the palette finds of screen 1: every model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tui.frame.finding import Entry
from tui.text import safe

if TYPE_CHECKING:
    from engine.api.fit import ModelSpec
    from tui.frame.deck import Deck


def model_entries(deck: Deck) -> list[Entry]:
    """Each leads to the model's row."""
    from engine.api import fit

    return [_entry(model) for model in fit.load_catalog()]


def _entry(model: ModelSpec) -> Entry:
    owner, _, short = model.name.rpartition("/")
    about = " ".join(filter(None, (owner, model.family, model.licence)))
    return Entry("model", safe(short, 80), safe(about, 120), partial(_to_model, model.name))


def _to_model(name: str, deck: Deck) -> None:
    deck.go_to("fit", name)
