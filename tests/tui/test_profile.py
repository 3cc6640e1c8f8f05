"""Screen 2: the form edits a TOML file, says what is wrong in words, and starts runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.api import profiles, runs
from engine.hardware.machine import Machine
from engine.runs.store import create_run
from tests.tui.conftest import SIZES, deck, record, screen_text, shows, until
from tests.tui.small_profile import open_sections
from tui.app import DeckApp
from tui.documents.document import free_path
from tui.documents.form import Form
from tui.documents.new import demo_form, file_form
from tui.profile.field import FieldRow
from tui.profile.screen import ProfileScreen

TEXT = """\
# my own comment
schema_version = 1

[model]
name_or_path = "demo"

[lora]
r = 8  # small

[[data.datasets]]
path = "rows.jsonl"
format = "alpaca"
"""


@pytest.fixture
def profile(place: Path) -> Path:
    (place / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 50)
    path = place / "mine.toml"
    path.write_text(TEXT)
    return path


def opened(path: Path) -> DeckApp:
    app = deck()
    app.deck.form = file_form(path)
    return app


def rows(app: DeckApp) -> dict[str, FieldRow]:
    screen = app.screen_stack[0]
    assert isinstance(screen, ProfileScreen)
    return {row.spec.key: row for row in screen.form_pane.rows}


async def ready(pilot: Any, app: DeckApp) -> None:
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen, ProfileScreen) and rows(app) and app.focused is not None)
    open_sections(app)


@pytest.mark.parametrize("size", SIZES)
async def test_form_shows_values_with_their_source(size: tuple[int, int], profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await shows(pilot, "mine.toml", "OK", "GiB free", "max length", "auto", "profile", "default", "^s save")
        text = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in text.splitlines())
        assert rows(app)["lora.r"].state.value == "8"
        assert rows(app)["lora.r"].state.source == "profile"
        assert rows(app)["lora.alpha"].state.source == "default"
        assert rows(app)["model.dtype"].state.source.startswith("auto: ")


async def test_an_edit_moves_the_prediction_and_saves_with_comments(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        screen = app.screen
        assert isinstance(screen, ProfileScreen)

        def trained() -> int:
            return screen.form_pane.found.plan.estimate.trainable_parameters if screen.form_pane.found.plan else 0

        await until(pilot, lambda: trained() > 0)
        before = trained()
        rows(app)["lora.r"].focus()
        await pilot.press("enter", "ctrl+u", *"64")
        await until(pilot, lambda: trained() == 8 * before)
        await pilot.press("enter")
        await shows(pilot, "mine.toml *", "edited")
        assert profile.read_text() == TEXT
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "r = 64  # small" in profile.read_text())
        assert profile.read_text() == TEXT.replace("r = 8", "r = 64")
        await until(pilot, lambda: "mine.toml *" not in screen_text(app))


async def test_escape_gives_an_edit_up(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        rows(app)["lora.r"].focus()
        await pilot.press("enter", "ctrl+u", *"64", "escape")
        await pilot.pause()
        assert rows(app)["lora.r"].state.value == "8"
        assert app.deck.form is not None
        assert not app.deck.form.dirty


@pytest.mark.parametrize(
    ("key", "typed", "said"),
    [
        ("lora.r", "0", "must be a whole number from 1 to 1,024"),
        ("lora.r", "1e", "must be a whole number from 1 to 1,024"),
        ("train.learning_rate", "fast", "must be a number above 0 and at most 1, or 'auto'"),
        ("model.max_length", "1", "must be a whole number from 16 to 1,048,576, or 'auto'"),
        ("evaluate.metrics", "charm", "must be a list of 'perplexity'"),
        ("name", "a b", "must be text of letters"),
    ],
)
async def test_a_wrong_value_is_told_in_words(
    key: str, typed: str, said: str, profile: Path, cpu_machine: Machine
) -> None:
    app = opened(profile)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        rows(app)[key].focus()
        await pilot.press("enter", "ctrl+u", *typed, "enter")
        await shows(pilot, said)
        assert rows(app)[key].editing
        assert app.deck.form is not None
        assert key not in app.deck.form.edits


async def test_undo_auto_and_choices(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        form = app.deck.form
        assert form is not None
        rows(app)["model.dtype"].focus()
        await pilot.press("enter")
        await shows(pilot, "fp32", "esc cancel")
        await pilot.press("end", "enter")
        await until(pilot, lambda: form.edits == {"model.dtype": "fp32"})
        await pilot.press("a")
        await until(pilot, lambda: form.edits == {})
        await pilot.press("u")
        await until(pilot, lambda: form.edits == {"model.dtype": "fp32"})
        rows(app)["data.packing"].focus()
        await pilot.press("space")
        await until(pilot, lambda: form.given("data.packing") is False)


async def test_problems_are_listed_and_jumped_to(profile: Path, cpu_machine: Machine) -> None:
    profile.write_text(TEXT.replace("rows.jsonl", "gone.jsonl").replace("r = 8", "r = 0"))
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await shows(pilot, "problem", "gone.jsonl")
        await pilot.press("n")
        first = app.screen.focused
        assert isinstance(first, FieldRow)
        await pilot.press("n")
        assert app.screen.focused is not first
        await pilot.press("ctrl+r")
        await pilot.pause(0.2)
        assert app.current_mode == "profile"
        assert runs.list_runs() == []


async def test_advanced_settings_come_and_go(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert "lora.use_dora" not in rows(app)
        await pilot.press("v")
        await until(pilot, lambda: "lora.use_dora" in rows(app))
        await pilot.press("v")
        await until(pilot, lambda: "lora.use_dora" not in rows(app))


async def test_leaving_with_edits_asks(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        rows(app)["data.packing"].focus()
        await pilot.press("space", "q")
        await shows(pilot, "edits that are not saved")
        await pilot.press("n")
        assert app.is_running
        await pilot.press("q", "y")
    assert app.return_code == 0


async def test_open_lists_profiles_here_and_shipped(profile: Path, cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "no profile is open")
        await pilot.press("o")
        await shows(pilot, "mine.toml", "here", "demo", "shipped")
        await pilot.press("enter")
        await shows(pilot, "mine.toml", "rank (r)")


async def test_three_keys_start_the_demo(cpu_machine: Machine, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    started: list[tuple[str, dict[str, Any], str]] = []

    def start(name: str, run_json: dict[str, Any], text: str) -> tuple[Any, subprocess.Popen[bytes]]:
        started.append((name, run_json, text))
        run = create_run(name, run_json, text)
        record(run, 40, 80)
        return run, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])

    monkeypatch.setattr(runs, "start_run", start)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("enter")
        await shows(pilot, "make a profile", "activations")
        await pilot.press("enter")
        await shows(pilot, "demo (shipped)", "OK")
        await pilot.press("ctrl+r")
        await shows(pilot, "step 40 of 80", "loss")
        await pilot.press("4")
        await shows(pilot, "demo")
        process = app.deck.process
        assert process is not None
        process.kill()
        process.wait()
    name, run_json, text = started[0]
    assert name == "demo"
    assert run_json["settings"]["model"]["name_or_path"] == "demo"
    assert 'name_or_path = "demo"' in text
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("size", SIZES)
async def test_one_of_several_processes_starts_no_run_and_says_why(
    size: tuple[int, int], cpu_machine: Machine, monkeypatch: pytest.MonkeyPatch, profile: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await shows(pilot, "mine.toml", "OK")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: any("WORLD_SIZE=2" in str(notice.message) for notice in app._notifications))
    assert runs.list_runs() == []


def test_saving_keeps_what_somebody_else_changed_meanwhile(profile: Path) -> None:
    form = file_form(profile)
    form.set("lora.r", 32)
    profile.write_text(TEXT.replace("# my own comment", "# changed elsewhere"))
    notice = form.save()
    assert "changed" in notice
    assert "# changed elsewhere" in profile.read_text()
    assert "r = 32" in profile.read_text()


def test_a_shipped_profile_is_saved_as_a_copy_here(place: Path) -> None:
    form = demo_form()
    assert not form.dirty
    form.set("train.num_train_epochs", 1.0)
    assert form.dirty
    form.save()
    assert (place / "demo.toml").is_file()
    assert free_path("demo", place) == place / "demo-2.toml"


def test_editing_back_to_the_file_s_value_is_no_edit(profile: Path) -> None:
    form = file_form(profile)
    assert form.set("lora.r", 16)
    assert form.set("lora.r", 8)
    assert not form.dirty
    assert form.undo() == "lora.r"
    assert form.given("lora.r") == 16
    assert not Form(profile, TEXT, on_disk=True).set("lora.r", 8)


async def test_redo_makes_again_what_undo_took_back(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await ready(pilot, app)
        form = app.deck.form
        assert form is not None
        rows(app)["data.packing"].focus()
        await pilot.press("space", "u")
        assert form.edits == {}
        await pilot.press("U")
        assert form.edits == {"data.packing": False}
        await pilot.press("U")
        await until(pilot, lambda: any("nothing was taken back" in str(n.message) for n in app._notifications))
        await pilot.press("u")
        rows(app)["data.packing"].focus()
        await until(pilot, lambda: app.focused is rows(app)["data.packing"])
        await pilot.press("space")
        await until(pilot, lambda: not form.can_redo)


async def test_difference_shows_what_would_be_written(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        rows(app)["lora.r"].focus()
        await pilot.press("enter", "ctrl+u", *"64", "enter", "equals_sign")
        await shows(pilot, "Compare with", "mine.toml", "on disk", "demo (shipped)")
        await pilot.press("enter")
        await shows(pilot, "-r = 8  # small", "+r = 64  # small")
        await pilot.press("escape", "equals_sign", "down", "enter")
        await shows(pilot, "this form against", "+# my own comment")


async def test_save_as_leaves_the_old_file_and_keeps_relative_paths(profile: Path, cpu_machine: Machine) -> None:
    other = profile.parent / "elsewhere"
    other.mkdir()
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        rows(app)["lora.r"].focus()
        await pilot.press("enter", "ctrl+u", *"64", "enter", "S")
        await shows(pilot, "Save as")
        await pilot.press("ctrl+u", *"mine", "enter")
        await shows(pilot, "is there already")
        await pilot.press("ctrl+u", *"elsewhere/new", "enter")
        await until(pilot, lambda: (other / "new.toml").is_file())
        assert profile.read_text() == TEXT
        text = (other / "new.toml").read_text()
        assert "r = 64  # small" in text
        assert f'path = "{profile.parent}/rows.jsonl"' in text
        await shows(pilot, "new.toml")
        assert app.deck.form is not None
        assert not app.deck.form.dirty


async def test_a_file_changed_on_disk_is_read_again_or_told(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        profile.write_text(TEXT.replace("r = 8", "r = 12"))
        screen.files.check_disk()
        await until(pilot, lambda: "lora.r" in rows(app) and rows(app)["lora.r"].state.value == "12")
        rows(app)["data.packing"].focus()
        await pilot.press("space")
        profile.write_text(TEXT.replace("r = 8", "r = 20  # theirs"))
        screen.files.check_disk()
        await shows(pilot, "changed on disk", "R take over")
        assert rows(app)["lora.r"].state.value == "12"
        await pilot.press("R")
        await until(pilot, lambda: "lora.r" in rows(app) and rows(app)["lora.r"].state.value == "20")
        assert app.deck.form is not None
        assert app.deck.form.edits == {"data.packing": False}


async def test_another_file_is_opened_by_its_path(profile: Path, cpu_machine: Machine) -> None:
    (profile.parent / "deep").mkdir()
    hidden = profile.parent / "deep" / "other.toml"
    hidden.write_text(TEXT)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2", "o")
        await shows(pilot, "another file")
        await pilot.press("end", "enter", *"deep/none.toml", "enter")
        await shows(pilot, "there is no file deep/none.toml")
        await pilot.press("ctrl+u", *"deep/other.toml", "enter")
        await shows(pilot, "other.toml", "rank (r)")


async def test_the_time_of_a_run_moves_with_the_settings(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        await until(pilot, lambda: screen.time() is not None)
        before = screen.time()
        assert before is not None
        assert before.source == "by file size"
        rows(app)["train.num_train_epochs"].focus()
        await pilot.press("enter", "ctrl+u", *"30")
        await until(pilot, lambda: (now := screen.time()) is not None and now.tokens > 9 * before.tokens)


# One wrong value after the other for each kind of field: typed text, and the beginning of what the form says.
WRONG = [
    ("int", "lora.r", "", "needs a whole number from 1 to 1,024"),
    ("int", "lora.r", "eight", "must be a whole number from 1 to 1,024"),
    ("int", "lora.r", "8.5", "must be a whole number from 1 to 1,024"),
    ("int", "lora.r", "-1", "must be a whole number from 1 to 1,024"),
    ("int", "lora.r", "1e9", "must be a whole number from 1 to 1,024"),
    ("int or auto", "model.max_length", "16q", "must be a whole number from 16 to 1,048,576, or 'auto'"),
    ("float", "lora.dropout", "nan", "must be a number "),
    ("float", "lora.dropout", "1.5", "must be a number "),
    ("float", "lora.dropout", "0,1", "must be a number "),
    ("float", "train.num_train_epochs", "0", "must be a number above 0 and at most 1,000"),
    ("float or auto", "train.learning_rate", "inf", "must be a number above 0 and at most 1, or 'auto'"),
    ("switch", "train.activation_checkpointing", "maybe", "must be true, false or a whole number from 1 to 1,000"),
    ("switch", "train.activation_checkpointing", "0", "must be true, false or a whole number from 1 to 1,000"),
    ("text", "name", "../etc", "must be text of letters"),
    ("list of words", "evaluate.metrics", "perplexity, charm", "must be a list of 'perplexity'"),
    ("list of names", "lora.target_modules", ",", "must be 'all-linear' or a list of names"),
    ("table", "data.datasets.0.columns", "question", "must be a table of names"),
]


@pytest.mark.parametrize(("kind", "key", "typed", "said"), WRONG, ids=[f"{key}={typed}" for _, key, typed, _ in WRONG])
async def test_each_kind_of_field_says_what_it_takes(
    kind: str, key: str, typed: str, said: str, profile: Path, cpu_machine: Machine
) -> None:
    spec = profiles.field_at(key)
    assert spec is not None
    with pytest.raises(ValueError, match=said.replace(".", r"\.")) as told:
        profiles.parse_value(spec, typed)
    assert "\n" not in str(told.value)


async def test_a_choice_and_a_switch_cannot_be_wrong(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        for key, row in rows(app).items():
            if row.spec.kind in ("choice", "bool"):
                row.focus()
                await pilot.press("space")
                await pilot.pause()
                value = app.deck.form.given(key) if app.deck.form else None
                assert value in (*row.spec.choices, True, False), key
