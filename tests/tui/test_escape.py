"""Escape is a key of its own however fast the next one comes, and keys typed while the deck loads are not lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events

from tests.tui.conftest import until
from tests.tui.keyboard import CLEAR, DOWN, ENTER, SAVE, at_once
from tests.tui.small_profile import TEXT, on_row, opened, rows
from tests.tui.terminal import Terminal
from tui.profile.screen import ProfileScreen
from tui.terminal.escape import KeyParser

ESCAPE = "\x1b"


def keys(*chunks: str, with_alt: str = "") -> list[str]:
    parser = KeyParser(with_alt=with_alt)
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    time.sleep(0.11)  # after which Textual gives up waiting for the rest of a sequence
    found += parser.tick()
    return [event.key if isinstance(event, events.Key) else type(event).__name__ for event in found]


@pytest.mark.parametrize("split", [True, False], ids=["one by one", "one chunk"])
@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("\x1bq", ["escape", "q"]),
        ("\x1b\r", ["escape", "enter"]),
        ("\x1b\x13", ["escape", "ctrl+s"]),
        ("\x1b2", ["escape", "2"]),
        ("\x1b/qw", ["escape", "slash", "q", "w"]),
        ("\x1bj\x1b[Bk", ["escape", "j", "down", "k"]),
        ("\x1b\x1bq", ["escape", "escape", "q"]),
        ("\x1b[A\x1bOP\x1b[5~", ["up", "f1", "pageup"]),
        ("\x1b\x1b[B", ["escape", "down"]),
        ("\x1bb\x1bf\x1b\x7f\x1b\t", ["ctrl+left", "ctrl+right", "ctrl+w", "shift+tab"]),
        ("a\n", ["a", "enter"]),
        ("\x1b", ["escape"]),
        ("\x1b[<0;3;4Mq", ["MouseDown", "q"]),
    ],
)
def test_what_a_terminal_sends_is_what_was_pressed(sent: str, meant: list[str], split: bool) -> None:
    assert keys(*(sent if split else [sent])) == meant


def test_a_key_with_alt_that_a_person_gave_stays_one() -> None:
    assert keys("\x1bq\x1bx", with_alt="x") == ["escape", "q", "alt+x"]


def test_a_pasted_text_keeps_its_lines() -> None:
    found = [*KeyParser().feed("\x1b[200~one\ntwo\x1b[201~q\n")]
    assert [event.text for event in found if isinstance(event, events.Paste)] == ["one\ntwo"]
    assert [event.key for event in found if isinstance(event, events.Key)] == ["q", "enter"]


@pytest.mark.parametrize("size", [(60, 16), (80, 24)])
async def test_what_was_given_up_is_not_taken_by_the_next_key(size: tuple[int, int], profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "48", ESCAPE, SAVE, ENTER, CLEAR, "9", ESCAPE, ENTER, ESCAPE, "j", DOWN, "k")
        await until(
            pilot,
            lambda: (
                isinstance(app.screen, ProfileScreen) and app.screen.form_pane.row is rows(app)["train.learning_rate"]
            ),
        )
        assert app.deck.form is not None
        assert app.deck.form.edits == {}
        assert profile.read_text() == TEXT


@pytest.mark.parametrize("after_s", [0.0, 0.2])
def test_keys_typed_while_the_deck_loads_are_not_lost(after_s: float, place: Path) -> None:
    (place / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 50)
    terminal = Terminal()
    time.sleep(after_s)
    os.write(terminal.master, b"\x1b[Bprows.jsonl\r")
    terminal.wait_for(b"max length")
    os.write(terminal.master, b"\x11")
    terminal.wait_for(b"quit without saving")
    os.write(terminal.master, b"y")
    assert terminal.process.wait(10) == 0
    assert terminal.manners() == terminal.before
    terminal.end()


def ignored() -> None:
    """As a shell starts what stands behind `nohup … &`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("before", [None, ignored], ids=["as usual", "interrupts ignored"])
def test_ctrl_c_while_the_deck_loads_ends_it_in_silence(before: Callable[[], None] | None) -> None:
    terminal = Terminal(first=before)
    while terminal.manners() == terminal.before:
        time.sleep(0.005)
    os.write(terminal.master, b"\x03")
    terminal.read(10)
    assert terminal.process.wait(10) == 128 + signal.SIGINT
    assert b"Traceback" not in terminal.seen
    assert terminal.manners() == terminal.before
    terminal.end()
