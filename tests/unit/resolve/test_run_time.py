"""How long a run would take: from steps, from the size of its files, from counted data; as a run counts its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.api import fit
from engine.hardware.machine import Cpu, Machine
from engine.profile.schedule import plan_schedule
from engine.profile.schema import Profile
from engine.recommend.plan import Plan
from engine.resolve.run_time import run_time, time_words

MACHINE = Machine(
    hostname="desk",
    cpu=Cpu("Some CPU", 8, 16, bf16_native=True),
    ram_total_bytes=64 * fit.GIB,
    ram_available_bytes=48 * fit.GIB,
    disk_path="/",
    disk_free_bytes=100 * fit.GIB,
)


@pytest.fixture
def plan() -> Plan:
    """Two sequences of 512 tokens at a time, three times a step."""
    made = fit.plan_model(fit.resolve_model("demo"), MACHINE, fit.Requirements(max_length=512))
    return replace(made, shape=replace(made.shape, micro_batch=2, gradient_accumulation_steps=3, max_length=512))


def settings(**values: object) -> dict[str, dict[str, object]]:
    return {f"train.{key}": {"value": value} for key, value in values.items()}


def test_without_steps_and_files_nothing_is_known(plan: Plan, tmp_path: Path) -> None:
    assert run_time(plan, settings(num_train_epochs=3), None, tmp_path) is None
    assert time_words(None) == ""


def test_steps_that_are_given_count_as_full_batches(plan: Plan, tmp_path: Path) -> None:
    time = run_time(plan, settings(max_steps=40), None, tmp_path)
    assert time is not None
    assert (time.steps, time.tokens, time.source) == (40, 40 * 6 * 512, "full batches")
    assert time_words(time).startswith("about 40 steps")


def test_files_count_by_their_size(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("x" * 122_880)
    named = {"data.datasets.0.path": {"value": "rows.jsonl"}, "data.datasets.1.path": {"value": "gone.jsonl"}}
    time = run_time(plan, {**named, **settings(num_train_epochs=2)}, None, tmp_path)
    assert time is not None
    assert (time.steps, time.tokens, time.source) == (20, 61_440, "by file size")


@pytest.mark.parametrize(("sequences", "epochs"), [(1, 1.0), (13, 1.0), (13, 2.5), (600, 0.1), (7, 3.0)])
def test_counted_data_give_the_steps_of_the_trainer(plan: Plan, tmp_path: Path, sequences: int, epochs: float) -> None:
    report = {"train": {"sequences": sequences, "tokens": sequences * 500}}
    time = run_time(plan, settings(num_train_epochs=epochs), report, tmp_path)
    train = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": epochs}
    profile = Profile.model_validate(
        {"model": {"name_or_path": "demo"}, "data": {"datasets": [{"path": "demo:train"}]}, "train": train}
    )
    assert time is not None
    assert time.steps == plan_schedule(profile, sequences, has_validation=False).steps_total
    assert time_words(time).startswith(f"{time.steps} step")
    assert time.source == "data counted"
