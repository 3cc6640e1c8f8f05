"""Screen 5 on written results: every size, scores, samples, the headline, copying, hostile text."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.api import results
from engine.evaluate.report import KINDS, read_report_of
from engine.evaluate.report import Score as Measured
from engine.runs.events import EventWriter
from tests.tui.conftest import SIZES, deck, screen_text, shows
from tests.tui.golden import same_as
from tests.tui.results_of import (
    RUN_ID,
    SAMPLES,
    SETTINGS,
    FakeTalk,
    exported,
    opened,
    put,
    report,
    scored,
    screen,
    settle,
    told,
    trained,
)
from tests.tui.test_hostile import NASTY, check
from tui.results.exports import (
    make_exported,
)
from tui.results.reader import ResultReader, make_report
from tui.results.scores import fitting, nothing_yet, verdict_parts, which_samples
from tui.text import line


@pytest.mark.parametrize("size", SIZES)
async def test_a_report_is_shown_at_every_size(size: tuple[int, int], cpu_machine: object) -> None:
    app = opened(scored())
    async with app.run_test(size=size) as pilot:
        await pilot.press("5")
        await shows(pilot, "5 Results", "better, 100", "loss per token", "▲", "ISO date for 3 May 1999?")
        text = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in text.splitlines())
        same_as(f"results-{size[0]}x{size[1]}", text)
        title, words = screen(app).help_here() or ("", "")
        assert (title, "95 % interval" in str(words)) == ("Base against tuned", True)
        await pilot.press("e")
        await shows(pilot, "[x] merged", "0.188")
        same_as(f"export-{size[0]}x{size[1]}", re.sub("written to .*", "written to …", screen_text(app)))


async def test_scores_say_which_change_is_more_than_chance(cpu_machine: object) -> None:
    app = opened(scored())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await shows(pilot, "perplexity, ROUGE-L better beyond chance")
        rows = {line[:20].strip(): line for line in screen_text(app).splitlines()}
        assert rows["loss per token"].rstrip().endswith("-8.3205, -7.6734  ────│───● ▲")
        assert rows["exact match %"].rstrip().endswith("-1.0, +99.0  ────┃━━━●")
        assert rows["perplexity"].split() == ["perplexity", "2996.349", "1.018", "-2995.331"]
        assert "3" in rows["repeating answers"]
        await pilot.press("z", "z")
        await shows(pilot, "BLEU")
        assert "3 of 3" not in screen_text(app)


async def test_samples_are_side_by_side_only_where_there_is_room(cpu_machine: object) -> None:
    run = scored()
    for width, beside in ((80, False), (120, True)):
        app = opened(run)
        async with app.run_test(size=(width, 40)) as pilot:
            await pilot.press("5")
            await shows(pilot, "May 3, 1999", "✓ 1999-05-03")
            (line,) = [line for line in screen_text(app).splitlines() if "May 3, 1999" in line]
            assert ("1999-05-03" in line) is beside


async def test_samples_can_be_read_whole_filtered_and_sorted_by_what_changed(cpu_machine: object) -> None:
    app = opened(scored())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await shows(pilot, "samples  3 of 3", "base 1, tuned 2")
        await pilot.press("f")
        await shows(pilot, "samples gained  2 of 3")
        await pilot.press("f")
        await shows(pilot, "samples lost  1 of 3", "What is 4 June 2001?")
        await pilot.press("f", "f", "slash", *"twelfth")
        await shows(pilot, "samples  1 of 3")
        await pilot.press("enter", "enter")
        await shows(pilot, "sample 3", "It is long ago.", "nothing else.")
        await pilot.press("escape", "escape")
        await shows(pilot, "samples  3 of 3")


@pytest.mark.parametrize("size", SIZES)
async def test_what_an_evaluation_does_is_said_without_broken_lines(size: tuple[int, int], cpu_machine: object) -> None:
    run = settle()
    trained(run)
    app = opened(run)
    async with app.run_test(size=size) as pilot:
        await pilot.press("5")
        await shows(pilot, "not evaluated yet", "goes on when the deck is closed", "e  export it")
        lines = [text.strip() for text in screen_text(app).splitlines()]
        assert "v  answers held-out questions with the base and with" in lines
        assert "the tuned model, scores both, and says whether the" in lines
        assert "the evaluation goes on when the deck is closed" in lines


async def test_without_report_the_screen_says_what_can_be_done(cpu_machine: object) -> None:
    run = settle()
    trained(run)
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5")
        await shows(pilot, "not evaluated yet", "200 rows were held out", f"$ engine evaluate {RUN_ID}")
        await pilot.press("V", "4", "enter")
        await shows(pilot, "4 rows are too few to tell better from chance (use 5)")
        await pilot.press("escape")
        put(run.path / "data" / "report.json", {"validation": {"rows": 3}})
        await shows(pilot, "3 rows are too few to tell")
        put(run.path / "data" / "report.json", {"validation": {"rows": 0}})
        await shows(pilot, "the run held no rows out")
        await pilot.press("v")
        await told(pilot, "evaluate: the run held no rows out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: (run.path / "adapter" / "adapter_model.safetensors").unlink(), "left no trained weights"),
        (lambda run: (run.path / "run.json").write_text("{"), "run.json cannot be read"),
        (
            lambda run: settle(settings={**SETTINGS, "train": {"objective": "reward"}}),
            "a reward model scores answers and writes none",
        ),
    ],
)
async def test_what_cannot_be_asked_says_why(change: Any, words: str, cpu_machine: object) -> None:
    run = settle()
    trained(run)
    change(run)
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5")
        await shows(pilot, words)
        await pilot.press("c")
        await told(pilot, words)
        assert screen(app).view == "scores"


def test_a_report_that_is_not_whole_is_told(place: Path) -> None:
    run = settle()
    reader = ResultReader(run)
    put(run.path / "eval" / "report.json", {"verdict": "better"})
    assert "not whole" in reader.read().report_problem
    time.sleep(0.01)
    (run.path / "eval" / "report.json").write_text("[")
    assert "cannot be read" in reader.read().report_problem
    time.sleep(0.01)
    put(run.path / "eval" / "report.json", report())
    found = reader.read()
    assert found.report_problem == ""
    assert found.report is not None
    assert found.report.samples[1].base_right


async def test_copy_takes_what_the_view_shows(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    run = scored()
    app = opened(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await shows(pilot, "ISO date for 3 May")
        await pilot.press("y")
        text = (run.path / "deck-scores.txt").read_text()
        assert "loss per token" in text
        assert "tuned: 1999-05-03" in text
        await pilot.press("e", "y")
        assert "dates-q8_0.gguf" in (run.path / "deck-export.txt").read_text()
        await pilot.press("Y")
        assert app.clipboard == f"engine export {RUN_ID}"


async def test_results_open_from_the_runs_and_the_attached_run(cpu_machine: object) -> None:
    scored()
    other = settle("20260302-101112-other-2b4c")
    trained(other)
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await shows(pilot, "> ", "other-2b4c", "dates-1f3a")
        await pilot.press("down", "v")
        await shows(pilot, "better, 100 of 200", "dates-1f3a")
        await pilot.press("escape")
        await shows(pilot, "dates-1f3a", "2 runs")
        await pilot.press("home", "enter")
        await shows(pilot, "step 100 of 100")
        await pilot.press("5")
        await shows(pilot, "not evaluated yet", "other-2b4c")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_hostile_results(size: tuple[int, int], cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    run = settle(settings={**SETTINGS, "name": NASTY, "model": {"name_or_path": NASTY, "dtype": NASTY}})
    trained(run)
    nasty = [{key: NASTY for key in ("prompt", "reference", "base", "tuned")}]
    found = {**report(NASTY, nasty), "verdict_reason": NASTY, "dtype": NASTY, "device": NASTY}
    put(run.path / "eval" / "report.json", found)
    result = exported(run)
    odd = {"against": NASTY, "answers": [{"text": NASTY}], "max_abs_diff": NASTY}
    formats = [{"format": NASTY, "file": NASTY, **odd}, {"format": "merged", **odd}, NASTY]
    put(run.path / "export-job" / "result.json", {**result, "adapter": NASTY, "parity": {"formats": formats}})
    writer = EventWriter(run.path / "export-job" / "events.jsonl")
    put(run.path / "export-job" / "job.json", {})
    writer.write("warning", code=NASTY, message=NASTY)
    monkeypatch.setattr(results, "Talk", FakeTalk)
    monkeypatch.setattr(FakeTalk, "answer", NASTY + NASTY)
    monkeypatch.setattr(FakeTalk, "warning", NASTY)
    app = opened(run)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.press("5")
        await shows(pilot, "[/x]", "[@click=app.quit]go[/]")
        check(app)
        await pilot.press("enter")
        await shows(pilot, "sample 1", "[INST]")
        check(app)
        await pilot.press("escape", "e", "down")
        await shows(pilot, "the last export failed", "[x] merged")
        check(app)
        await pilot.press("y", "c")
        await pilot.pause()
        check(app)
        await pilot.press(*"[/x]", "enter")
        await shows(pilot, "you", "tuned", "10 tokens", "[INST]")
        check(app)
        await pilot.press("ctrl+y")
    for name in ("export", "chat"):
        assert "\x1b" not in (run.path / f"deck-{name}.txt").read_text()


def test_reports_and_exports_take_anything() -> None:
    assert make_report(read_report_of(report())).samples[0].tuned_right
    assert make_exported(results.result_of({})).written == ()
    assert make_exported(results.result_of({"parity": {"formats": [3, {}]}, "merged": 5})).of("merged") is not None
    samples = make_report(read_report_of(report())).samples
    assert [one.number for one in which_samples(samples, "wrong", "")] == [2]
    assert which_samples(samples, "all", "long ago")[0].prompt == SAMPLES[2]["prompt"]
    scores = make_report(read_report_of(report())).scores
    assert [row.label for row in fitting(scores, 4)] == ["loss per token", "ROUGE-L", "exact match %"]


def test_a_loss_that_surely_rises_is_worse() -> None:
    for kind in KINDS:
        is_loss = "loss" in kind.label or kind.label == "perplexity"
        rises, falls = (Measured(kind, 1.0, 1.2, 0.2, interval) for interval in ((0.1, 0.3), (-0.3, -0.1)))
        assert rises.significance == ("worse" if is_loss else "better"), kind.label
        assert falls.significance == ("better" if is_loss else "worse"), kind.label
    assert Measured(KINDS[0], 1.0, 1.2, 0.2, (-0.1, 0.3)).significance == "chance"
    loss = Measured(KINDS[1], 8.0, 4.0, -4.0, (-8.0, -2.0)).effect
    assert loss is not None
    assert (loss.low, loss.change, loss.high) == (0.25, 0.5, 1.0)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (200, 50)])
async def test_other_sets_of_rows_are_named_with_their_verdicts(size: tuple[int, int], cpu_machine: object) -> None:
    run = scored()
    put(run.path / "eval" / "hard" / "report.json", report("worse") | {"rows_from": "hard [b]\x1b"})
    put(run.path / "eval" / "nf4" / "report.json", report() | {"path": "/models/nf4"})
    app = opened(run)
    async with app.run_test(size=size) as pilot:
        await pilot.press("5", *(("z", "z") if size[1] < 24 else ()))
        await shows(pilot, "other rows: hard [b]\ufffd worse; tables in")
        assert "nf4" not in screen_text(app)


def test_a_run_with_sets_of_rows_alone_can_be_evaluated(place: Path) -> None:
    run = settle(settings={**SETTINGS, "evaluate": {"sets": {"hard": "hard.jsonl"}}})
    trained(run)
    put(run.path / "data" / "report.json", {"validation": {"rows": 0}})
    assert ResultReader(run).read().no_evaluation == ""
    put(run.path / "eval" / "hard" / "report.json", report("worse") | {"rows_from": "hard"})
    assert "other rows: hard worse" in nothing_yet(ResultReader(run).read()).plain


def test_the_headline_says_how_many_rows_were_scored() -> None:
    found = make_report(read_report_of(report()))
    headline = [line(*verdict_parts(replace(found, rows=rows), 80)).plain for rows in (100, 200)]
    few = [{"rows": 4}, {"rows_scored": 2, "rows_answered": 3}, {"rows": 4, "rows_scored": 4, "calls_asked": 9}]
    headline += [line(*verdict_parts(make_report(read_report_of(report() | one)), 80)).plain for one in few]
    assert headline[0] == "better, 100 of 200 held-out rows scored"
    assert headline[1] == "better, all 200 held-out rows scored"
    assert headline[2] == "too few rows to tell, 4 of 200 held-out rows scored"
    assert headline[3] == "too few rows to tell, 100 of 200 held-out rows scored"
    assert headline[4] == "better, 4 of 200 held-out rows scored"
    assert Measured(KINDS[0], 1.0, 1.2, 0.2, None).significance == ""
