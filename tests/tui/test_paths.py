"""Paths are completed by tab, and a name that is not there is answered with the nearest."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from textual.widgets import Input

from engine.hardware.machine import Machine
from tests.tui.conftest import deck, screen_text, shows, until
from tests.tui.keyboard import CLEAR, DOWN, ENTER, TAB, at_once
from tests.tui.small_profile import current, on_row, opened
from tui.app import DeckApp
from tui.documents import completion
from tui.documents.completion import Wanted, complete, wanted_by
from tui.documents.new import data_path_problem
from tui.frame import path_field


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for name in (
        "data/a.jsonl",
        "data/alpha.json",
        "data/.hidden.json",
        "data/notes.txt",
        "deep/x.gguf",
        "evil\x1b[2J.json",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("{}")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("typed", "text", "choices"),
    [
        ("da", "data/", ()),
        ("DA", "data/", ()),
        ("d", "d", ("data/", "deep/")),
        ("", "d", ("data/", "deep/")),
        ("data/", "data/a", ("a.jsonl", "alpha.json")),
        ("data/al", "data/alpha.json", ()),
        ("data/.", "data/.hidden.json", ()),
        ("~", "~/", ()),
        ("~/da", "~/data/", ()),
        ("hub:ow", "hub:ow", ()),
    ],
)
def test_a_path_goes_on_as_far_as_there_is_one_way(
    folder: Path, typed: str, text: str, choices: tuple[str, ...]
) -> None:
    found = complete(typed, Wanted(folder, (".json", ".jsonl"), names=("hub:",)))
    assert (found.text, found.choices) == (text, choices)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("data/alpah", "nothing here begins with 'alpah': did you mean 'alpha.json'?"),
        ("dta/", "there is no folder dta/: did you mean 'data'?"),
        ("data/a.jsonl/", "data/a.jsonl/: not a directory"),
        ("a\x00b/", "embedded null byte"),
        ("~nobody-of-this-name/", "could not determine home directory"),
        ("ev", "nothing here begins with 'ev'"),
    ],
)
def test_what_cannot_be_completed_is_said(folder: Path, typed: str, said: str) -> None:
    found = complete(typed, Wanted(folder))
    assert found.text == typed
    assert said in found.problem


def test_each_setting_wants_its_own_kind(folder: Path) -> None:
    assert complete("d", wanted_by("evaluate.bertscore_encoder", folder / "data") or Wanted(folder)).choices == ()
    assert complete("deep/", wanted_by("model.name_or_path", folder) or Wanted(folder)).text == "deep/x.gguf"
    assert wanted_by("data.datasets.3.path", folder) is not None
    assert wanted_by("name", folder) is None


def test_a_model_is_known_by_its_name_too(folder: Path) -> None:
    wanted = wanted_by("model.name_or_path", folder)
    assert wanted is not None
    assert complete("smollm2-135m-i", wanted).text == "HuggingFaceTB/SmolLM2-135M-Instruct"
    found = complete("qwen/qwen3-0", wanted)
    assert found.text == "Qwen/Qwen3-0.6B"
    assert set(found.choices) >= {"Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base"}
    assert "nothing here begins" in complete("no model of this name", wanted).problem


def test_many_choices_are_counted(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"part-{number:02}.json").touch()
    said = complete("p", Wanted(tmp_path)).said
    assert said.startswith("part-00.json  part-01.json")
    assert said.endswith("… 20 more")


def test_a_data_path_may_be_what_the_engine_takes(profile: Path) -> None:
    assert data_path_problem("rows.jsonl") == data_path_problem(".") == data_path_problem("hub:tatsu-lab/alpaca") == ""
    assert data_path_problem("rows").endswith("did you mean 'rows.jsonl'?")
    assert data_path_problem("hub:x y").startswith("no name of the hub")


def value(app: DeckApp) -> str:
    return app.focused.value if isinstance(app.focused, Input) else ""


async def test_tab_completes_and_enter_takes_in_one_go(profile: Path) -> None:
    (profile.parent / "rows").mkdir()
    app = opened(profile)
    async with app.run_test(size=(60, 16)) as pilot:
        await on_row(pilot, app, "data.datasets.0.path")
        at_once(pilot, ENTER, CLEAR, "ro", TAB)
        await shows(pilot, "rows.jsonl", "rows/")
        assert value(app) == "rows"
        at_once(pilot, ".", TAB, ENTER)
        await until(pilot, lambda: current(app) == "model.max_length")
        assert app.deck.form is not None
        assert app.deck.form.edits == {}, "it is the file that it was"
        at_once(pilot, "k", ENTER, CLEAR, "rwos.jsonl", ENTER, "k")
        await shows(pilot, "did you mean 'rows.jsonl'?")


async def test_the_dialog_names_the_nearest_and_completes(profile: Path, cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        at_once(pilot, DOWN, "prow", ENTER)
        await shows(pilot, "you mean 'rows.jsonl'?")
        at_once(pilot, TAB, ENTER)
        await until(pilot, lambda: app.current_mode == "profile" and current(app) != "")
        assert app.deck.form is not None
        assert app.deck.form.given("data.datasets.0.path") == "rows.jsonl"


async def test_a_folder_that_does_not_answer_holds_nothing_up(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(folder: Path, wanted: Wanted, hidden: bool) -> list[str]:
        answered.wait(20)
        return ["rows.jsonl"]

    monkeypatch.setattr(completion, "_names", hang)
    monkeypatch.setattr(path_field, "PATIENCE_S", 0.1)
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        await on_row(pilot, app, "data.datasets.0.path")
        began = time.monotonic()
        at_once(pilot, ENTER, CLEAR, "ro", TAB)
        await shows(pilot, "takes long to answer")
        at_once(pilot, "xy")
        await until(pilot, lambda: value(app) == "roxy")
        assert time.monotonic() - began < 15
        answered.set()
        await pilot.pause(0.2)
        assert value(app) == "roxy", "it came too late"
        assert "takes long" not in screen_text(app)
