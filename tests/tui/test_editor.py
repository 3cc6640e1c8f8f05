"""`e` gives the terminal to a person's editor, takes it back, and reads the file again."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hardware.machine import Machine
from tests.tui.conftest import deck, make_run, shows, until
from tests.tui.keyboard import CLEAR, ENTER, at_once
from tests.tui.small_profile import TEXT, current, on_row, opened, pane_of, rows
from tests.tui.terminal import Terminal
from tui.app import DeckApp
from tui.documents.checking import file_problems, told_problems
from tui.terminal import editor


def python(code: str) -> str:
    """An editor that runs `code` with the file in `path`, as VISUAL would name it."""
    head = "import sys, os, signal; from pathlib import Path; path = Path(sys.argv[-1]); "
    return shlex.join([sys.executable, "-c", head + code])


CHANGE = "path.write_text(path.read_text().replace('r = 8', 'r = 24'))"


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal that can be given away, and when it was."""
    found: list[str] = []

    @contextlib.contextmanager
    def suspend(app: DeckApp) -> Iterator[None]:
        found.append("given")
        yield
        found.append("taken back")

    monkeypatch.setattr(DeckApp, "suspend", suspend)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the deck said in notices."""
    found: list[str] = []
    monkeypatch.setattr(DeckApp, "notify", lambda app, text, **_: found.append(text))
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("'unclosed", "VISUAL cannot be read: no closing quotation: 'unclosed"),
        ("no-editor-of-this-name -w", "VISUAL names an editor that cannot be started: no-editor-of-this-name: no such"),
        (python("sys.exit(3)"), "ended with code 3"),
        (python("os.kill(os.getpid(), 15)"), "was ended by signal 15"),
        (python("os.kill(os.getppid(), signal.SIGINT)"), ""),
        (python("sys.exit(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"), ""),
        (python("sys.exit(path.name != 'a b; touch c.toml')"), ""),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    value: str, said: str, place: Path, lent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", value)
    monkeypatch.setenv("EDITOR", "not-this-one")
    before = signal.getsignal(signal.SIGINT)
    found = editor.edit(deck(), Path("a b; touch c.toml"))
    assert said in found
    assert bool(found) == bool(said)
    assert lent in ([], ["given", "taken back"])
    assert signal.getsignal(signal.SIGINT) is before
    assert os.listdir(place) == []


async def test_the_file_is_read_again_and_its_problems_have_lines(
    profile: Path, lent: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")

        async def says(editor: str, *words: str) -> None:
            monkeypatch.setenv("EDITOR", editor)
            told.clear()
            await pilot.press("e")
            await until(pilot, lambda: any(all(word in text for word in words) for text in told))

        await says("", "no editor is set")
        await says(python("0"), "mine.toml is as it was")
        await says(python(CHANGE), "mine.toml was read again: nothing is wrong with it")
        assert rows(app)["lora.r"].state.value == "24"
        assert current(app) == "lora.r"
        await says(
            python("path.write_text(path.read_text().replace('r = 24', 'r = 0'))"), "1 problem", "line 8: lora.r"
        )
        await says(python("path.write_text('[lora\\nr = 8')"), "line 1: not TOML")
        await says(python("path.write_text('\\n[lora]\\nr = 8'); sys.exit(1)"), "2 problems", "model: is missing")


async def test_edits_are_asked_about_first(profile: Path, lent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", python("path.write_text(path.read_text().replace('512', '1024'))"))
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "model.max_length")
        at_once(pilot, ENTER, CLEAR, "512", ENTER, "e")
        await shows(pilot, "edits that are not saved", "save mine.toml and open it")
        await pilot.press("n")
        assert profile.read_text() == TEXT
        assert lent == []
        await pilot.press("e", "y")
        await until(pilot, lambda: pane_of(app).form and pane_of(app).form.given("model.max_length") == 1024)  # type: ignore[union-attr]
        assert "max_length = 1024" in profile.read_text()


async def test_runs_opens_the_file_a_run_was_started_from(
    profile: Path, cpu_machine: Machine, lent: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", python(CHANGE))
    run = make_run()
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> support-bot")
        await pilot.press("E")
        await until(pilot, lambda: "this run came from no file: u makes" in "".join(told))
        text = (run.path / "run.json").read_text()
        (run.path / "run.json").write_text(text.replace("{", f'{{"profile_path": "{profile}", ', 1))
        await pilot.press("E")
        await until(pilot, lambda: "r = 24" in profile.read_text())
        await until(pilot, lambda: "mine.toml: nothing is wrong with it" in "".join(told))


def test_problems_of_a_file_are_counted(place: Path) -> None:
    path = place / "wrong.toml"
    path.write_text("schema_version = 1\n[lora]\n" + "\n".join(f"x{number} = 1" for number in range(5)))
    told = told_problems(path.name, file_problems(path, None))
    assert "line 3: lora.x0: no such setting" in told
    assert told.splitlines()[-1].startswith("… ")


def test_a_real_terminal_is_given_away_and_taken_back(profile: Path) -> None:
    terminal = Terminal(EDITOR=python("print('in the ' + 'editor'); input(); " + CHANGE), VISUAL="")
    try:
        terminal.wait_for(b"> demo")
        os.write(terminal.master, b"2o\re")
        terminal.wait_for(b"in the editor")
        assert terminal.manners() == terminal.before
        given = len(terminal.seen)
        os.write(terminal.master, b"\n")
        terminal.wait_for(b"was read again")
        assert b"\x1b[?1049h" in terminal.seen[given:]
        assert terminal.manners() == (False, False)
        assert "r = 24" in profile.read_text()
        os.write(terminal.master, b"q")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.end()
