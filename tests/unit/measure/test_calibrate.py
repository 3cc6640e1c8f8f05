"""Measuring a run: peaks by phase, comparison with the promise, what is kept, and the time that is left."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from engine.errors import ExitCode
from engine.hardware.machine import Cpu, Gpu, Machine
from engine.measure import calibrate, meter
from engine.measure.calibrate import Calibrator
from engine.measure.meter import Meter
from engine.measure.peaks import MEASURED_STEPS, PhasePeaks, resident_peak_bytes
from engine.memory.calibration_store import load_calibration
from engine.memory.phases import peak
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.runs.record import read_record_of
from tests.unit.train.conftest import make_settings, make_trainer

SPEC = catalog_index()["smollm2-135m-instruct"]
SHAPE = TrainingShape(micro_batch=2)
CARD = Gpu(name="NVIDIA A100-SXM4-80GB", uuid="GPU-1", free_bytes=73 * GIB, compute_capability=(8, 0))
MACHINE = Machine("box", Cpu("CPU", 8, 16), 64 * GIB, 60 * GIB, "/", GIB, gpus=(CARD,), driver_version="580.1")


class Card:
    """torch.cuda's allocator counters, moved by hand."""

    def __init__(self):
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0

    def use(self, allocated, *, then=None):
        """Go up to `allocated`, and down again to `then`."""
        self.peak_allocated = max(self.peak_allocated, allocated)
        self.reserved = max(self.reserved, allocated + 10)
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self.allocated = allocated if then is None else then

    def reset_peak_memory_stats(self):
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def max_memory_allocated(self):
        return self.peak_allocated

    def max_memory_reserved(self):
        return self.peak_reserved

    def memory_reserved(self):
        return self.reserved


def step(card, peaks, *, forward=0, backward=0, optimizer=0, rows=2, micro_batches=1):
    for _ in range(micro_batches):
        peaks.enter("forward", rows=rows)
        card.use(forward)
        peaks.enter("backward")
        card.use(backward, then=100)
    peaks.enter("optimizer")
    card.use(optimizer, then=100)
    peaks.end_step()


def test_each_phase_has_its_own_peak_and_the_run_keeps_the_highest():
    card = Card()
    peaks = PhasePeaks(card)
    peaks.enter("load")
    card.use(120, then=100)
    peaks.enter("check")
    step(card, peaks, forward=300, backward=500, optimizer=150)
    step(card, peaks, forward=350, backward=450, optimizer=200)
    found = {name: peaks.phases[name].allocated for name in ("load", "forward", "backward", "optimizer")}
    assert found == {"load": 120, "forward": 350, "backward": 500, "optimizer": 200}
    assert (peaks.whole().allocated, peaks.whole().reserved) == (500, 510)
    card.use(800, then=100)
    assert peaks.whole().allocated == 800, "an evaluation later counts"


def test_nothing_is_reset_after_the_measured_steps():
    card, told = Card(), []
    peaks = PhasePeaks(card)
    peaks.on_measured = lambda: told.append(peaks.steps)
    for _ in range(5):
        step(card, peaks, forward=300, backward=500)
    assert told == [MEASURED_STEPS]
    card.use(600, then=100)
    peaks.enter("forward", rows=2)
    assert card.max_memory_allocated() == 600


