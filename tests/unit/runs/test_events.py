"""Events survive torn writes, tell of what is not a number, and fold into the run as it stands."""

from __future__ import annotations

import json
import math
import threading

from engine.runs.events import EventWriter, read_events
from engine.runs.view import RunFold


def test_readers_stop_at_the_last_newline(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.write("phase", name="load")
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":1,"type":"tra')
    events, offset = read_events(path)
    assert [event["type"] for event in events] == ["phase"]
    with path.open("ab") as file:
        file.write(b'in_step"}\n')
    events, _ = read_events(path, offset)
    assert [event["type"] for event in events] == ["train_step"]


def test_a_new_writer_cuts_a_torn_line_and_goes_on_counting(tmp_path):
    path = tmp_path / "events.jsonl"
    first = EventWriter(path)
    first.write("phase", name="load")
    first.close()
    with path.open("ab") as file:
        file.write(b'{"half')
    EventWriter(path).write("phase", name="train")
    events, _ = read_events(path)
    assert [event["seq"] for event in events] == [0, 1]
    assert path.read_bytes().count(b"half") == 0


def test_non_finite_numbers_become_null_with_a_warning(tmp_path):
    path = tmp_path / "events.jsonl"
    EventWriter(path).write("train_step", step=1, loss=math.nan, grad_norm=math.inf)
    step, warning = read_events(path)[0]
    assert step["loss"] is None
    assert step["grad_norm"] is None
    assert warning["type"] == "warning"
    assert "grad_norm" in warning["message"]
    assert "loss" in warning["message"]


def test_threads_do_not_tear_each_others_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    threads = [
        threading.Thread(target=lambda: [writer.write("memory", text="x" * 500) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events, _ = read_events(path)
    assert [event["seq"] for event in events] == list(range(800))


def test_unknown_types_and_broken_lines_are_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'not json\n[1]\n{"type":"from_the_future","t":5}\n{"type":"phase","name":"load","t":6}\n')
    fold = RunFold()
    for event in read_events(path)[0]:
        fold.apply(event)
    assert fold.phase == "load"
    assert fold.last_time == 6


def test_a_resumed_run_draws_its_curve_anew_from_the_step_it_resumed_at():
    fold = RunFold()
    fold.apply({"type": "started", "steps_total": 10})
    for step in range(1, 6):
        fold.apply({"type": "train_step", "step": step, "loss": 1.0})
    fold.apply({"type": "finished", "outcome": "stopped", "step": 5})
    fold.apply({"type": "started", "steps_total": 10, "resumed_from_step": 3})
    fold.apply({"type": "train_step", "step": 4, "loss": 0.5})
    assert list(fold.loss.steps) == [1, 2, 3, 4]
    assert list(fold.loss.values) == [1, 1, 1, 0.5]
    assert not fold.finished


def test_events_are_one_json_object_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    EventWriter(path).write("sample", prompt="two\nlines \x1b[2J", output="ü")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1
    assert b"\x1b" not in lines[0]
    assert json.loads(lines[0])["prompt"] == "two\nlines \x1b[2J"
