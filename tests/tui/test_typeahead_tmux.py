"""A real terminal sends many keys in one go: the deck in tmux, as over a slow line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.api import runs
from tests.tui.small_profile import TEXT, put_profile

pytestmark = [pytest.mark.tmux, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]

SIZES = [(60, 16), (80, 24)]
# Starts write the run's files as they do, but no worker trains.
DECK = """\
import subprocess, sys
from engine import api
from engine.runs.store import create_run
def start(name, run_json, text):
    return create_run(name, run_json, text), subprocess.Popen([sys.executable, "-c", ""])
api.start_run = start
from tui.main import main
code = main([])
print("left with", code)
"""


class Terminal:
    """The deck in a tmux of its own, in the working folder."""

    def __init__(self, place: Path, socket: Path, size: tuple[int, int]) -> None:
        self.tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        script = socket.parent / "deck.py"
        script.write_text(DECK)
        root = Path(__file__).parents[2]
        # A size that the test's own terminal exports would hide that of this one.
        deck = f"env -u COLUMNS -u LINES PYTHONPATH={root} {sys.executable} {script}"
        command = f"cd {place}; {deck}; exec sh"
        columns, lines = map(str, size)
        subprocess.run([*self.tmux, "new-session", "-d", "-x", columns, "-y", lines, command], check=True)

    def send(self, *keys: str) -> None:
        """All keys in one go."""
        subprocess.run([*self.tmux, "send-keys", *keys], check=True)

    def text(self) -> str:
        done = subprocess.run([*self.tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True)
        return done.stdout

    def wait(self, condition: Callable[[], object], seconds: float = 40) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.text()
            time.sleep(0.05)

    def shows(self, *texts: str) -> None:
        self.wait(lambda: all(text in self.text() for text in texts))


@pytest.fixture(params=SIZES, ids=["60x16", "80x24"])
def terminal(request: pytest.FixtureRequest, place: Path, tmp_path: Path) -> Iterator[Terminal]:
    """The deck is open on screen 1; a profile lies in the folder."""
    put_profile(place)
    terminal = Terminal(place, tmp_path / "tmux", request.param)
    try:
        terminal.shows("> demo", "fit")
        yield terminal
    finally:
        subprocess.run([*terminal.tmux, "kill-server"], check=False)


def open_profile(terminal: Terminal, *more: str) -> None:
    terminal.send("2", "o", "Enter", *more)


def test_forty_steps_are_forty_rows(terminal: Terminal) -> None:
    open_profile(terminal, "f", *["j"] * 40, "k")
    terminal.shows("train.max_grad_norm")


def test_a_filter_takes_its_words(terminal: Terminal) -> None:
    terminal.send("/", "q", "w", "e", "n")
    terminal.shows("qwen", "shown, ")
    assert "left with" not in terminal.text()


def test_a_value_typed_in_one_go(terminal: Terminal, place: Path) -> None:
    open_profile(terminal, *["j"] * 4, "Enter", "C-u", "4", "8", "Enter", "C-s")
    terminal.wait(lambda: "r = 48" in (place / "mine.toml").read_text())
    terminal.shows("train.learning_rate")


def test_saving_takes_what_is_typed(terminal: Terminal, place: Path) -> None:
    open_profile(terminal, "j", "j", "Enter", "C-u", "5", "1", "2", "C-s")
    terminal.wait(lambda: "max_length = 512" in (place / "mine.toml").read_text())


def test_starting_takes_what_is_typed_and_refuses_what_cannot_be(terminal: Terminal, place: Path) -> None:
    open_profile(terminal, "j", "j", "Enter", "C-u", *"nope", "C-r")
    terminal.shows("cannot be taken", "must be a whole number")
    time.sleep(1)
    assert runs.list_runs() == []
    assert (place / "mine.toml").read_text() == TEXT
    terminal.send("C-u", *"512", "C-r")
    terminal.wait(lambda: [run for run in runs.list_runs() if (run.path / "run.json").is_file()])
    (run,) = runs.list_runs()
    settings = json.loads((run.path / "run.json").read_text())["settings"]
    assert settings["model"]["max_length"] == 512


def test_a_path_typed_right_after_p(terminal: Terminal) -> None:
    terminal.send("Down", "p", *"rows.jsonl", "Enter")
    terminal.shows("max length", "^s save")
    terminal.send("C-q")
    # The name of the profile, and with it where the lines break, depends on the machine's free memory.
    terminal.shows("has edits", "y quit without saving")
    terminal.send("C-q", "Enter", "y")
    terminal.shows("left with 0")


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without end, as on a machine where others train."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@pytest.mark.parametrize("terminal", [(80, 24)], indirect=True, ids=["80x24"])
def test_a_path_typed_half_a_second_after_p_on_a_busy_machine(terminal: Terminal) -> None:
    with busy_processes(8):
        terminal.send("Down", "p")
        time.sleep(0.5)
        terminal.send(*"rows.jsonl", "Enter")
        terminal.shows("max length", "^s save")
    assert "rows.jsonl" in terminal.text()
    assert "> demo" not in terminal.text()