def test_the_process_peak_is_the_kernels():
    before = resident_peak_bytes()
    block = torch.ones(64 * MIB // 4)
    assert resident_peak_bytes() >= before
    assert resident_peak_bytes() > block.numel() * 4


def test_the_trainer_tells_its_phases(tmp_path):
    trainer = make_trainer(tmp_path, make_settings(gradient_accumulation_steps=2))
    told = []
    trainer.peaks.on_measured = lambda: told.append(trainer.state.global_step)
    trainer.train()
    assert {"forward", "backward", "optimizer", "between"} <= trainer.peaks.phases.keys()
    assert (trainer.peaks.rows, trainer.peaks.micro_batches) == (2, 2)
    assert told == [2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A calibrator of a GPU run that was promised its closed form, with everything around it by hand."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = SimpleNamespace(card=Card(), process=None, free=None, machine=MACHINE, folder=tmp_path)
    monkeypatch.setattr(calibrate, "probe_machine", lambda **_: found.machine)
    monkeypatch.setattr(calibrate, "measured_rates", lambda *_: None)
    monkeypatch.setattr(calibrate, "driver_view", lambda: (found.process, found.free))
    monkeypatch.setattr(calibrate.torch, "cuda", found.card)
    found.estimate = estimate_memory(SPEC, SHAPE, gpu=CARD)
    estimate = {**asdict(found.estimate), "shape": asdict(SHAPE)}
    whole = {"schema_version": 1, "settings": {}, "estimate": estimate, "model": asdict(SPEC)}
    found.run_json = json.loads(json.dumps(whole))
    settings = SimpleNamespace(launch=SimpleNamespace(device="cuda"), model=SimpleNamespace(attention="packed"))

    def begin():
        found.job = Job(tmp_path, {}, EventWriter(tmp_path / "events.jsonl"))
        found.peaks = PhasePeaks(found.card)
        return Calibrator(found.job, settings, read_record_of(found.run_json))

    found.begin = begin
    found.settings = settings
    found.events = lambda kind: [event for event in read_events(tmp_path / "events.jsonl")[0] if event["type"] == kind]
    return found


def test_a_run_as_promised_is_told_and_kept(run):
    calibrator, most = run.begin(), run.estimate.allocated_bytes
    for _ in range(2):
        step(run.card, run.peaks, backward=most)
    run.process = run.card.reserved + 480 * MIB
    calibrator.tell("first_steps", run.peaks, Meter())
    (told,) = run.events("calibration")
    assert told["measured"] == {
        "allocated_bytes": most,
        "reserved_bytes": most + 10,
        "context_bytes": 480 * MIB,
        "device_bytes": most + 10 + 480 * MIB,
    }
    assert told["error_percent"]["allocated_bytes"] == 0.0
    assert told["error_percent"]["reserved_bytes"] > 0
    assert told["phases"]["backward"] == {"allocated_bytes": most, "reserved_bytes": most + 10}
    assert told["kept"]
    assert not run.events("warning")
    known = load_calibration(CARD, MACHINE)
    again = estimate_memory(SPEC, SHAPE, gpu=CARD, calibration=known)
    assert again.device_bytes == told["measured"]["device_bytes"]


def test_what_was_measured_is_kept_under_the_kernels_that_ran(run):
    calibrator, most = run.begin(), run.estimate.allocated_bytes
    other = "plain" if SHAPE.kernels == "liger" else "liger"
    calibrator.runs_with(other)
    for _ in range(2):
        step(run.card, run.peaks, backward=most)
    calibrator.tell("first_steps", run.peaks, Meter())
    known = load_calibration(CARD, MACHINE)
    again = estimate_memory(SPEC, replace(SHAPE, kernels=other), gpu=CARD, calibration=known)
    assert again.reserved_bytes == run.events("calibration")[0]["measured"]["reserved_bytes"]
    assert estimate_memory(SPEC, SHAPE, gpu=CARD, calibration=known).reserved_bytes != again.reserved_bytes


def test_without_a_figure_for_this_process_the_card_before_and_after_is_compared(run):
    calibrator = run.begin()
    step(run.card, run.peaks, backward=GIB)
    run.free = 73 * GIB - run.card.reserved - 300 * MIB
    calibrator.tell("end", run.peaks, Meter())
    assert run.events("calibration")[0]["measured"]["context_bytes"] == 300 * MIB


@pytest.mark.parametrize("beside", [-GIB, 0, 9 * GIB])
def test_an_impossible_context_is_not_believed(run, beside):
    """Somebody else on the card freed or took memory meanwhile."""
    calibrator = run.begin()
    step(run.card, run.peaks, backward=GIB)
    run.free = 73 * GIB - run.card.reserved - beside
    calibrator.tell("end", run.peaks, Meter())
    assert "context_bytes" not in run.events("calibration")[0]["measured"]


@pytest.mark.parametrize(("factor", "warned"), [(0.5, 0), (1.015, 0), (1.03, 1)])
def test_a_promise_that_was_too_low_is_one_warning_with_its_figures(run, factor, warned):
    run.run_json["estimate"] |= {"allocated_bytes": GIB, "reserved_bytes": GIB}
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=int(GIB * factor))
    calibrator.tell("first_steps", run.peaks, Meter())
    calibrator.tell("end", run.peaks, Meter())
    found = [event["message"] for event in run.events("warning")]
    assert len(found) == warned
    assert all("3.0% more than the 1.0 GiB predicted" in message for message in found)


def test_it_is_told_again_when_the_run_went_higher_later(run):
    run.run_json["estimate"] |= {"allocated_bytes": GIB, "reserved_bytes": GIB}
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=int(GIB * 1.03))
    calibrator.tell("first_steps", run.peaks, Meter())
    run.card.use(2 * GIB)
    calibrator.tell("end", run.peaks, Meter())
    assert ["100.0% more" in event["message"] for event in run.events("warning")] == [False, True]


def test_a_run_of_small_batches_says_nothing_of_its_shape(run):
    """Fewer sequences than a micro-batch: the measured steps are not the worst."""
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=GIB, rows=1)
    calibrator.tell("first_steps", run.peaks, Meter())
    assert run.events("calibration")[0]["kept"] is False
    assert load_calibration(CARD, MACHINE) is None


