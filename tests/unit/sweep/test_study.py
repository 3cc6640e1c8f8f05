"""The study: each cell once, whoever asks; nothing lost with the process; poor trials ended, good regions found."""

from __future__ import annotations

import math

import pytest

from engine.errors import EngineError
from engine.resolve.search_space import Choices, Range
from engine.sweep.study import MISSED, Search, Study, cut_torn_line

ROWS = Choices(("lora.r", "lora.alpha"), ((8, 16), (16, 32), (32, 64), (64, 128)))
RATE = Range("train.learning_rate", 1e-6, 1e-1, log=True)
CELLS = [dict(zip(ROWS.keys, row, strict=True)) for row in ROWS.rows]


def search(method="grid", dimensions=(ROWS,), trials=4, metric="eval_loss", pruner="none", seed=0) -> Search:
    return Search("s", dimensions, method, trials, metric, pruner, seed)


@pytest.fixture
def open_study(tmp_path):
    return lambda what=None, owner="me", **more: Study(what or search(), str(tmp_path / "study.journal"), owner, **more)


def test_a_grid_is_asked_for_cell_by_cell_and_ends(open_study):
    study = open_study()
    study.enqueue(CELLS)
    study.enqueue(CELLS)
    asked = [study.ask() for _ in range(5)]
    assert [one.params for one in asked[:4]] == CELLS
    assert asked[4] is None


def test_two_machines_share_the_cells(open_study):
    here, there = open_study(owner="here", shared=True), open_study(owner="there", shared=True)
    here.enqueue(CELLS)
    there.enqueue(CELLS)
    taken = [here.ask(), there.ask(), here.ask(), there.ask()]
    assert [one.params for one in taken] == CELLS
    assert here.ask() is None
    assert there.ask() is None
    here.complete(taken[0].number, 1.0)
    assert [one.number for one in here.ours()] == [taken[2].number]
    assert {one.owner for one in there.all()} == {"here", "there"}


def test_a_killed_process_loses_nothing(open_study, tmp_path):
    study = open_study()
    study.enqueue(CELLS)
    done, open_one = study.ask(), study.ask()
    study.report(done.number, 10, 0.5)
    study.complete(done.number, 0.4)
    study.mark(open_one.number, "run", "abc")
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 5, "tria')
    cut_torn_line(journal)
    again = open_study()
    assert [(one.number, one.marks["run"]) for one in again.ours()] == [(open_one.number, "abc")]
    assert again.of(done.number).value == 0.4
    assert again.ask().params == CELLS[2]


def test_another_space_or_metric_is_not_mixed_in(open_study):
    open_study()
    with pytest.raises(EngineError, match="searches something else"):
        open_study(search(metric="bleu"))
    with pytest.raises(EngineError, match="searches something else"):
        open_study(search(dimensions=(RATE,), method="tpe"))


def test_tpe_finds_the_best_region_sooner_than_chance(open_study, tmp_path):
    def best_of(method: str, seed: int) -> float:
        what = search(method, (RATE,), trials=20, seed=seed)
        study = Study(what, str(tmp_path / f"{method}{seed}"), "me")
        while (one := study.ask()) is not None:
            study.complete(one.number, (math.log10(one.params["train.learning_rate"]) + 3) ** 2)
        return min(one.value for one in study.all())

    seeds = range(2)
    assert sum(best_of("tpe", seed) for seed in seeds) < sum(best_of("random", seed) for seed in seeds)


def test_random_draws_differ_after_a_resume_and_repeat_for_a_seed(open_study, tmp_path):
    what = search("random", (RATE,), trials=4)
    first = open_study(what)
    one = first.ask()
    two = open_study(what).ask()
    assert one.params != two.params
    assert Study(what, str(tmp_path / "other"), "me").ask().params == one.params


def test_as_many_trials_as_asked_for_and_settings_that_cannot_run_are_none_of_them(open_study):
    study = open_study(search("random", (RATE,), trials=2))
    missed = study.ask()
    study.mark(missed.number, MISSED, True)
    study.fail(missed.number, "does not fit")
    assert study.ask() is not None
    assert study.ask() is not None
    assert study.ask() is None


def test_the_median_ends_what_is_worse_and_spares_what_is_better(open_study):
    study = open_study(search(trials=4, pruner="median"))
    study.enqueue(CELLS)
    for loss in (1.0, 2.0):
        number = study.ask().number
        study.report(number, 10, loss)
        assert not study.is_hopeless(number)
        study.complete(number, loss)
    better, worse = study.ask().number, study.ask().number
    study.report(better, 10, 0.5)
    study.report(worse, 10, 3.0)
    study.report(worse, 10, 3.0)
    assert not study.is_hopeless(better)
    assert study.is_hopeless(worse)
    study.prune(worse, "worse")
    assert study.of(worse).state == "pruned"


def test_losses_prune_though_a_score_ranks(open_study):
    study = open_study(search(trials=4, metric="exact_match", pruner="median"))
    study.enqueue(CELLS)
    for loss, score in ((1.0, 80.0), (2.0, 40.0)):
        number = study.ask().number
        study.report(number, 10, loss)
        study.complete(number, score)
    worse = study.ask().number
    study.report(worse, 10, 3.0)
    assert study.is_hopeless(worse)


def test_a_loss_that_is_no_number_is_the_worst(open_study):
    study = open_study(search(trials=4, pruner="median"))
    study.enqueue(CELLS)
    for _ in range(2):
        number = study.ask().number
        study.report(number, 10, 1.0)
        study.complete(number, 1.0)
    number = study.ask().number
    study.report(number, 10, float("nan"))
    assert study.is_hopeless(number)


def test_a_database_that_does_not_answer_is_an_error_in_words(tmp_path):
    with pytest.raises(EngineError, match="the storage cannot be opened") as raised:
        Study(search(), f"sqlite:///{tmp_path}/no/such/folder.db", "me")
    assert "shared disk" in raised.value.hint
