"""The fastest of the right paths is taken, by measurement, and what was asked for is never overridden."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.batch import PackedDataset, collate
from engine.hardware.probe import probe_machine
from engine.modeling import liger
from engine.modeling.adapters import base_of
from engine.models.families import FAMILIES
from engine.profile.schema import Profile
from engine.runs.events import read_events
from engine.runs.kernel_records import MOST_RECORDS, KernelRecord, find_record, keep_record
from engine.train import allowed as rules
from engine.train import kernel_choice, kernel_trials, timing
from engine.train.acceleration import Acceleration
from engine.train.allowed import FUSED, LIGER, Allowed
from engine.train.compiled import COMPILED
from engine.train.kernel_choice import KERNELS_JSON, Place, choose, place_of
from engine.train.small import small_row
from engine.train.trainer import EngineTrainer
from tests.unit.train.conftest import make_packed, make_settings, make_trainer, weights

SUBJECT = {"versions": {"torch": "2.13"}, "family": "llama", "shape": {"hidden_size": 64}}


def without_dropout(**settings: Any) -> Profile:
    found = make_settings(**settings)
    return found.model_copy(update={"lora": found.lora.model_copy(update={"dropout": 0.0})})


def events_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl")[0] if event["type"] == kind]


def path_of(key: str, seconds: float = 0.0, error: Exception | None = None) -> Acceleration:
    """A path that computes the same and takes as long as it is told to; in a whole micro-batch it may fail."""

    def apply(model: Any) -> None:
        def forwarded(module: Any, inputs: Any, output: Any) -> None:
            time.sleep(seconds)
            if error is not None and inputs[0].shape[0] > 1:
                raise error

        layer = base_of(model).get_decoder().layers[0]
        model.paths = {**getattr(model, "paths", {}), key: layer.register_forward_hook(forwarded)}

    def undo(model: Any) -> None:
        handle = getattr(model, "paths", {}).pop(key, None)
        if handle is not None:
            handle.remove()

    return Acceleration(f"{key} is off", f"{key}_fallback", apply, undo, key=key, title=key.title())


def on(trainer: EngineTrainer) -> set[str]:
    return set(getattr(trainer.model, "paths", {}))


@pytest.fixture
def choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trainer whose allowed paths are given, and the choice among them."""

    def run(paths: list[Allowed], *, always: bool = True, name: str = "run", **train: Any) -> tuple[EngineTrainer, str]:
        monkeypatch.setattr(kernel_choice, "allowed", lambda *_: paths)
        trainer = make_trainer(tmp_path / name, without_dropout(**train))
        ways = choose(trainer, frozenset(), Place(tmp_path / "card.kernels.json", SUBJECT, always=always))
        return trainer, kernel_trials.word(ways)

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds by the paths that are on, sorted; what is missing does not fit. The trials ask for nothing else."""
    seconds: dict[str, float] = {}
    monkeypatch.setattr(kernel_trials, "micro_batch_s", lambda trainer, _: seconds.get("+".join(sorted(on(trainer)))))
    return seconds


def test_the_fastest_combination_stays_on_and_is_known_the_next_time(
    choosing: Any, clock: dict[str, float], tmp_path: Path
) -> None:
    paths = [Allowed(path_of("quick"), fixed=False), Allowed(path_of("slow"), fixed=False)]
    clock |= {"quick+slow": 1.2, "quick": 0.8, "slow": 1.3, "": 1.0}
    trainer, word = choosing(paths)
    assert word == "quick"
    assert on(trainer) == {"quick"}
    (event,) = events_of(tmp_path / "run", "kernels")
    assert event["source"] == "measured"
    assert event["seconds"] == {"quick+slow": 1.2, "quick": 0.8, "slow": 1.3, "plain": 1.0}
    assert events_of(tmp_path / "run", "phase")[-1]["detail"] == "Quick: 1.25 x, measured"

    clock.clear()
    again, word = choosing(paths, name="again", always=False)
    assert word == "quick"
    assert on(again) == {"quick"}
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert events_of(tmp_path / "again", "phase")[-1]["detail"] == f"Quick: 1.25 x, known from {today}"


def test_the_leaner_of_two_that_are_as_fast_is_taken(choosing: Any, clock: dict[str, float]) -> None:
    clock |= {"lean": 1.0, "": 0.995}
    assert choosing([Allowed(path_of("lean"), fixed=False)])[1] == "lean"


def test_a_micro_batch_is_timed_as_it_trains(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings())
    batch = collate([trainer.train_dataset[row] for row in range(2)])
    plain = timing.micro_batch_s(trainer, batch)
    path_of("slow", 0.2).apply(trainer.model)
    slow = timing.micro_batch_s(trainer, batch)
    assert plain is not None
    assert slow is not None
    assert slow > max(0.2, plain)
    assert all(each.grad is None for each in trainer.model.parameters())


def test_what_a_person_set_is_never_left_out(choosing: Any, clock: dict[str, float], tmp_path: Path) -> None:
    clock |= {"quick+slow": 1.2, "quick": 0.8, "slow": 1.3, "": 1.0}
    paths = [Allowed(path_of("slow"), fixed=True), Allowed(path_of("quick"), fixed=False)]
    assert choosing(paths)[1] == "slow+quick"
    assert set(events_of(tmp_path / "run", "kernels")[0]["seconds"]) == {"slow+quick", "slow"}


def test_a_way_that_does_not_fit_is_not_taken_and_nothing_wider_is_tried(choosing: Any, tmp_path: Path) -> None:
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    lean, wide = path_of("lean"), path_of("wide", error=short)

    def apply(model: Any) -> None:
        wide.undo(model)
        lean.apply(model)

    def undo(model: Any) -> None:
        lean.undo(model)
        wide.apply(model)

    free = Allowed(dataclasses.replace(lean, apply=apply, undo=undo), fixed=False)
    trainer, word = choosing([free, Allowed(path_of("other"), fixed=False)])
    assert "lean" in word.split("+")
    assert on(trainer) >= {"lean"}
    (event,) = events_of(tmp_path / "run", "kernels")
    assert event["unfit"] == ["other", "plain"]
    assert all(each.grad is None for each in trainer.model.parameters())


def test_where_nothing_fits_the_leanest_is_begun_with(choosing: Any, clock: dict[str, float], tmp_path: Path) -> None:
    assert choosing([Allowed(path_of("lean"), fixed=False)])[1] == "lean"
    assert not (tmp_path / "card.kernels.json").exists()


def test_a_path_that_is_wrong_is_no_candidate(choosing: Any, tmp_path: Path) -> None:
    wrong = path_of("wrong")

    def twice(model: Any) -> None:
        wrong.apply(model)
        layer = base_of(model).get_decoder().layers[0]
        model.paths["wrong"].remove()
        model.paths["wrong"] = layer.register_forward_hook(lambda module, inputs, output: output * 2)

    paths = [Allowed(dataclasses.replace(wrong, apply=twice), fixed=True), Allowed(path_of("right"), fixed=False)]
    trainer, word = choosing(paths)
    assert "wrong" not in word
    assert on(trainer) <= {"right"}
    assert [event["code"] for event in events_of(tmp_path / "run", "warning")] == ["wrong_fallback"]


def test_a_short_run_measures_nothing_and_takes_all_that_is_right(
    choosing: Any, clock: dict[str, float], tmp_path: Path
) -> None:
    clock |= {"quick+slow": 1.2, "quick": 0.8, "slow": 1.3, "": 1.0}
    paths = [Allowed(path_of("quick"), fixed=False), Allowed(path_of("slow"), fixed=False)]
    trainer, word = choosing(paths, always=False, max_steps=399)
    assert word == "quick+slow"
    assert on(trainer) == {"quick", "slow"}
    assert events_of(tmp_path / "run", "kernels")[0]["source"] == ""
    assert choosing(paths, always=False, name="long", max_steps=400)[1] == "quick"


def test_measuring_leaves_no_trace_in_what_is_learned(choosing: Any, tmp_path: Path) -> None:
    free = [Allowed(FUSED, fixed=False)]
    measured, _ = choosing(free)
    state = torch.get_rng_state()
    fixed, _ = choosing([Allowed(FUSED, fixed=True)], name="other")
    assert torch.equal(state, torch.get_rng_state())
    for trainer in (measured, fixed):
        FUSED.apply(trainer.model)
        torch.manual_seed(3)
        trainer.train()
    ours, theirs = weights(measured), weights(fixed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_resumed_run_goes_on_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Allowed(path_of("one"), fixed=False), Allowed(path_of("two"), fixed=False)]
    monkeypatch.setattr(kernel_choice, "allowed", lambda *_: paths)
    trainer = make_trainer(tmp_path / "run", without_dropout())
    (tmp_path / "run" / KERNELS_JSON).write_text(json.dumps({"ways": "two"}))
    trainer.job.params["resume"] = True
    assert kernel_trials.word(choose(trainer, frozenset(), Place(always=True))) == "two"
    assert on(trainer) == {"two"}
    (tmp_path / "run" / KERNELS_JSON).write_text(json.dumps({"ways": "gone+two"}))
    choose(trainer, frozenset(), Place())
    assert [event["code"] for event in events_of(tmp_path / "run", "warning")] == ["kernels_changed"]


def test_layers_are_compiled_where_that_pays(
    choosing: Any, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kernel_choice, kernel_trials):
        monkeypatch.setattr(module, "COMPILED", path_of("compiled"))
    clock |= {"compiled": 0.8, "": 1.0}
    monkeypatch.setattr(kernel_choice, "may_compile", lambda *_: True)
    assert choosing([], max_steps=700, name="short")[1] == "plain", "30 s are too much for 1,400 s"
    trainer, word = choosing([], max_steps=1000, name="long")
    assert word == "compiled"
    assert on(trainer) == {"compiled"}
    clock.clear()
    assert choosing([], max_steps=1000, name="known", always=False)[1] == "compiled"


def test_layers_that_are_slower_compiled_are_tried_once(
    choosing: Any, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kernel_choice, kernel_trials):
        monkeypatch.setattr(module, "COMPILED", path_of("compiled"))
    monkeypatch.setattr(kernel_choice, "may_compile", lambda *_: True)
    clock |= {"compiled": 1.1, "": 1.0}
    trainer, word = choosing([], max_steps=1000)
    assert word == "plain"
    assert on(trainer) == set()
    clock.clear()
    assert choosing([], max_steps=1000, name="again", always=False)[1] == "plain"


# what is allowed -----------------------------------------------------------------------------------


@pytest.fixture
def on_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keys of the paths that a run on a card may take, `!` behind those that are fixed, and warnings."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))

    def ask(given: tuple[str, ...] = (), missing: str = "", **changes: Any) -> tuple[list[str], list[str]]:
        monkeypatch.setattr(liger, "missing_reason", lambda: missing)
        trainer = make_trainer(tmp_path / "run", without_dropout())
        settings = without_dropout(device="cuda", kernels=changes.pop("kernels", "auto"), **changes.pop("train", {}))
        settings = settings.model_copy(update={"lora": settings.lora.model_copy(update=changes)})
        told: list[str] = []
        found = rules.allowed(settings, frozenset(given), trainer.model, lambda code, _: told.append(code))
        return [each.path.key + "!" * each.fixed for each in found], told

    return ask


def test_what_was_left_open_is_free_and_what_was_set_is_fixed(on_gpu: Any) -> None:
    assert on_gpu() == (["liger", "fused"], [])
    assert on_gpu(kernels="liger", fused=True) == (["liger", "fused"], []), "a plan's values"
    assert on_gpu(("train.kernels", "lora.fused"), kernels="liger", fused=True) == (["liger!", "fused!"], [])
    assert on_gpu(("train.kernels", "lora.fused"), kernels="plain", fused=False) == ([], [])
    assert on_gpu(fused=False) == (["liger"], [])
    assert on_gpu(train={"torch_compile": True}) == (["liger", "fused", "compiled!"], [])


def test_a_missing_package_is_told_where_a_card_could_use_it(on_gpu: Any) -> None:
    assert on_gpu(missing="liger-kernel is not installed") == (["fused"], ["kernels_missing"])
    assert on_gpu(kernels="plain", missing="liger-kernel is not installed") == (["fused"], ["kernels_missing"])
    assert on_gpu(("train.kernels",), kernels="plain", missing="it is not installed") == (["fused"], [])


def test_on_a_processor_nothing_is_measured(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", without_dropout())
    told: list[str] = []
    found = rules.allowed(trainer.settings, frozenset(), trainer.model, lambda code, _: told.append(code))
    assert [(each.path.key, each.fixed) for each in found] == [("fused", True)]
    assert told == []
    assert place_of(trainer, None, probe_machine(processes=False)) == Place()
    kernels = make_settings(kernels="liger")
    rules.allowed(kernels, frozenset({"train.kernels"}), trainer.model, lambda code, _: told.append(code))
    assert told == ["kernels_missing"]


def test_only_families_without_kernels_are_compiled_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path / "run", without_dropout())
    settings = make_settings(device="cuda")
    assert not rules.may_compile(settings, frozenset(), trainer.model)
    monkeypatch.setitem(FAMILIES, "llama", dataclasses.replace(FAMILIES["llama"], kernels=None))
    assert rules.may_compile(settings, frozenset(), trainer.model)
    assert not rules.may_compile(settings, frozenset({"train.torch_compile"}), trainer.model)
    assert not rules.may_compile(make_settings(), frozenset(), trainer.model)


def test_compiled_layers_leave_no_combinations() -> None:
    free = [Allowed(LIGER, fixed=False), Allowed(FUSED, fixed=False)]
    assert [kernel_trials.word(ways) for ways in kernel_trials.candidates(free)] == [
        "liger+fused",
        "liger",
        "fused",
        "plain",
    ]
    assert kernel_trials.candidates([*free, Allowed(COMPILED, fixed=True)]) == [(LIGER, FUSED, COMPILED)]


# records --------------------------------------------------------------------------------------------


def test_records_are_found_by_all_that_decides_them_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "calibration" / "card.kernels.json"
    for number in range(MOST_RECORDS + 5):
        keep_record(path, SUBJECT | {"number": number}, KernelRecord("liger", {"liger": 0.1 + number, "plain": 200.0}))
    assert len(json.loads(path.read_text())["records"]) == MOST_RECORDS
    assert find_record(path, SUBJECT | {"number": 0}) is None
    keep_record(path, SUBJECT | {"number": 9}, KernelRecord("plain", {"plain": 0.5}, ("liger+fused",)))
    found = find_record(path, SUBJECT | {"number": 9})
    assert found is not None
    assert (found.chosen, found.seconds, found.unfit) == ("plain", {"plain": 0.5}, ("liger+fused",))
    assert find_record(path, SUBJECT) is None


def damaged(**fields: Any) -> str:
    record = {"subject": {}, "chosen": "a", "seconds": {"a": 1.0}, "unfit": [], "date": "2026-01-01"}
    return json.dumps({"v": 1, "records": [record | fields]})


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"v": 9, "records": []}',
        damaged(seconds={}),
        damaged(chosen="\x1b[2J", seconds={"\x1b[2J": 1.0}),
        damaged(seconds={"a": 1e99}),
        damaged(seconds={"a": True}),
        damaged(unfit=3),
        damaged(date="today"),
    ],
)
def test_a_damaged_file_says_nothing_and_is_written_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "card.kernels.json"
    path.write_text(damaged())
    assert find_record(path, {}) is not None
    path.write_text(damage)
    assert find_record(path, {}) is None
    keep_record(path, {}, KernelRecord("plain", {"plain": 1.0}))
    assert find_record(path, {}) is not None


# small rows -----------------------------------------------------------------------------------------


def test_a_small_row_holds_the_first_trained_tokens_of_whole_documents() -> None:
    packed = make_packed(2, 0)
    long = np.arange(2000, dtype=np.int32)
    row = {
        "input_ids": long,
        "labels": np.where((long > 700) & (long < 1900), long, -100).astype(np.int32),
        "position_ids": np.arange(2000),
        "lengths": np.array([1000, 500, 300, 50, 50, 100]),
        "roles": np.arange(6),
        "padding": 100,
    }
    small = small_row(row)
    assert small["lengths"].tolist() == [256, 129, 129, 50]
    assert small["roles"].tolist() == [0, 1, 2, 3]
    assert small["input_ids"][:256].tolist() == list(range(573, 829))
    batch = collate([small])
    assert batch["items"] == 128 + 128 + 128 + 49
    assert (batch["labels"].flatten()[batch["cu_seq_lens"][:-1].long()] == -100).all()
    whole = PackedDataset(packed)[0]
    assert collate([small_row(whole)])["items"] == collate([whole])["items"]
