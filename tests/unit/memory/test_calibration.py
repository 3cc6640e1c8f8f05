"""Measurements of a device: what they change in a prediction, and files that must not be believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from engine.hardware.machine import Cpu, Gpu, Machine
from engine.memory.calibration import Measurement, calibration_of, model_key
from engine.memory.calibration_store import (
    FILE_VERSION,
    MOST_RECORDS,
    calibration_path,
    decode,
    device_key,
    encode,
    load_calibration,
    software,
)
from engine.memory.phases import peak
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index

LLAMA = catalog_index()["llama-3.1-8b-instruct"]
SMALL = catalog_index()["smollm2-135m-instruct"]
A100 = Gpu(name="NVIDIA A100-SXM4-80GB", uuid="GPU-1", total_bytes=80 * GIB, compute_capability=(8, 0))
MACHINE = Machine(
    hostname="here",
    cpu=Cpu("Some CPU", 8, 16),
    ram_total_bytes=64 * GIB,
    ram_available_bytes=60 * GIB,
    disk_path="/",
    disk_free_bytes=GIB,
    gpus=(A100,),
    driver_version="580.1",
    torch_version="2.13.0",
    torch_cuda_version="13.0",
)
SHAPE = TrainingShape(quantization="nf4", micro_batch=4)
CPU_SHAPE = TrainingShape(compute_dtype="fp32", max_length=256, checkpoint_every=0, device="cpu")


def measured(spec=LLAMA, shape=SHAPE, gpu=A100, **changes):
    """A run that took 10 % more than its closed form, unless `changes` says otherwise."""
    closed = peak(spec, shape, gpu if shape.device == "cuda" else None)
    predicted = closed.reserved_bytes if shape.device == "cuda" else closed.device_bytes
    found = Measurement(
        model_key=model_key(spec),
        shape=shape,
        date="2026-11-24",
        reserved_bytes=int(predicted * 1.1),
        predicted_reserved_bytes=predicted,
        allocated_bytes=closed.allocated_bytes if shape.device == "cuda" else None,
        context_bytes=500 * MIB,
        tokens_per_second=900.0,
        predicted_tokens_per_second=1000.0,
        model=spec.name,
    )
    return replace(found, **changes)


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_a_measured_shape_takes_what_it_took_up_or_down(factor):
    closed = estimate_memory(LLAMA, SHAPE, gpu=A100)
    reserved, allocated = int(closed.reserved_bytes * factor), int(closed.allocated_bytes * factor)
    known = calibration_of([measured(reserved_bytes=reserved, allocated_bytes=allocated, context_bytes=321 * MIB)])
    found = estimate_memory(LLAMA, SHAPE, gpu=A100, calibration=known)
    assert found.reserved_bytes == reserved
    assert found.allocated_bytes == allocated
    assert found.device_bytes == reserved + 321 * MIB == sum(term.bytes for term in found.terms)
    (term,) = [term for term in found.terms if term.name == "calibration"]
    assert term.bytes == allocated - closed.allocated_bytes
    assert "2026-11-24" in term.detail


def test_the_published_count_and_name_of_a_model_do_not_matter_its_matrices_do():
    known = calibration_of([measured()])
    assert known.find(replace(LLAMA, name="/home/me/llama", parameters=None, source="directory"), SHAPE)
    assert known.find(replace(LLAMA, vocab_size=128_257), SHAPE) is None


def test_more_accumulation_is_the_same_memory_none_is_not():
    known = calibration_of([measured(shape=replace(SHAPE, gradient_accumulation_steps=2))])
    assert known.find(LLAMA, replace(SHAPE, gradient_accumulation_steps=16))
    assert known.find(LLAMA, SHAPE) is None


def test_another_shape_is_never_lowered():
    light = measured(reserved_bytes=int(0.7 * measured().predicted_reserved_bytes), allocated_bytes=GIB)
    other = replace(SHAPE, micro_batch=2)
    found = peak(LLAMA, other, A100, calibration_of([replace(light, context_bytes=None)]))
    assert found.device_bytes == peak(LLAMA, other, A100).device_bytes


def test_another_shape_is_raised_by_the_largest_excess_in_proportion():
    other = replace(SHAPE, micro_batch=2)
    slight = measured(shape=replace(SHAPE, max_length=512))
    slight = replace(slight, reserved_bytes=int(slight.predicted_reserved_bytes * 1.02))
    closed, found = peak(LLAMA, other, A100), peak(LLAMA, other, A100, calibration_of([measured(), slight]))
    assert found.reserved_bytes == pytest.approx(1.1 * closed.reserved_bytes, rel=1e-6)
    assert found.context == 500 * MIB
    assert "10.0% more" in found.calibration_detail


def test_a_small_model_raises_a_large_one_by_a_bounded_amount():
    excess = 300 * MIB
    small = measured(SMALL, TrainingShape())
    small = replace(small, reserved_bytes=small.predicted_reserved_bytes + excess)
    closed, found = peak(LLAMA, SHAPE, A100), peak(LLAMA, SHAPE, A100, calibration_of([small]))
    assert excess < found.reserved_bytes - closed.reserved_bytes <= 4 * excess
    wild = replace(small, reserved_bytes=100 * small.predicted_reserved_bytes)
    raised = peak(LLAMA, SHAPE, A100, calibration_of([wild])).reserved_bytes
    assert raised == pytest.approx(1.15 * closed.reserved_bytes, rel=1e-6)


def test_a_shape_that_ran_out_of_memory_is_not_promised_again():
    had = peak(LLAMA, SHAPE, A100).reserved_bytes + GIB
    known = calibration_of([measured(reserved_bytes=had, allocated_bytes=None, context_bytes=None, out_of_memory=True)])
    found = peak(LLAMA, SHAPE, A100, known)
    assert found.reserved_bytes > had
    assert "ran out of memory" in found.calibration_detail
    larger = replace(SHAPE, micro_batch=8)
    assert peak(LLAMA, larger, A100, known).reserved_bytes > peak(LLAMA, larger, A100).reserved_bytes


def test_running_out_of_less_than_was_predicted_changes_nothing():
    """Another process took the memory between the check and the run."""
    known = calibration_of([measured(reserved_bytes=10 * MIB, allocated_bytes=None, out_of_memory=True)])
    assert peak(LLAMA, SHAPE, A100, known).reserved_bytes == peak(LLAMA, SHAPE, A100).reserved_bytes


def test_resident_memory_on_a_processor_is_replaced_as_a_whole():
    known = calibration_of([measured(SMALL, CPU_SHAPE, reserved_bytes=3 * GIB, context_bytes=480 * MIB)])
    found = peak(SMALL, CPU_SHAPE, None, known)
    assert found.device_bytes == 3 * GIB
    assert found.context == 480 * MIB
    other = replace(CPU_SHAPE, micro_batch=2)
    assert peak(SMALL, other, None, known).device_bytes >= peak(SMALL, other, None).device_bytes


def test_speed_goes_by_the_nearest_run():
    other = replace(SHAPE, micro_batch=2)
    runs = [measured(), measured(shape=other, tokens_per_second=500.0), measured(SMALL, tokens_per_second=100.0)]
    known = calibration_of(runs)
    assert known.speed_ratio(LLAMA, SHAPE) == 0.9
    assert known.speed_ratio(LLAMA, replace(SHAPE, micro_batch=8)) == pytest.approx(0.7)
    assert known.speed_ratio(replace(LLAMA, num_hidden_layers=40), SHAPE) == 0.5
    assert known.speed_ratio(LLAMA, replace(SHAPE, quantization="none")) is None


def test_the_device_decides_the_file():
    assert device_key(A100, MACHINE) == "GPU-1"
    assert device_key(replace(A100, hypothetical=True), MACHINE) is None
    assert device_key(replace(A100, uuid=None), MACHINE) is None
    assert device_key(replace(A100, uuid="../../etc/x"), MACHINE) == "etc-x"
    assert device_key(None, MACHINE) == "cpu-Some-CPU-16-64gib"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where the A100's measurements are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = calibration_path("GPU-1")
    path.parent.mkdir(parents=True)
    return path


def write(path, *measurements, machine=MACHINE):
    records = [encode(found, software(A100, machine)) for found in measurements]
    path.write_text(json.dumps({"v": FILE_VERSION, "records": records}))


def test_what_is_written_is_read(file):
    write(file, measured())
    known = load_calibration(A100, MACHINE)
    assert known.find(LLAMA, SHAPE) == measured()
    assert known.context_bytes == 500 * MIB
    assert not known.notes


def test_nothing_measured_is_none(file):
    assert load_calibration(A100, MACHINE) is None
    assert load_calibration(replace(A100, hypothetical=True), MACHINE) is None


@pytest.mark.parametrize(
    "change", [{"torch_version": "2.14.0"}, {"driver_version": "590.2"}, {"torch_cuda_version": "13.1"}], ids=str
)
def test_other_versions_are_not_used_and_stay(file, change):
    write(file, measured())
    before = file.read_bytes()
    assert load_calibration(A100, replace(MACHINE, **change)) is None
    assert file.read_bytes() == before
    assert load_calibration(A100, MACHINE) is not None


def damaged(**changes):
    record = json.loads(json.dumps(encode(measured(), software(A100, MACHINE))))
    record.update(changes)
    return json.dumps({"v": FILE_VERSION, "records": [record]})


WRONG = {
    "empty": "",
    "no json": "{",
    "a list": "[]",
    "another version": '{"v": 99, "records": []}',
    "records of text": '{"v": 1, "records": "x"}',
    "deep": "[" * 200_000,
    "large": " " * (2**20 + 1),
    "nan": damaged(tokens_per_second=float("nan")),
    "infinite": damaged(tokens_per_second=float("inf")),
    "huge number": damaged().replace('"context_bytes": 524288000', '"context_bytes": 1' + "0" * 5000),
    "too large": damaged(reserved_bytes=2**60),
    "negative": damaged(context_bytes=-1),
    "a truth": damaged(context_bytes=True),
    "text for bytes": damaged(reserved_bytes="12"),
    "next to nothing": damaged(reserved_bytes=1, allocated_bytes=1),
    "more allocated than held": damaged(allocated_bytes=2**45),
    "no date": damaged(date="\x1b[2J"),
    "a shape of texts": damaged(shape={"micro_batch": "4"}),
    "an unknown shape": damaged(shape={**asdict(SHAPE), "warp": 9}),
    "no shape": damaged(shape=None),
    "targets of numbers": damaged(shape={"lora_targets": [1, 2]}),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_damaged_or_hostile_file_is_told_and_not_used(file, text):
    file.write_text(text)
    known = load_calibration(A100, MACHINE)
    assert not known.measurements
    (note,) = known.notes
    assert str(file) in note
    found = estimate_memory(LLAMA, SHAPE, gpu=A100, calibration=known)
    assert found.device_bytes == estimate_memory(LLAMA, SHAPE, gpu=A100).device_bytes
    assert note in found.notes


def test_what_is_not_a_file_is_told_and_does_not_hold_the_answer(file):
    os.mkfifo(file)
    assert load_calibration(A100, MACHINE).notes
    file.unlink()
    file.mkdir()
    assert load_calibration(A100, MACHINE).notes
    file.rmdir()
    file.symlink_to("/dev/zero")
    assert load_calibration(A100, MACHINE).notes


def test_one_bad_record_leaves_the_others(file):
    good, bad = encode(measured(), software(A100, MACHINE)), encode(measured(SMALL), software(A100, MACHINE))
    file.write_text(json.dumps({"v": FILE_VERSION, "records": [{**bad, "date": 5}, good, "x"]}))
    known = load_calibration(A100, MACHINE)
    assert len(known.measurements) == 1
    assert len(known.notes) == 1


def test_records_of_before_a_field_was_invented_read_as_they_were():
    record = json.loads(json.dumps(encode(measured(), {})))
    del record["shape"]["lora_dropout"]
    assert decode(record) == measured()


def test_a_full_file_is_read_within_five_milliseconds(file):
    write(file, *(measured(shape=replace(SHAPE, max_length=512 + index)) for index in range(MOST_RECORDS)))

    def once():
        began = time.perf_counter()
        assert len(load_calibration(A100, MACHINE).measurements) == MOST_RECORDS
        return time.perf_counter() - began

    assert min(once() for _ in range(20)) < 0.005


def test_looking_for_measurements_imports_nothing_heavy():
    code = (
        "import sys; from engine.memory.calibration_store import load_calibration; "
        "print([name for name in ('torch', 'numpy', 'pydantic', 'importlib.metadata', 'statistics', 'json') "
        "if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