def test_one_step_is_not_enough_its_optimizer_states_came_last(run):
    calibrator = run.begin()
    step(run.card, run.peaks, backward=GIB)
    calibrator.tell("end", run.peaks, Meter())
    assert run.events("calibration")[0]["kept"] is False


def test_other_attention_than_the_one_predicted_is_not_kept(run):
    run.settings.model.attention = "eager"
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=GIB)
    calibrator.tell("first_steps", run.peaks, Meter())
    assert run.events("calibration")[0]["kept"] is False


def test_a_run_of_an_older_engine_is_compared_and_not_kept(run):
    del run.run_json["estimate"]["shape"]
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=GIB)
    calibrator.tell("first_steps", run.peaks, Meter())
    (told,) = run.events("calibration")
    assert "allocated_bytes" in told["error_percent"]
    assert told["kept"] is False


def test_the_median_warm_step_is_the_speed_that_is_kept(run, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    clock = Meter()
    for seconds in (9.0, 5.0, 2.0, 2.0, 2.0, 7.0):
        now[0] += seconds
        clock.end_step()
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=GIB)
    calibrator.tell("end", run.peaks, clock)
    known = load_calibration(CARD, MACHINE)
    found = known.find(SPEC, SHAPE)
    assert found.tokens_per_second == 2 * 2048 / 2.0
    assert known.speed_ratio(SPEC, SHAPE) == found.tokens_per_second / found.predicted_tokens_per_second


def test_a_shortage_is_told_once_and_the_end_comes_with_remedies(run):
    calibrator = run.begin()
    run.card.mem_get_info = lambda: (2 * GIB, 80 * GIB)
    shortage = torch.OutOfMemoryError("Tried to allocate 4 GiB")
    calibrator.tell_smaller(run.peaks, shortage, 2, 6)
    calibrator.tell_smaller(run.peaks, shortage, 1, 6)
    warnings = [event["message"] for event in run.events("warning") if event["code"] == "out_of_memory"]
    assert [("2 sequences at a time" in text, "1 sequence at a time" in text) for text in warnings] == [
        (True, False),
        (False, True),
    ]
    assert all("step 7" in text for text in warnings)
    assert len(run.events("calibration")) == 1
    error = calibrator.no_way_on(run.peaks, shortage)
    assert error.code is ExitCode.RESOURCES
    assert error.hint


def test_out_of_memory_keeps_what_there_was(run):
    calibrator = run.begin()
    step(run.card, run.peaks, backward=30 * GIB)
    run.card.mem_get_info = lambda: (2 * GIB, 80 * GIB)
    calibrator.tell_out_of_memory(run.peaks, torch.OutOfMemoryError("Tried to allocate 4 GiB"))
    found = peak(SPEC, SHAPE, CARD, load_calibration(CARD, MACHINE))
    assert found.reserved_bytes > 2 * GIB + run.card.reserved


def test_out_of_less_than_was_predicted_is_told_and_not_kept(run):
    calibrator = run.begin()
    run.card.mem_get_info = lambda: (10 * MIB, 80 * GIB)
    calibrator.tell_out_of_memory(run.peaks, torch.OutOfMemoryError("Tried to allocate 4 GiB"))
    assert run.events("calibration")[0]["kept"] is False
    assert load_calibration(CARD, MACHINE) is None


def test_a_folder_that_cannot_be_written_costs_a_warning(run, monkeypatch):
    blocked = run.folder / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    calibrator = run.begin()
    for _ in range(2):
        step(run.card, run.peaks, backward=MIB)
    calibrator.tell("first_steps", run.peaks, Meter())
    assert run.events("calibration")[0]["kept"] is False
    assert [event["code"] for event in run.events("warning")] == ["calibration_not_kept"]


def planned_for(run, tokens):
    """A run of full rows that was planned with documents of so many tokens."""
    shape = TrainingShape(micro_batch=8, document_tokens=tokens)
    estimate = {**asdict(estimate_memory(SPEC, shape, gpu=CARD)), "shape": asdict(shape)}
    run.run_json["estimate"] = json.loads(json.dumps(estimate))
    calibrator = run.begin()
    assert calibrator.step_bytes() is not None
    return calibrator


def test_documents_that_are_shorter_than_planned_are_told_before_the_model_is_loaded(run):
    calibrator = planned_for(run, 64)
    planned = calibrator.step_bytes()
    calibrator.meets(8)
    (warned,) = run.events("warning")
    assert warned["code"] == "short_documents"
    assert "documents of 8 tokens take" in warned["message"]
    assert calibrator.step_bytes() > planned


@pytest.mark.parametrize(("planned", "met"), [(64, 300), (8, 8), (8, 500), (0, 8)])
def test_documents_of_usual_length_and_rows_of_one_need_no_word(run, planned, met):
    planned_for(run, planned).meets(met)
    assert not run.events("warning")
