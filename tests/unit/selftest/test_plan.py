"""What a self-test would run on cards that are not here, from recordings of their drivers."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from engine.cli.selftest import selftest
from engine.recommend.budget import available_bytes
from engine.selftest.cases import Trial, suiting_plan
from engine.selftest.checks import begins, place_of
from engine.selftest.plan import expected, plan_selftest
from tests.unit.hardware.conftest import FakeNvml, host, load_recording, replay  # noqa: F401

CARDS = ("t4", "rtx4090", "a100-80", "h100")


def names(plan, step):
    (found,) = (each for each in plan.steps if each.name == step)
    return [item.name for item in found.items]


@pytest.fixture
def planned(replay):  # noqa: F811
    return lambda card, minutes=None: plan_selftest(place_of(replay(card), "cuda"), minutes)


@pytest.mark.parametrize("card", CARDS)
def test_no_bf16_before_ampere(planned, card):
    plan = planned(card)
    every = [name for step in plan.steps for name in names(plan, step.name)]
    assert any("bf16" in name for name in every) == (card != "t4")
    assert plan.place.dtypes == (("fp16", "fp32") if card == "t4" else ("bf16", "fp16", "fp32"))
    trained = names(plan, "training")
    assert {f"{dtype} {kind}" for dtype in plan.place.dtypes for kind in ("nf4 lora", "int8 lora", "plain full")} < set(
        trained
    )


@pytest.mark.parametrize("card", CARDS)
def test_the_attention_kernel_is_the_one_that_training_takes(planned, card):
    kernels = {name.partition(",")[0] for name in names(planned(card), "kernels") if "attention" in name}
    flash = "flash attention" in kernels
    assert flash == (card != "t4")
    assert "memory-efficient attention" in kernels, "fp32, and everything before Ampere"
    assert ("cuDNN's attention" in kernels) == (card == "h100"), "for rows of one document, on Hopper"
    assert any("attention kept" in name for name in names(planned(card), "kernels")) == flash
    assert not any("plain products" in kernel for kernel in kernels)


@pytest.mark.parametrize("card", CARDS)
def test_shapes_fit_the_card(planned, card):
    plan = planned(card)
    room = available_bytes(plan.place.machine, plan.place.gpu)
    memory = names(plan, "memory")
    assert len(memory) >= 5
    assert any("14B" in name or "14b" in name for name in memory) == (room > 40 * 1024**3)
    assert any("8b" in name for name in memory) == (card != "t4")
    assert any("llama-3.2-1b" in name for name in names(plan, "speed"))
    suiting = suiting_plan(plan.place)
    assert suiting is not None
    assert suiting.verdict == "OK"
    assert len(names(plan, "settings")) >= 2


@pytest.mark.parametrize("card", CARDS)
def test_kernels_of_triton_are_compared_where_they_are_installed(planned, monkeypatch, card):
    for installed in (True, False):
        monkeypatch.setattr("engine.recommend.kernels.is_installed", lambda there=installed: there)
        found = [name for name in names(planned(card), "kernels") if "Liger" in name]
        assert bool(found) == (installed and card != "t4")


def test_a_processor_has_no_card_to_measure(replay):  # noqa: F811
    plan = plan_selftest(place_of(replay("no-gpu"), None), None)
    assert plan.place.device == "cpu"
    assert plan.minutes == 3
    assert plan.place.dtypes == ("fp32",), "this recording's processor does not multiply bf16"
    assert not any("flash" in name or "memory-efficient" in name for name in names(plan, "kernels"))
    assert sum(seconds for _, _, seconds in expected(plan)) <= 1.25 * plan.total_s


@pytest.mark.parametrize("minutes", [0.1, 1, 10, 60])
def test_expected_time_keeps_to_the_minutes(planned, minutes):
    plan = planned("h100", minutes)
    assert sum(seconds for _, _, seconds in expected(plan)) <= 1.25 * plan.total_s
    counts = [count for _, count, _ in expected(plan)]
    assert counts[0] == 1
    if minutes == 60:
        assert counts == [len(step.items) for step in plan.steps], "with an hour nothing is left out"


def test_a_slow_machine_leaves_out_what_would_be_late(planned):
    plan = planned("h100")
    step = plan.steps[2]
    assert begins(step, 1, 0.4 * plan.total_s, plan.total_s)
    assert not begins(step, 1, 0.4 * plan.total_s, plan.total_s, pace=30)


@pytest.fixture
def ask(monkeypatch):
    def run(card, *arguments):
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(load_recording(card)))
        done = CliRunner().invoke(selftest, ["--plan", *arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    return run


def test_the_command_shows_the_plan_of_the_card(ask):
    text = ask("t4")
    assert "Tesla T4" in text
    assert "Dtypes   fp16, fp32" in text
    assert "attention: output and gradients against fp64" in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("card", CARDS)
def test_the_plan_is_a_line_for_each_group_with_its_count(ask, planned, card):
    lines, plan = ask(card).splitlines(), planned(card)
    groups = [re.match(r" +(?:(\d+) of )?(\d+)  (\S.*)", line) for line in lines]
    found = [group for group in groups if group]
    assert sum(int(group[2]) for group in found) == sum(len(step.items) for step in plan.steps)
    begun = sum(int(group[1] or group[2]) for group in found)
    assert begun == sum(count for _, count, _ in expected(plan))
    assert len(found) < 20
    assert len(lines) < 45


def test_a_trial_s_name_reads():
    trial = Trial("x/demo", "lora", "bf16", "nf4", 8, 128, 4, 2)
    assert trial.name == "demo lora nf4 bf16, 8 x 128, accumulated over 2, every 4th layer recomputed"
    names = [replace(trial, checkpointing=way, accumulation=1).name for way in (False, True, 2, 3, "offload")]
    assert [name.partition("128, ")[2] for name in names] == [
        "nothing recomputed",
        "every layer recomputed",
        "every 2nd layer recomputed",
        "every 3rd layer recomputed",
        "every layer recomputed, inputs in main memory",
    ]


def test_the_plan_as_json(ask):
    plan = json.loads(ask("h100", "--json", "--minutes", "2"))
    assert plan["device"] == "cuda"
    assert plan["minutes"] == 2
    assert [step["name"] for step in plan["steps"]] == [
        "machine",
        "kernels",
        "training",
        "memory",
        "speed",
        "settings",
    ]
    checks = [check for step in plan["steps"] for check in step["checks"]]
    assert all(check["limit_s"] >= 60 and check["expected_s"] > 0 for check in checks)
    assert 1 < sum(check["begins"] for check in checks) < len(checks)
