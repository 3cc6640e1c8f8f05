"""Screen 5 on written results: every size, jobs as their folders tell them, choices, samples, hostile text."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from engine.api import results, runs
from engine.evaluate.report import KINDS, read_report_of
from engine.evaluate.report import Score as Measured
from engine.profile.tables.outcome import Export
from engine.runs.events import EventWriter
from engine.runs.store import Run
from tests.tui.conftest import HOLD, SIZES, deck, screen_text, shows, until
from tests.tui.golden import same_as
from tests.tui.results_of import RUN_ID, SAMPLES, SETTINGS, FakeTalk, exported, put, report, settle, trained
from tests.tui.test_hostile import NASTY, check
from tui.app import DeckApp
from tui.reading.jobs import JobReader
from tui.results.commands import ResultsState
from tui.results.exports import (
    FORMATS,
    Choices,
    command,
    first_choices,
    make_exported,
    size_estimate,
    toggled,
)
from tui.results.reader import ResultReader, make_report
from tui.results.scores import fitting, verdict_parts, which_samples
from tui.results.screen import ResultsScreen
from tui.text import line


def opened(run: Run) -> DeckApp:
    """A deck whose fifth screen will show `run`."""
    app = deck()
    app.deck.chosen = run
    return app


def screen(app: DeckApp) -> ResultsScreen:
    """The results screen, also when something lies above it."""
    found = app.screen_stack[0]
    assert isinstance(found, ResultsScreen)
    return found


def scored() -> Run:
    """A run with a report and an export."""
    run = settle()
    trained(run)
    put(run.path / "eval" / "report.json", report())
    exported(run)
    return run


async def told(pilot: Pilot[Any], text: str) -> None:
    """Wait for a notice with `text`."""
    await until(pilot, lambda: any(text in str(notice.message) for notice in pilot.app._notifications))


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


async def test_an_evaluation_of_another_shell_is_followed_to_its_end(cpu_machine: object) -> None:
    run = settle()
    trained(run)
    place = run.path / "eval"
    put(place / "job.json", {"job": "evaluate"})
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(place / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    writer = EventWriter(place / "events.jsonl")
    writer.write("phase", name="evaluate", detail="answers of tuned")
    writer.write("progress", phase="evaluate", done=25, total=100, unit="answers")
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5")
        await shows(pilot, "evaluating: answers of tuned", "███░░░░░░░░░", "25 of 100 answers")
        await pilot.press("v")
        await told(pilot, "an evaluation is under way")
        writer.write("error", code="resources", message="out of memory", hint="evaluate fewer rows")
        writer.write("finished", outcome="failed", exit_code=5)
        holder.kill()
        holder.wait()
        holder.stdout.close()
        await shows(pilot, "the last evaluation failed: out of memory", "evaluate fewer rows")


async def test_a_job_is_ended_by_key(cpu_machine: object) -> None:
    run = scored()
    place = run.path / "export-job"
    put(place / "job.json", {"job": "export"})
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(place / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    app = opened(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "e")
        await until(pilot, lambda: app.deck.of(ResultsState).exporting)
        await pilot.press("x")
        await until(pilot, lambda: holder.poll() is not None)
    holder.stdout.close()


def test_a_job_is_told_by_its_folder(tmp_path: Path) -> None:
    reader = JobReader(tmp_path)
    assert reader.read().state == ""
    assert reader.read(starting=True).state == "running"
    put(tmp_path / "job.json", {})
    assert reader.read().state == "running"  # young, without lock or event: starting
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write("warning", code="x", message="half of it")
    view = reader.read()
    assert view.state == "lost"
    assert view.warnings == ("half of it",)
    assert "worker.log" in view.error[1]
    writer.write("finished", outcome="completed")
    assert reader.read().state == "completed"
    time.sleep(0.01)
    (tmp_path / "events.jsonl").unlink()
    put(tmp_path / "job.json", {"again": 1})
    assert reader.read() == JobReader(tmp_path).read()
    assert reader.read().warnings == ()


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


def test_an_export_that_was_deleted_is_not_shown(place: Path) -> None:
    run = scored()
    reader = ResultReader(run)
    found = reader.read().exported
    assert found is not None
    assert [one.name for one in found.written] == ["adapter", "merged", "nf4", "gguf q8_0"]
    assert found.of("nf4") is not None
    (run.path / "export").rename(run.path / "elsewhere")
    assert reader.read().exported is None


def test_the_deck_offers_every_format_of_the_exporter() -> None:
    kinds = Export.model_fields
    known = {name: set(get_args(get_args(kinds[name].annotation)[0])) for name in ("quantized", "gguf")}
    offered = {name for name, _ in FORMATS}
    assert offered == {"adapter", "merged", *known["quantized"], *(f"gguf {kind}" for kind in known["gguf"])}


def test_formats_are_chosen_as_the_exporter_takes_them() -> None:
    profile = first_choices(SETTINGS)
    assert command("run", profile, profile) == "engine export run"
    choices = profile
    for name in ("nf4", "gguf q8_0", "gguf f16"):
        choices, refused = toggled(choices, name, profile)
        assert refused == ""
    assert command("run", choices, profile) == "engine export run --quantize nf4 --gguf f16 --gguf q8_0"
    assert toggled(choices, "merged", profile) == (choices, "the other formats are made from it")
    assert toggled(choices, "adapter", profile)[1] == "the adapter is always written"
    alone, refused = toggled(profile, "merged", profile)
    assert (command("run", alone, profile), refused) == ("engine export run --no-merged", "")
    again, _ = toggled(alone, "int8", profile)
    assert again.merged
    asked = first_choices({**SETTINGS, "export": {"quantized": ["nf4"], "gguf": []}})
    assert "profile asks for it" in toggled(asked, "nf4", asked)[1]
    full = first_choices({"tuning": {"method": "full"}})
    assert not full.has("adapter")
    assert "no adapter" in toggled(full, "merged", full)[1]
    quoted = command("run", Choices(output="my place", dtype="fp32"), profile)
    assert quoted == "engine export run --dtype fp32 --output 'my place'"


def test_sizes_are_told_before_anything_is_written() -> None:
    found = {
        "schema_version": 1,
        "settings": {"model": {"dtype": "bf16"}},
        "model": {"parameters": 7_000_000_000, "vocab_size": 32_000, "hidden_size": 4096, "tie_word_embeddings": False},
        "estimate": {"trainable_parameters": 40_000_000},
    }
    record = runs.record_of(found)
    assert isinstance(record, runs.RunRecord)
    sizes = {
        name: (size_estimate(name, Choices(), record) or 0) / 1e9
        for name in ("adapter", "merged", "nf4", "int8", "gguf q8_0", "gguf q4_0")
    }
    assert sizes["adapter"] == pytest.approx(0.08)
    assert sizes["merged"] == pytest.approx(14.0)
    assert 3.9 < sizes["nf4"] < 4.1  # Llama 2 7B in nf4 is 3.9 GB
    assert 7.0 < sizes["int8"] < 7.4
    assert sizes["gguf q8_0"] == pytest.approx(7.16 * 7.0 / 6.74, rel=0.01)  # llama.cpp's 7B: 7.16 GB of 6.74 B weights
    assert 3.9 < sizes["gguf q4_0"] < 4.2
    assert size_estimate("merged", Choices(), None) is None
    assert size_estimate("merged", Choices(dtype="fp32"), record) == 28e9


async def test_choices_change_the_command_and_its_words(cpu_machine: object) -> None:
    app = opened(scored())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5", "e")
        await shows(pilot, "> [x] adapter", f"$ engine export {RUN_ID}")
        await pilot.press("space")
        await told(pilot, "the adapter is always written")
        await pilot.press("down", "down", "down", "space")
        await shows(pilot, "[x] int8", "--quantize int8")
        await pilot.press("end", "space")
        await shows(pilot, "Write to which folder?")
        await pilot.press(*"/tmp/x y", "enter")
        await shows(pilot, "--output '/tmp/x y'")
        await pilot.press("up", "space", "down", "enter")
        await shows(pilot, "--dtype bf16")


async def test_an_export_that_cannot_start_is_told(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    run = scored()

    def full(job: object, place: Path) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "begin_job", full)
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5", "w")
        await told(pilot, "that belongs to the export view")
        await pilot.press("e", "w")
        await told(pilot, "No space left")


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


def test_the_headline_says_how_many_rows_were_scored() -> None:
    found = make_report(read_report_of(report()))
    headline = [line(*verdict_parts(replace(found, rows=rows), 80)).plain for rows in (100, 200, 4)]
    assert headline[0] == "better, 100 of 200 held-out rows scored"
    assert headline[1] == "better, all 200 held-out rows scored"
    assert headline[2] == "too few rows to tell, 4 of 200 held-out rows scored"
    assert Measured(KINDS[0], 1.0, 1.2, 0.2, None).significance == ""
