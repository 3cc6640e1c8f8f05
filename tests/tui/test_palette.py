"""The palette finds commands, settings, runs, models and files of profiles, and says when nothing matches."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from engine.hardware.machine import Machine
from tests.tui.conftest import deck, make_run, screen_text, shows, until
from tests.tui.keyboard import CLEAR, DOWN, ENTER, PALETTE, at_once
from tests.tui.small_profile import current, on_row, opened, rows
from tui.frame.deck import Deck
from tui.frame.finding import Entry, entry_row, ranked, told
from tui.frame.palette import Palette


def nothing(deck: Deck) -> None:
    """What these entries do."""


def entry(kind: str, label: str, about: str = "") -> Entry:
    return Entry(kind, label, about, nothing)


ENTRIES = [
    entry("command", "learn more", "about rates"),
    entry("command", "advanced", "Show or hide advanced settings"),
    entry("setting", "learning rate", "train.learning_rate lr"),
    entry("setting", "seed", "train.seed"),
    entry("run", "demo-f052", "20260101-101010-demo-f052"),
    entry("model", "Qwen3-8B", "Qwen qwen3 apache-2.0"),
    entry("file", "demo", "shipped profile"),
]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ["learn more", "advanced"]),
        ("learning", ["learning rate"]),
        ("learn", ["learn more", "learning rate"]),
        ("lr", ["learning rate"]),
        ("run f05", ["demo-f052"]),
        ("DEMO", ["demo", "demo-f052"]),
        ("qw8b", ["Qwen3-8B"]),
        ("rate", ["learning rate", "learn more"]),
        ("zz", []),
        ("xyzzy", []),
    ],
)
def test_the_best_comes_first(text: str, labels: list[str]) -> None:
    assert [one.label for one in ranked(ENTRIES, text)] == labels


def test_what_is_found_is_counted() -> None:
    assert told(ENTRIES, 0, "", True).startswith("looking for")
    assert told(ENTRIES, 0, "", False) == "2 commands, 2 settings, 1 run, 1 model, 1 file"
    assert told(ENTRIES, 3, "de", False) == "3 found"
    assert told(ENTRIES, 0, "zz ", False) == "nothing matches 'zz'"
    for width in (50, 76):
        assert all(cell_len(entry_row(one, 20, width, False).plain) <= width for one in ENTRIES)


def test_hundreds_of_entries_are_searched_between_two_keys() -> None:
    many = [entry("run", f"support-bot-{number:04x}", f"2026-{number}") for number in range(400)]
    many += [entry("model", f"Model-{number}B-Instruct", "owner family licence") for number in range(250)]
    many += [entry("setting", f"setting {number}", f"table.setting_{number} " + "word " * 20) for number in range(110)]
    began = time.process_time()
    for text in ("s", "su", "model 2 in", "setting 4", "qqqq"):
        ranked(many, text)
    assert (time.process_time() - began) / 5 < 0.02


async def test_a_setting_a_model_a_run_and_a_file_are_gone_to(profile: Path, cpu_machine: Machine) -> None:
    make_run("night-run")
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, PALETTE, "dora", ENTER)
        await until(pilot, lambda: app.current_mode == "profile" and current(app) == "lora.use_dora")
        at_once(pilot, PALETTE, "model qwen3-8b", ENTER)
        await shows(pilot, "> Qwen3-8B")
        assert app.current_mode == "fit"
        at_once(pilot, "/gemma", ENTER, PALETTE, "qwen3-0.6b", ENTER)
        await shows(pilot, "> Qwen3-0.6B")
        at_once(pilot, PALETTE, "night", ENTER)
        await until(pilot, lambda: app.current_mode == "run" and app.deck.run is not None)
        at_once(pilot, PALETTE, "file demo shipped", ENTER)
        await until(pilot, lambda: app.deck.form is not None and app.deck.form.name == "demo (shipped)")


@pytest.mark.parametrize("size", [(60, 16), (80, 24)])
async def test_the_palette_says_what_it_has_and_that_nothing_matches(
    size: tuple[int, int], profile: Path, cpu_machine: Machine
) -> None:
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, PALETTE)
        await shows(pilot, "0 settings, 0 runs", "models", "> command")
        assert all(cell_len(text) <= size[0] for text in screen_text(app).splitlines())
        at_once(pilot, "no such thing")
        await shows(pilot, "nothing matches 'no such thing'")
        at_once(pilot, ENTER)
        assert isinstance(app.screen, Palette)
        at_once(pilot, CLEAR, "file", DOWN)
        await shows(pilot, "mine.toml", "shipped profile", "> file")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Palette))


async def test_an_open_field_is_taken_before_anything_is_gone_to(profile: Path) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "lora.r")
        at_once(pilot, ENTER, CLEAR, "nope", PALETTE, "model qwen3-8b", ENTER)
        await until(pilot, lambda: not isinstance(app.screen, Palette))
        await pilot.pause()
        assert app.current_mode == "profile"
        assert rows(app)["lora.r"].editing
        at_once(pilot, CLEAR, "48", PALETTE, "train.seed", ENTER)
        await until(pilot, lambda: current(app) == "train.seed")
        assert app.deck.form is not None
        assert app.deck.form.given("lora.r") == 48
