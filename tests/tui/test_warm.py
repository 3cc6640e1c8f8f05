"""Screens are made while nobody types: their first visit shows them as a later one does, and nothing before it."""

from __future__ import annotations

import pytest
from textual.css.stylesheet import Stylesheet

from engine.api import runs
from engine.errors import EngineError
from tests.tui.conftest import deck, screen_text, shows, until
from tui import warm
from tui.app import DeckApp

MADE = {"fit", "runs", "run", "results", "profile", "cards"}
WORDS = {
    "2": "no profile is open",
    "4": "0 runs",
    "6": "6 GPUs",
}


@pytest.fixture
def made_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screens are made at once, not when a person has looked at the first one for a while."""
    monkeypatch.setattr(warm, "AFTER_S", 0.01)
    monkeypatch.setattr(warm, "_PAUSE_S", 0.01)
    monkeypatch.setattr("tui.app.IDLE_S", -1.0)
    monkeypatch.setattr("gc.freeze", lambda: None)  # other tests' decks are garbage


def made(app: DeckApp) -> bool:
    return set(app._screen_stacks) >= MADE


@pytest.mark.usefixtures("cpu_machine", "made_soon")
async def test_screens_made_ahead_are_laid_out_for_the_window_that_there_is() -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: made(app))
        assert app.current_mode == "fit"
        await pilot.resize_terminal(120, 40)
        for key, words in WORDS.items():
            await pilot.press(key)
            await shows(pilot, words)
            lines = screen_text(app).splitlines()
            assert len(lines) == 40
            assert max(map(len, lines)) > 100
            assert "esc close" not in lines[-1]
            assert "q" in lines[-1]


@pytest.mark.usefixtures("cpu_machine", "made_soon")
async def test_a_screen_made_ahead_rests_and_keeps_its_troubles_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fails() -> None:
        asked.append("asked")
        raise EngineError("the driver is gone", hint="look for it")

    monkeypatch.setattr("tui.cards.screen.CardsReader.read", lambda _: fails())
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: made(app) and asked)
        await pilot.pause(1.2)
        assert len(asked) <= 2  # when it was made, and when it came to rest
        assert "driver is gone" not in screen_text(app)
        await pilot.press("6")
        await shows(pilot, "the driver is gone")


@pytest.mark.usefixtures("cpu_machine", "made_soon")
async def test_a_deck_that_closes_makes_no_screen() -> None:
    app = deck()
    async with app.run_test():
        assert app._is_quiet() or not app.screen_stack[0].ready  # type: ignore[attr-defined]
        app._exit = True
        assert not app._is_quiet()
    assert not app._is_quiet()
    assert not made(app)


@pytest.mark.usefixtures("cpu_machine")
async def test_sheets_are_parsed_for_new_colors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    reparse = Stylesheet.reparse
    monkeypatch.setattr(Stylesheet, "reparse", lambda sheet: (parsed.append("anew"), reparse(sheet)))
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "0 runs")
        assert parsed == []
        dark = app.screen.styles.background
        app.theme = "textual-light"
        await pilot.press("1")
        assert parsed == ["anew"]
        await pilot.press("4")
        assert app.screen.styles.background != dark
        assert parsed == ["anew"]
    assert runs.list_runs() == []


@pytest.mark.parametrize("theme", ["tunedeck", "tunedeck-light"])
@pytest.mark.usefixtures("cpu_machine")
async def test_text_of_the_first_screens_differs_from_what_it_stands_on(
    theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.app.default_theme", lambda *_: theme)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        for key, words in ("1", "tunedeck"), ("4", "0 runs"):
            await pilot.press(key)
            await shows(pilot, words)
            segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
            shown = [(segment.text, segment.style) for segment in segments if segment.text.strip() and segment.style]
            assert [text for text, style in shown if style.color == style.bgcolor] == []
