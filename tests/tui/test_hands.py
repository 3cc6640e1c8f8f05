"""Keys of one's own, jump mode, help on what has the keyboard, themes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until, worker_alive
from tui.commands import COMMANDS
from tui.documents.new import demo_form
from tui.frame.commands import key_label
from tui.frame.settings import parse_key, read_settings
from tui.frame.themes import ANSI, ANSI_LIGHT, LIGHT, THEMES, TRUECOLOR, default_theme
from tui.main import main
from tui.profile.screen import ProfileScreen
from tui.widgets.rows import Rows

NAMES = frozenset(theme.name for theme in THEMES)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person's own settings lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "tunedeck"
    folder.mkdir(parents=True)
    return folder / "deck.toml"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("s", "s"),
        ("S", "S"),
        ("/", "slash"),
        ("?", "question_mark"),
        ("-", "minus"),
        ("+", "plus"),
        ("ctrl++", "ctrl+plus"),
        ("^s", "ctrl+s"),
        ("Ctrl+X", "ctrl+X"),
        ("F5", "f5"),
        ("space", "space"),
        (" ", "space"),
    ],
)
def test_keys_are_written_as_people_write_them(written: str, name: str) -> None:
    assert parse_key(written) == name


@pytest.mark.parametrize("wrong", ["enter", "esc", "ctrl+i", "ctrl+m", "hyper+x", "f99", "up", "ctrl+c", "\x1b", "xy"])
def test_keys_that_cannot_be_given_are_refused_in_words(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"is no key|is kept|a terminal sends|no key"):
        parse_key(wrong)


def test_everything_wrong_in_the_file_is_told_and_the_rest_holds(settings: Path) -> None:
    settings.write_text(
        'theme = "tunedeck-ligth"\ncolour = 3\n[keys]\nstop = "c"\nevaluate = ["E", "f6"]\n'
        'chekpoint = "k"\nzoom = "enter"\nlog = 3\n'
    )
    found = read_settings(COMMANDS, NAMES)
    assert found.theme == ""
    assert dict(found.keys) == {"evaluate": "E,f6"}
    told = {problem.key: f"{problem.message} {problem.hint}" for problem in found.problems}
    assert set(told) == {"theme", "colour", "keys.stop", "keys.chekpoint", "keys.zoom", "keys.log"}
    assert "did you mean 'tunedeck-light'?" in told["theme"]
    assert "did you mean 'checkpoint'?" in told["keys.chekpoint"]
    assert "'checkpoint' on the run screen" in told["keys.stop"]


@pytest.mark.parametrize("text", ["[keys\n", "\x00", "keys = 3\n", "keys = []\n", "a" * 100_000, '[keys]\nstop = ""\n'])
def test_a_broken_file_leaves_the_deck_its_own_keys(text: str, settings: Path) -> None:
    settings.write_text(text)
    found = read_settings(COMMANDS, NAMES)
    assert found.problems
    assert not found.keys


def test_keys_are_listed_in_the_shell_with_what_is_wrong(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys"]) == 0
    settings.write_text('[keys]\nstop = "X"\nstopp = "k"\n')
    capsys.readouterr()
    assert main(["--keys"]) == 2
    said = capsys.readouterr()
    (row,) = (line for line in said.out.splitlines() if line.startswith("stop "))
    assert row.split()[:3] == ["stop", "X", "run"]
    assert "keys.stopp is no command; did you mean 'stop'?" in said.err


def test_two_commands_may_swap_keys(settings: Path) -> None:
    settings.write_text('[keys]\nstop = "c"\ncheckpoint = "x"\n')
    found = read_settings(COMMANDS, NAMES)
    assert found.problems == ()
    assert dict(found.keys) == {"stop": "c", "checkpoint": "x"}
    assert key_label(COMMANDS.by_id["stop"], found.keys) == "c"


async def test_other_keys_work_and_stand_in_bar_and_help(settings: Path) -> None:
    settings.write_text('theme = "tunedeck-light"\n[keys]\nevaluate = "E"\nhelp = "f8"\n')
    run = make_run()
    record(run, 20, 400)
    with worker_alive(run):
        app = attached(run)
        assert app.theme == LIGHT
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(pilot, "training", "E evaluate", "f8 help")
            await pilot.press("v")
            await pilot.pause()
            assert not (run.path / "control" / "evaluate").exists()
            await pilot.press("E")
            await until(pilot, lambda: (run.path / "control" / "evaluate").exists())
            await pilot.press("f8")
            await shows(pilot, "E         Evaluate now")


async def test_problems_are_told_when_the_deck_opens_and_in_help(settings: Path, cpu_machine: object) -> None:
    settings.write_text('[keys]\nstopp = "[/x]"\n')
    app = deck()
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        await shows(pilot, "keys.stopp is no command")
        await pilot.press("question_mark", "end")
        await shows(pilot, "did you mean 'stop'?", "deck.toml")


async def test_jump_mode_goes_to_a_field_by_its_letter(cpu_machine: object) -> None:
    app = deck()
    app.deck.form = demo_form()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "demo (shipped)", "OK")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.screen.query(".jump"))
        lines = screen_text(app).splitlines()
        row = next(line for line in lines if "rank (r)" in line)
        await pilot.press(row[0])
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        assert screen.form_pane.row is not None
        assert screen.form_pane.row.spec.key == "lora.r"


async def test_jump_mode_goes_to_a_row_and_any_other_key_stays(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("ctrl+o", "d")
        await until(pilot, lambda: app.screen.query_one(Rows).highlighted == 2)
        await pilot.press("ctrl+o", "5", "ctrl+o", "escape", "f3", "f3")
        await pilot.pause()
        assert app.screen.query_one(Rows).highlighted == 2
        assert len(app.screen_stack) == 1


async def test_help_begins_with_what_has_the_keyboard(cpu_machine: object) -> None:
    app = deck()
    app.deck.form = demo_form()
    async with app.run_test(size=(80, 40)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("slash", "f1")
        await shows(pilot, "mem<24", "first<0.5")
        await pilot.press("escape", "escape", "2")
        await shows(pilot, "demo (shipped)", "OK")
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        screen.form_pane.go_to("model.dtype")
        await pilot.press("f1")
        await shows(pilot, "model.dtype", "Compute precision", "takes    one of 'auto', 'bf16'", "from     auto: ")
        await pilot.press("escape", "3", "question_mark")
        await shows(pilot, "Keys: run", "crosshair")


def test_a_light_terminal_gets_a_light_theme() -> None:
    assert default_theme({"COLORTERM": "truecolor", "COLORFGBG": "0;15"}, NAMES) == LIGHT
    assert default_theme({"COLORFGBG": "0;15"}, NAMES) == ANSI_LIGHT
    assert default_theme({"COLORFGBG": "15;0"}, NAMES) == ANSI
    assert default_theme({}, NAMES, LIGHT) == LIGHT
    assert default_theme({"TEXTUAL_THEME": TRUECOLOR}, NAMES, LIGHT) == TRUECOLOR


@pytest.mark.parametrize("theme", sorted(NAMES))
async def test_every_theme_draws_every_screen(theme: str, cpu_machine: object) -> None:
    run = make_run()
    record(run, 30, 60, "completed")
    app = attached(run)
    app.deck.form = demo_form()
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        for key, text in (("3", "step 30 of 60"), ("1", "> demo"), ("2", "demo (shipped)"), ("4", "support-bot")):
            await pilot.press(key)
            await shows(pilot, text)


def test_every_screen_of_the_table_has_a_way_to_jump_and_help() -> None:
    for screen in COMMANDS.screens:
        ids = {command.id for command in COMMANDS.of(screen)}
        assert {"jump", "help", "palette", "back", "quit"} <= ids
    assert os.environ.get("TEXTUAL_THEME") is None
