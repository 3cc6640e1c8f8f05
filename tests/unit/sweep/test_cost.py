"""What would be tried on a machine, where, and what it takes."""

from __future__ import annotations

import pytest
from conftest import gpu, machine

from engine.errors import EngineError
from engine.hardware.probe import hypothetical_machine
from engine.profile.schedule import plan_schedule
from engine.sweep.combinations import differing, resolve_combination
from engine.sweep.cost import estimate_cost, examine_combinations, price
from engine.sweep.prepare import prepare_sweep, shared_study
from engine.sweep.slots import fixed_for, free_slots

LLAMA = """
[model]
name_or_path = "meta-llama/Llama-3.1-8B"
max_length = 2048
[[data.datasets]]
path = "demo:dates.train.jsonl"
[data]
validation_path = "demo:dates.test.jsonl"
"""
GIB = 1024**3


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_cells_that_cannot_fit_are_left_out_with_the_reason(plan):
    found = plan('[sweep.space]\n"quantization.method, lora.r" = [["nf4", 16], ["none", 16], ["none", 64]]\n', LLAMA)
    fit, left_out = examine_combinations(found, hypothetical_machine("RTX 3080"))
    assert [cell.params["quantization.method"] for cell in fit] == ["nf4"]
    assert len(left_out) == 2
    assert all("needs" in cell.why and "free" in cell.why for cell in left_out)


def test_settings_that_do_not_go_together_are_left_out(plan):
    found = plan('[sweep.space]\nlora.init = ["default", "pissa"]\nlora.use_dora = [true]\n')
    fit, left_out = examine_combinations(found, machine())
    assert [cell.params["lora.init"] for cell in fit] == ["default"]
    assert "cannot be saved as a plain adapter" in left_out[0].why


def test_nothing_that_can_run_is_an_error(load):
    text = '[sweep.space]\nquantization.method = ["none"]\n'
    with pytest.raises(EngineError, match="none of 1 settings can run here") as raised:
        prepare_sweep(load(text, LLAMA), hypothetical_machine("RTX 3060"), lambda event: None)
    assert raised.value.code == 5


def test_what_the_machine_chooses_must_not_differ_unseen(plan):
    found = plan("[sweep.space]\nlora.r = [8, 1024]\n", LLAMA)
    fit, _ = examine_combinations(found, hypothetical_machine("RTX 4090"))
    methods = {cell.resolved.settings.quantization.method for cell in fit}
    assert (len(methods) > 1) == ("quantization.method" in differing(fit, found.dimensions))


def test_a_trial_costs_its_steps_its_evaluations_and_its_start(plan):
    found = plan("[sweep.space]\nlora.r = [8]\n[train]\ntotal_batch_size = 8\nnum_train_epochs = 2\n")
    one = resolve_combination(found, {"lora.r": 8}, machine()).resolved
    bare = price(one, (80, 0), 0.0)
    schedule = plan_schedule(one.settings, 80, has_validation=False)
    assert bare.steps == schedule.steps_total == 20
    assert bare.seconds == pytest.approx(20 * 8 * 128 / one.plan.tokens_per_second)
    with_start = price(one, (80, 0), 12.0)
    assert with_start.seconds == pytest.approx(bare.seconds + 12)
    held_out = price(one, (80, 40), 0.0)
    assert held_out.seconds == pytest.approx(bare.seconds * (1 + 11 * 40 * 0.5 / 160))
    assert bare.device_bytes == one.plan.estimate.device_bytes


def test_the_bill_is_the_sum_of_its_trials_and_the_widest_of_them(plan):
    found = plan("[sweep]\nkeep_weights = 1\n[sweep.space]\nlora.r = [8, 64]\n")
    cells, _ = examine_combinations(found, machine())
    prices = [price(cell.resolved, (80, 10), 20.0) for cell in cells]
    bill = estimate_cost(found, cells, lambda resolved: (80, 10), machine(), 1)
    assert bill.trials == 2
    assert bill.seconds == pytest.approx(sum(one.seconds for one in prices))
    assert bill.device_bytes == prices[1].device_bytes > prices[0].device_bytes
    assert bill.disk_bytes == 2 * prices[1].disk_bytes
    two = estimate_cost(found, cells, lambda resolved: (80, 10), machine(), 2)
    assert two.seconds == pytest.approx(bill.seconds / 2)


def test_each_gpu_with_room_takes_one_trial():
    box = machine(gpu("GPU-a", 20), gpu("GPU-b", 3), gpu("GPU-c", 20))
    assert free_slots(box, "cuda", None, 10 * GIB, ()) == ["GPU-a", "GPU-c"]
    assert free_slots(box, "cuda", None, 10 * GIB, ["GPU-a"]) == ["GPU-c"]
    assert free_slots(box, "cuda", 1, 10 * GIB, ["GPU-a"]) == []
    assert free_slots(box, "cuda", None, 22 * GIB, ()) == []
    assert free_slots(box, "cuda", None, 10 * GIB, (), "GPU-c") == ["GPU-c"], "the profile names it"
    assert free_slots(box, "cuda", None, 10 * GIB, ["GPU-c"], "GPU-c") == []
    assert fixed_for(box, "cuda", None, "GPU-c") == {"launch.gpu": "GPU-c"}


def test_a_processor_takes_one_trial_or_shares_its_cores():
    assert free_slots(machine(), "cpu", None, 0, ()) == [None]
    assert free_slots(machine(), "cpu", None, 0, [None]) == []
    assert free_slots(machine(), "cpu", 3, 0, [None]) == [None, None]
    assert fixed_for(machine(), "cpu", None, None) == {}
    assert fixed_for(machine(), "cpu", 2, None) == {"launch.threads": 4}


def test_a_shared_study_takes_no_password_and_needs_its_folder(tmp_path):
    assert shared_study(None, None, "s") is None
    assert shared_study(str(tmp_path / "j"), None, "s").study == "s"
    assert shared_study("postgresql://me@db/tune", "x", "s").study == "x"
    for storage, said in (
        ("mysql://me:secret@db/x", "password"),
        (str(tmp_path), "is a folder"),
        ("/no/such/f", "does not exist"),
    ):
        with pytest.raises(EngineError, match=said) as raised:
            shared_study(storage, None, "s")
        assert "secret" not in str(raised.value)
