"""The form of 102 settings: the most used come first, sections fold, and a filter finds the rest as one types."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.hardware.machine import Machine
from tests.tui.conftest import screen_text, shows, until
from tests.tui.keyboard import CLEAR, DOWN, ENTER, at_once
from tests.tui.small_profile import SMALL, TEXT, current, form_of, opened, pane_of, rows
from tui.app import DeckApp
from tui.documents.form import Form, Preview, form_fields
from tui.profile.form_filter import matches, parse_filter
from tui.profile.outline import MOST_USED, sections_of
from tui.profile.section_row import heading_content, heading_state
from tui.profile.view import label_of, row_state

FORM = Form(Path("mine.toml"), TEXT + '[[data.datasets]]\npath = "more.jsonl"\n', edits={"train.seed": 7})
FIELDS = form_fields(FORM)
TOTAL = len(form_fields(Form(Path("mine.toml"), TEXT)))


def found(text: str) -> set[str]:
    """The settings that a filter leaves."""
    asked = parse_filter(text)
    return {spec.key for spec in FIELDS if matches(spec, row_state(spec, FORM, Preview()), asked)}


def test_no_two_settings_share_a_label() -> None:
    assert [label for label, count in Counter(map(label_of, FIELDS)).items() if count > 1] == []
    labels = {spec.key: label_of(spec) for spec in FIELDS}
    assert labels["data.max_samples"] == "data max samples"
    assert labels["data.datasets.1.max_samples"] == "file max samples 2"


def test_the_most_used_come_first_and_every_setting_comes_once() -> None:
    first, *others = sections_of(FIELDS)
    keys = [spec.key for spec in first.specs]
    assert [key for key in keys if key != "data.datasets.1.path"] == list(MOST_USED)
    assert len(MOST_USED) == 8
    every = [spec.key for section in (first, *others) for spec in section.specs]
    assert sorted(every) == sorted(spec.key for spec in FIELDS)


@pytest.mark.parametrize(
    ("text", "key", "other"),
    [
        ("warm share", "train.warmup_ratio", "train.warmup_steps"),
        ("use_dora", "lora.use_dora", "lora.use_rslora"),
        ("recompute", "train.activation_checkpointing", "train.seed"),
        ("alpaca", "data.datasets.0.format", "data.datasets.0.weight"),
        ("lr", "train.learning_rate", "train.warmup_ratio"),
        ("max samples -evaluate", "data.max_samples", "evaluate.max_samples"),
        ("is:edited", "train.seed", "lora.r"),
        ("is:profile", "lora.r", "train.seed"),
        ("is:auto batch", "train.total_batch_size", "train.learning_rate"),
        ("SEED is:def", "sweep.seed", "train.seed"),
    ],
)
def test_words_find_names_helps_values_and_sources(text: str, key: str, other: str) -> None:
    assert key in found(text)
    assert other not in found(text)


def test_a_state_that_there_is_not_is_named() -> None:
    assert "is:edited" in parse_filter("is:new").problem
    assert found("") == {spec.key for spec in FIELDS}


def test_a_heading_says_what_is_edited_inside() -> None:
    states = [row_state(spec, FORM, Preview()) for spec in FIELDS if spec.table == "train"]
    text = heading_content(heading_state("training", states, False, ""), 60).plain
    assert cell_len(text) <= 60
    assert text.startswith(" ▸ training")
    assert text.endswith("1 edited")


def types(app: DeckApp) -> bool:
    return isinstance(app.focused, Input)


@pytest.mark.parametrize("size", SMALL)
async def test_a_filter_shows_what_it_finds_and_gives_it_back(
    size: tuple[int, int], profile: Path, cpu_machine: Machine
) -> None:
    app = opened(profile)
    async with app.run_test(size=size) as pilot:
        at_once(pilot, "2", DOWN, DOWN, "/warm")
        await shows(pilot, "warmup ratio", "warmup steps", f"2 of {TOTAL}", "▾ training")
        assert all(cell_len(line) <= size[0] for line in screen_text(app).splitlines())
        assert "max length" not in screen_text(app)
        at_once(pilot, " is:new")
        await shows(pilot, "'is:new' is none of")
        at_once(pilot, CLEAR, "warm", ENTER)
        await until(pilot, lambda: current(app) == "train.warmup_ratio")
        at_once(pilot, DOWN)
        await until(pilot, lambda: current(app) == "train.warmup_steps")
        at_once(pilot, ENTER, "7", ENTER, "u")
        await pilot.press("escape")
        await until(pilot, lambda: "train.weight_decay" in rows(app))  # its section is open
        assert current(app) == "train.warmup_steps"
        at_once(pilot, "/zzz")
        await shows(pilot, f"0 of {TOTAL}", "no setting matches")
        await pilot.press("escape")
        await until(pilot, lambda: not types(app) and current(app) == "train.warmup_steps")
        await pilot.press("escape")
        await until(pilot, lambda: app.current_mode == "fit")


async def test_sections_fold_and_brackets_go_between_them(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "2", "]")
        await shows(pilot, ">▸ model", "▸ LoRA", "total batch size")
        assert list(rows(app)) == list(MOST_USED)
        at_once(pilot, ENTER, DOWN)
        await until(pilot, lambda: current(app) == "model.dtype")
        at_once(pilot, "]", "[", DOWN, "[")
        await shows(pilot, ">▾ model", "7 advanced: v shows them")
        at_once(pilot, ENTER, "[")
        await until(pilot, lambda: current(app) == MOST_USED[0])
        at_once(pilot, "f")
        await until(pilot, lambda: "launch.device" in rows(app) and "lora.use_dora" not in rows(app))
        form_of(app).form_pane.go_to("launch.device")
        at_once(pilot, "f")
        await shows(pilot, ">▸ launch")
        assert list(rows(app)) == list(MOST_USED)
        form_of(app).form_pane.go_to("train.seed")
        await until(pilot, lambda: current(app) == "train.seed")


async def test_a_key_of_the_filter_takes_no_time(profile: Path, cpu_machine: Machine) -> None:
    app = opened(profile)
    async with app.run_test(size=(80, 24)) as pilot:
        at_once(pilot, "2")
        await until(pilot, lambda: rows(app) and pane_of(app).found.plan is not None)
        spent = []
        for text in ("m", "ma", "max", "is:auto", "l", "lo"):
            began = time.process_time()
            pane_of(app).filter_by(parse_filter(text))
            spent.append(time.process_time() - began)
            await pilot.pause()
        assert sorted(spent)[2] < 0.05
