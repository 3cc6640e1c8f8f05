"""A run on one page: who chose what, what happened when, and nothing cut off at any width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.runs import runs
from engine.runs.events import EventWriter
from engine.runs.notes import change_note
from engine.runs.overview import OverviewReader, without_inner_steps
from engine.runs.overview_page import filtered, laid_out, page_lines, sections
from engine.runs.store import Run
from engine.runs.timeline import TimelineFold
from engine.text import columns_of
from tests.unit.runs.test_record import run as run


def told(*events: dict[str, Any]) -> TimelineFold:
    """A timeline of these events."""
    fold = TimelineFold()
    for event in events:
        fold.apply(event)
    return fold


def at(second: float, kind: str, **fields: Any) -> dict[str, Any]:
    """An event of that second."""
    return {"t": 1_795_824_000.0 + second, "type": kind, **fields}


def moments(fold: TimelineFold) -> list[tuple[str, float | None]]:
    return [(one.text, one.took_s) for one in fold.shown()]


def test_the_page_tells_who_chose_what_and_what_became_of_the_rows(run: Run) -> None:
    change_note(run.path, "the one for the talk")
    found = {part.name: part.rows for part in sections(OverviewReader(run).read())}
    told = {row.label: (row.text, row.note) for row in found["run"]}
    assert told["note"] == ("the one for the talk", "")
    assert told["memory"] == ("measured 868 MiB, predicted 735 MiB", "18.2 % more than predicted")
    chosen = {row.label: (row.text, row.note) for row in found["chosen"]}
    assert chosen["train.learning_rate"] == ("0.002", "profile")
    auto = {row.label: (row.text, row.note) for row in found["auto"]}
    assert auto["model.dtype"] == ("bf16", "auto: the processor has AVX512-BF16")
    assert "lora.dropout" in {row.label for row in found["default"]}
    assert list(found)[:3] == ["run", "warnings", "chosen"]
    data = {row.label: f"{row.text} {row.note}" for row in found["data"]}
    assert data["trained on"] == "2,000 rows, 77,828 tokens, 22,000 of them trained, 667 sequences "
    assert data["held out"].endswith("from demo:dates.test.jsonl")
    machine = {row.label: row.text for row in found["machine"]}
    assert machine["RAM"] == "21.9 GiB free of 23.5 GiB"
    assert {row.label: row.text for row in found["versions"]}["torch"] == "2.13.0+cpu"
    files = {row.label: row for row in found["files"]}
    assert {"export-job", "notes.json"} <= files.keys()
    assert files["eval/report.json"].path == str(run.path / "eval" / "report.json")
    assert files["checkpoints/step-252"].note == "a run can go on from here"


def test_dropped_rows_have_their_causes_and_a_card_its_free_memory(run: Run) -> None:
    report = json.loads((run.path / "data" / "report.json").read_text())
    report["datasets"][0] |= {"kept": 1990, "cut": 12, "dropped": [{"rows": 10, "cause": "no answer"}]}
    (run.path / "data" / "report.json").write_text(json.dumps(report))
    record = json.loads((run.path / "run.json").read_text())
    cards = [{"uuid": f"GPU-{at}", "free_bytes": (70 + at) << 30, "total_bytes": 80 << 30} for at in range(2)]
    record["machine"] |= {"gpus": cards, "driver_version": "580.95", "cuda_driver_version": [13, 0]}
    record["warnings"] = [{"message": "lora.alpha: alpha / r is 9", "hint": "usual is 1 to 2", "line": 3}]
    record["estimate"] |= {"card": "GPU 1", "device_name": "NVIDIA A100"}
    record["settings"]["launch"] |= {"device": "cuda", "gpu": "GPU-1"}
    (run.path / "run.json").write_text(json.dumps(record))
    found = {part.name: {row.label: row for row in part.rows} for part in sections(OverviewReader(run).read())}
    assert (found["data"]["dropped"].text, found["data"]["dropped"].mark) == ("10: no answer", "warning")
    assert any("1,990 kept, 12 cut, 10 dropped" in text for text in page_lines(OverviewReader(run).read(), 80))
    said = found["planned"]["profile"]
    assert (said.text, said.note, said.mark) == ("lora.alpha: alpha / r is 9", "usual is 1 to 2", "warning")
    card = found["machine"]["card"]
    assert (card.text, card.note) == ("GPU 1 NVIDIA A100", "71.0 GiB free of 80.0 GiB")
    assert found["machine"]["driver"].text == "580.95, CUDA 13.0"


@pytest.mark.parametrize("width", [40, 58, 118, 198])
def test_no_line_is_too_wide_and_every_word_is_there(run: Run, width: int) -> None:
    for part in sections(OverviewReader(run).read()):
        lines = ["".join(text for text, _ in pieces) for pieces in laid_out(part, width)]
        assert max(map(columns_of, lines)) <= width
        shown = "".join("".join(lines).split())
        for row in part.rows:
            for words in (row.label, row.text, row.note):
                assert all("".join(piece.split()) in shown or len(piece) > 16 for piece in words.split())


def test_a_timeline_has_durations_a_stop_and_a_resume() -> None:
    fold = told(
        at(0, "phase", name="data", detail="reading and packing"),
        at(2, "phase", name="load", detail="demo"),
        at(7, "phase", name="check", detail="packed"),
        at(8, "phase", name="check", detail="fused"),
        at(9, "started", device="CPU", card="", steps_total=400, eval_steps=50, resumed_from_step=None),
        at(9, "phase", name="train"),
        at(14, "eval", step=0, loss=2.0, best=False, seconds=4.5),
        at(16, "train_step", step=1, step_s=1.5),
        at(20, "train_step", step=2),
        at(21, "control", request="stop", outcome="accepted"),
        at(22, "checkpoint", step=2, bytes=2**20, seconds=0.5, reason="stopping"),
        at(23, "finished", outcome="stopped", step=2, reason="asked to stop", seconds=23.0),
        at(7223, "phase", name="data", detail=""),
        at(7230, "started", device="CPU", card="", steps_total=400, resumed_from_step=2),
    )
    assert moments(fold) == [
        ("the worker starts", None),
        ("reading data: reading and packing", 2.0),
        ("loading the model: demo", 5.0),
        ("checking the fit: packed, fused", 2.0),
        ("training on CPU: 400 steps, evaluated every 50", None),
        ("evaluated at step 0: loss 2.0000", 4.5),
        ("step 1 is done: the first of this worker", 1.5),
        ("stop: accepted", None),
        ("checkpoint step 2 saved, 1.0 MiB (stopping)", 0.5),
        ("stopped at step 2: asked to stop", 23.0),
        ("a worker starts again, 2 h 0 min after the end", None),
        ("reading data", 7.0),
        ("training on CPU, resumed from step 2: 400 steps", None),
    ]


def test_a_worker_that_vanished_and_a_phase_under_way_are_told() -> None:
    fold = told(
        at(0, "started", device="CPU", steps_total=4), at(5, "train_step", step=1), at(60, "phase", name="load")
    )
    texts = [text for text, _ in moments(fold)]
    assert "a worker starts again; the one before ended without saying why" in texts
    assert moments(fold)[-1] == ("loading the model", None)


def test_a_warning_told_often_is_one_with_its_count() -> None:
    fold = told(
        *(at(second, "warning", code="step_skipped", message="the same") for second in range(3)),
        at(9, "warning", code="other", message="once"),
    )
    assert [(one.code, one.times) for one in fold.warnings] == [("step_skipped", 3), ("other", 1)]


def test_steps_that_the_page_does_not_name_are_not_parsed() -> None:
    kinds = ["start", "step", "step", "step", "step", "warn", "step", "step", "eval", "step"]
    lines = [f'{{"v":1,"seq":{at},"t":1.5,"type":"{kind}"}}'.encode() for at, kind in enumerate(kinds)]
    lines = [line.replace(b'"step"', b'"train_step"') for line in lines]
    kept = [json.loads(line)["seq"] for line in without_inner_steps(lines)]
    assert kept == [0, 1, 4, 5, 6, 7, 8, 9]


def test_words_leave_only_the_rows_that_have_them(run: Run) -> None:
    parts = filtered(sections(OverviewReader(run).read()), "total Batch")
    assert [(part.name, [row.label for row in part.rows]) for part in parts] == [("chosen", ["train.total_batch_size"])]


def test_what_a_run_s_files_say_reaches_no_terminal_unsanitised(run: Run) -> None:
    writer = EventWriter(run.events_path)
    writer.write("warning", code="x", message="clear \x1b[2J the screen")
    bad = '"t": 1e400, "step": "x", "loss": [], "seconds": {}, "bytes": "x", "steps_total": [], "resumed_from_step": {}'
    with run.events_path.open("a") as file:
        for kind in ("eval", "phase", "started", "train_step", "checkpoint", "warning", "calibration", "finished"):
            file.write(f'{{"type": "{kind}", {bad}}}\n{{"type": "{kind}", "t": "x"}}\n')
    lines = page_lines(OverviewReader(run).read(), 80)
    assert not [line for line in lines if "\x1b" in line]
    assert any("clear \ufffd[2J the screen" in line for line in lines)


def test_the_shell_prints_the_page_and_has_it_as_json(run: Run) -> None:
    path = str(run.path)
    shown = CliRunner().invoke(runs, ["show", path, "--full"])
    assert shown.exit_code == 0, shown.output
    assert "settings of your own" in shown.output
    assert "evaluated at step 0: loss 8.1146" in shown.output
    overview = json.loads(CliRunner().invoke(runs, ["show", path, "--full", "--json"]).output)["overview"]
    assert overview["state"] == "completed"
    assert [one["code"] for one in overview["warnings"]] == ["memory_underpredicted"] * len(overview["warnings"])


def test_a_run_whose_settings_cannot_be_read_still_has_a_page(run: Run) -> None:
    (run.path / "run.json").write_text("{")
    found = OverviewReader(run).read()
    rows = {row.label: row for row in sections(found)[0].rows}
    assert "not whole JSON" in rows["settings"].text
    assert Path(rows["folder"].text) == run.path
