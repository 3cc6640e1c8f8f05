"""The data pane: a real worker reads good and bad data; what it found is shown, marked and harmless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.api import runs
from engine.hardware.machine import Machine
from tests.tui.conftest import deck, screen_text, shows, until
from tui.app import DeckApp
from tui.documents.new import file_form
from tui.profile.data_view import examples_content, marked, report_content
from tui.profile.screen import ProfileScreen

NASTY = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202e[/x] [@click=app.quit]go[/]"
TEXT = """\
[model]
name_or_path = "demo"
max_length = 128

[[data.datasets]]
path = "rows.jsonl"
format = "prompt-completion"
"""


def opened(place: Path, rows: list[dict[str, Any]], more: str = "") -> DeckApp:
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "mine.toml").write_text(TEXT + more)
    app = deck()
    app.deck.form = file_form(place / "mine.toml")
    return app


REPORT = {
    "datasets": [
        {
            "path": f"/tmp/{NASTY}.jsonl",
            "format": "alpaca",
            "why": NASTY,
            "rows_read": 10,
            "kept": 7,
            "cut": 2,
            "dropped": [{"cause": NASTY, "rows": 3, "first_rows": [1, 2], "detail": NASTY}],
            "notes": [NASTY],
        }
    ],
    "train": {"rows": 7, "sequences": 5, "tokens": 500, "trained_tokens": 100, "packing_efficiency": 0.9},
    "validation": None,
    "validation_source": "",
    "duplicates": 2,
    "max_length": 128,
    "lengths": {"percentiles": {"p50": 30}},
    "template": NASTY,
    "template_why": NASTY,
    "ends": [NASTY],
    "warnings": [NASTY],
}
PREVIEW = {
    "max_length": 128,
    "documents": [
        {
            "row": 1,
            "length": 3,
            "trained_tokens": 1,
            "tokens": [
                {"text": f"ask {NASTY}", "trained": False, "kept": True},
                {"text": "answer", "trained": True, "kept": True},
                {"text": "beyond", "trained": True, "kept": False},
            ],
        }
    ],
    "problems": [{"path": NASTY, "row": 3, "cause": NASTY, "detail": NASTY}],
    "warnings": [NASTY],
}


def test_hostile_data_are_text_and_nothing_else() -> None:
    for content in (report_content(REPORT), examples_content(PREVIEW)):
        assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in content.plain)
        assert "[@click=app.quit]go[/]" in content.plain
        assert not any("click" in str(span.style) for span in content.spans)


def test_the_report_says_what_became_of_every_row() -> None:
    text = report_content(REPORT).plain
    assert "10 read, 7 kept, 2 cut, 3 dropped" in text
    assert "3 × " in text
    assert "row 1, 2, …" in text
    assert "100 (20%)" in text


def test_the_report_names_what_nobody_reads_that_which_matters_first() -> None:
    unread = [
        {"what": "column", "name": "split", "rows": 1200, "matters": True},
        {"what": "message key", "name": "mood" + NASTY, "rows": 3, "matters": False},
    ]
    report = {**REPORT, "datasets": [{**REPORT["datasets"][0], "unread": unread}]}  # type: ignore[dict-item]
    content = report_content(report)
    told = [text for text in content.plain.split("\n") if text.startswith("not read")]
    assert "split (1,200 rows)" in told[0]
    assert "message key mood" in told[1]
    assert not any(ord(c) < 32 and c != "\n" for c in content.plain)


def test_trained_tokens_stand_in_brackets_and_cut_ones_are_gone() -> None:
    text = examples_content(PREVIEW).plain
    assert "⟦answer⟧" in text
    assert "beyond" not in text
    spoken = [
        {"text": "ask ", "trained": False, "part": ""},
        {"text": "hm", "trained": True, "part": "thoughts"},
        {"text": "look()", "trained": True, "part": "calls"},
        {"text": "cold", "trained": False, "part": "results"},
        {"text": "It is.", "trained": True, "part": "text"},
    ]
    assert marked(spoken).plain == "ask T⟦hm⟧C⟦look()⟧R⟨cold⟩⟦It is.⟧"
    document = {"path": "x", "row": 1, "length": 5, "trained_tokens": 3, "tokens": [t | {"kept": True} for t in spoken]}
    assert "T⟦…⟧ a thought" in examples_content(PREVIEW | {"documents": [document]}).plain
    assert "a thought" not in text
    long = [{"text": "word " * 3000, "trained": False}, {"text": "end", "trained": True}]
    assert len(marked(long).plain) < 5000


@pytest.mark.usefixtures("warm_workers")
async def test_good_data_are_read_and_counted_by_a_worker(place: Path, cpu_machine: Machine) -> None:
    rows = [{"prompt": f"say {number}", "completion": f"it is {number}"} for number in range(40)]
    app = opened(place, rows, "[train]\nnum_train_epochs = 2.0\nper_device_train_batch_size = 2\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "mine.toml", "OK", "about ")
        await pilot.press("d")
        await until(pilot, lambda: "40 rows to train on" in screen_text(app) or "to train on" in screen_text(app), 120)
        await shows(pilot, "prompt-completion", "40 read, 40 kept, 0 cut, 0 dropped", "trained on")
        await pilot.press("end")
        await shows(pilot, "⟦it is ")
        await pilot.press("escape")
        screen = app.screen
        assert isinstance(screen, ProfileScreen)
        await until(pilot, lambda: (time := screen.time()) is not None and time.source == "data counted")


@pytest.mark.usefixtures("warm_workers")
async def test_failing_data_say_which_rows_and_what_to_do(place: Path, cpu_machine: Machine) -> None:
    rows = [{"prompt": "", "completion": ""} for _ in range(10)]
    app = opened(place, rows)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "mine.toml", "OK")
        await pilot.press("d")
        await until(pilot, lambda: "cannot be used" in screen_text(app), 60)
        # The path may be broken into two lines.
        await until(pilot, lambda: "rows.jsonl" in "".join(screen_text(app).split()))
        await pilot.press("escape")
        await shows(pilot, "mine.toml")


async def test_data_that_are_not_there_are_a_problem_of_the_form(place: Path, cpu_machine: Machine) -> None:
    app = opened(place, [])
    (place / "rows.jsonl").unlink()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await shows(pilot, "problem", "rows.jsonl")
        await pilot.press("d")
        await until(pilot, lambda: any("not read" in str(notice.message) for notice in app._notifications))


async def test_closing_the_pane_ends_its_worker(
    place: Path, cpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def run_job(job: dict[str, Any], told: Any, **_: Any) -> dict[str, Any]:
        import time

        try:
            for number in range(400):
                told({"type": "progress", "done": number, "total": 400})
                time.sleep(0.02)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        return {}

    monkeypatch.setattr(runs, "run_job", run_job)
    app = opened(place, [{"prompt": "a", "completion": "b"}])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await shows(pilot, "mine.toml", "OK")
        await pilot.press("d")
        await shows(pilot, "of 400 rows")
        await pilot.press("escape")
        await until(pilot, lambda: ended == ["Closed"])
