"""Text from files never reaches the terminal as control characters, never as markup, never as an action."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App
from textual.widgets import Log

from engine.runs.events import EventWriter
from tests.tui.conftest import attached, deck, make_run, shows, until
from tui.app import DeckApp
from tui.documents.new import file_form
from tui.terminal.clipboard import copy_text
from tui.text import clip, fit, line, safe

NASTY = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202egnp.exe[/x] [bold] [@click=app.quit]go[/] [INST] \r\nover\x00"


def raw_screen(app: App[None]) -> str:
    """Every character that the screen would send."""
    return "".join(strip.text for strip in app.screen._compositor.render_strips())


def check(app: App[None]) -> None:
    text = raw_screen(app)
    bad = {hex(ord(c)) for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200f"}
    assert not bad
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            action = segment.style.meta.get("@click") if segment.style else None
            assert action is None or str(action).startswith(("app.command(", "app.simulate_key("))


def nasty_run() -> object:
    settings = {
        "name": NASTY,
        "model": {"name_or_path": NASTY, "dtype": NASTY},
        "tuning": {"method": NASTY},
        "launch": {"device": NASTY},
    }
    run = make_run("x", settings)
    writer = EventWriter(run.events_path)
    writer.write("phase", name=NASTY, detail=NASTY)
    writer.write("progress", phase=NASTY, done=1, total=2, unit=NASTY)
    writer.write("warning", code=NASTY, message=NASTY)
    writer.write("sample", step=0, index=0, prompt=NASTY, output=NASTY)
    writer.write("sample", step=1, index=0, prompt=NASTY, output=NASTY, tokens=3, seconds=0.1, ended=False)
    writer.write("control", request=NASTY, outcome=NASTY)
    return run


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_events_and_settings(size: tuple[int, int]) -> None:
    run = nasty_run()
    app = attached(run)  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "[/x]", "[@click=app.quit]go[/]")
        check(app)
        await pilot.press("l")
        await pilot.pause()
        check(app)
        assert all(character.isprintable() for text in app.screen.query_one(Log).lines for character in text)
        await pilot.press("a")
        await shows(pilot, "answers while it learned", "3 tokens, cut, as before")
        check(app)
        await pilot.press("escape", "4")
        await shows(pilot, "1 run,")
        check(app)


async def test_errors() -> None:
    run = nasty_run()
    writer = EventWriter(run.events_path)  # type: ignore[attr-defined]
    problems = [{"where": NASTY, "message": NASTY, "hint": NASTY}] * 2
    writer.write("error", code="data", message=NASTY, hint=NASTY, where=NASTY, problems=problems)
    writer.write("finished", outcome=NASTY)
    app = attached(run)  # type: ignore[arg-type]
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "the run failed", "[@click=app.quit]go[/]")
        check(app)
        await pilot.press("4")
        await shows(pilot, "1 run,", "[/x]")
        await pilot.press("e")
        await shows(pilot, "esc close", "[/x]")
        check(app)


async def test_profiles(place: Path, cpu_machine: object) -> None:
    path = place / "[red]bad[x].toml"
    value = "\\u001b]52;c;aGk=\\u0007[/x] [@click=app.quit]go[/]"
    path.write_text(f'[model]\nname_or_path = "{value}"\n"{value}" = 3\n[[data.datasets]]\npath = "[/x] rows.jsonl"\n')
    app = deck()
    app.deck.form = file_form(path)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("2")
        await shows(pilot, "[red]bad[x].toml", "problem")
        check(app)
        await pilot.press("n")
        await shows(pilot, "no field here has this")
        check(app)
        await pilot.press("escape", "ctrl+s")
        await pilot.pause(0.2)
        check(app)
        await pilot.press("o")
        await shows(pilot, "[red]bad[x].toml  here")
        check(app)


async def test_notices_and_filters_take_markup_as_text(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "> demo")
        app.screen_stack[0].say(safe(NASTY))  # type: ignore[attr-defined]
        await shows(pilot, "[INST]")
        check(app)
        await pilot.press("slash", *"[/x]")
        await shows(pilot, "no model has these words")
        await pilot.press("w")
        await pilot.pause()
        check(app)


async def test_a_click_on_hostile_text_does_nothing() -> None:
    run = nasty_run()
    app = attached(run)  # type: ignore[arg-type]
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "[@click=app.quit]go[/]")
        for y in range(3, 22, 3):
            await pilot.click(offset=(30, y))
        assert app.is_running


def test_copied_text_is_what_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    app = DeckApp()
    assert str(tmp_path) in copy_text(app, safe(NASTY), tmp_path / "log.txt")
    assert "\x1b" not in (tmp_path / "log.txt").read_text()


def test_wide_and_long_text_is_cut_to_cells() -> None:
    assert clip("模型模型模型", 5) == "模型…"
    assert fit("模型", 6) == "模型  "
    assert line("[/x]", ("[b]", "bold")).plain == "[/x][b]"
    assert len(safe("x" * 10_000)) == 300


async def test_until_fails_when_a_text_never_comes(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        with pytest.raises(AssertionError, match="waited in vain"):
            await until(pilot, lambda: False, timeout_s=0.1)
