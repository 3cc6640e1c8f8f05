"""What a sweep may vary: read from TOML and from a shell, and everything wrong with it said at once."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from engine.profile.fields import field_at
from engine.profile.values import format_value, parse_value
from engine.resolve.check import examine
from engine.resolve.search_space import Choices, Range, dimensions, space_of
from engine.sweep.combinations import grid_params, plan_of, trial_text


def problems(loaded) -> list[str]:
    return [str(item.problem) for item in examine(loaded, None).problems]


def test_lists_rows_and_ranges_are_read(plan):
    found = plan(
        """
[sweep.space]
lora.r = [8, 16]
"lora.alpha, lora.dropout" = [[16, 0.05], [32, 0.1]]
train.learning_rate = { low = 1e-5, high = 1e-3, log = true }
train.total_batch_size = { low = 4, high = 32, step = 4 }
"""
    )
    assert found.dimensions == (
        Choices(("lora.r",), ((8,), (16,))),
        Choices(("lora.alpha", "lora.dropout"), ((16, 0.05), (32, 0.1))),
        Range("train.learning_rate", 1e-5, 1e-3, log=True),
        Range("train.total_batch_size", 4, 32, step=4, whole=True),
    )
    assert found.method == "tpe"


def test_a_grid_is_every_combination_the_last_fastest(plan):
    found = plan('[sweep.space]\n"lora.r, lora.alpha" = [[8, 16], [16, 32]]\nlora.use_dora = [false, true]\n')
    assert found.method == "grid"
    assert list(grid_params(found.dimensions)) == [
        {"lora.r": 8, "lora.alpha": 16, "lora.use_dora": False},
        {"lora.r": 8, "lora.alpha": 16, "lora.use_dora": True},
        {"lora.r": 16, "lora.alpha": 32, "lora.use_dora": False},
        {"lora.r": 16, "lora.alpha": 32, "lora.use_dora": True},
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("lora.r = [8, 0]", "sweep.space.lora.r: lora.r: 0 is out of range - use a whole number from 1 to 1,024"),
        ('lora.r = ["8"]', "write it without quotes"),
        ("lora.dropot = [0.1]", "did you mean 'lora.dropout'?"),
        ("lora.r = 8", "neither a list of values nor a range"),
        ("lora.r = []", "neither a list of values nor a range"),
        ('"lora.r, lora.alpha" = [[8, 16], [16]]', "[16] has 1 values for 2 settings"),
        ('lora.r = [8]\n"lora.r, lora.alpha" = [[8, 16]]', "lora.r is varied twice"),
        ("train.learning_rate = { low = 1e-3, high = 1e-5 }", "low 0.001 is not below high 1e-05"),
        ("train.weight_decay = { low = 0, high = 0.1, log = true }", "begins above 0"),
        ("train.weight_decay = { low = 0, high = 2 }", "2.0 is out of range - use a number from 0 to 1"),
        ("train.weight_decay = { low = 0 }", "a range needs numbers"),
        ("lora.r = { low = 1.5, high = 8 }", "is a whole number"),
        ("train.optim = { low = 1, high = 8 }", "train.optim is no number - list its values"),
        ("export.merged = [true, false]", "does not change what is learnt"),
        ("data.validation_split = ['a', 'b']", "changes the rows that trials are compared on"),
        ("data.learn = [['text'], ['calls']]", "losses cannot be compared when data.learn differs"),
        ("model.max_length = [64, 128]", "losses cannot be compared when model.max_length differs"),
    ],
)
def test_every_wrong_entry_says_what_and_where(load, entry, said):
    found = problems(load(f"[sweep.space]\n{entry}\n"))
    assert any(said in text for text in found), found
    assert all(":10" in text or ":11" in text for text in found), found


def test_all_wrong_entries_are_told_at_once_and_the_rest_is_checked_too(load):
    found = problems(load("[sweep.space]\nlora.r = [0]\nlora.dropout = [3]\n[train]\nmax_steps = 0\n"))
    assert len(found) == 3


def test_held_out_rows_that_come_from_a_share_must_stay_the_same(load):
    base = '[model]\nname_or_path = "demo"\n[[data.datasets]]\npath = "demo:dates.train.jsonl"\n'
    assert "compare on a file of its own" in problems(load("[sweep.space]\ntrain.seed = [1, 2]\n", base))[0]
    assert problems(load("[sweep.space]\ntrain.seed = [1, 2]\n")) == []


def test_a_score_must_be_among_what_is_evaluated(load):
    text = '[sweep]\nmetric = "bleu"\n[sweep.space]\nlora.r = [8]\n[evaluate]\nmetrics = ["exact_match"]\n'
    assert "'bleu' is not among what is evaluated - add 'bleu' to evaluate.metrics" in problems(load(text))[0]
    assert problems(load(text.replace('"bleu"', '"token_f1"'))) == []


def test_a_range_is_no_grid(load):
    text = '[sweep]\nmethod = "grid"\n[sweep.space]\ntrain.learning_rate = { low = 1e-5, high = 1e-3 }\n'
    assert "a grid has no values for the range of train.learning_rate" in problems(load(text))[0]


def test_a_profile_that_varies_nothing_and_a_grid_beyond_reason_are_refused(load):
    with pytest.raises(EngineError, match="varies nothing"):
        plan_of(load(""))
    with pytest.raises(EngineError, match="1,000,000 combinations"):
        plan_of(load(f"[sweep.space]\nlora.r = {list(range(1, 1001))}\nlora.alpha = {list(range(1, 1001))}\n"))


def test_a_trials_profile_keeps_comments_and_varies_nothing(plan):
    text = trial_text(plan('[sweep.space]\n"lora.r, lora.alpha" = [[8, 16]]\n'), {"lora.r": 8, "lora.alpha": 16})
    assert text.startswith("# mine")
    assert "# small" in text
    assert "sweep" not in text
    assert "r = 8" in text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("lora.r=8,16", {"lora.r": [8, 16]}),
        ("train.learning_rate=1e-5..1e-3:log", {"train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}),
        ("lora.alpha=8..64:step=8", {"lora.alpha": {"low": 8, "high": 64, "step": 8}}),
        ("lora.r, lora.alpha=[[8, 16], [16, 32]]", {"lora.r, lora.alpha": [[8, 16], [16, 32]]}),
        ("train.optim=adamw_torch, lion_32bit", {"train.optim": ["adamw_torch", "lion_32bit"]}),
        ("lora.use_dora=true,false", {"lora.use_dora": [True, False]}),
    ],
)
def test_a_space_can_be_written_in_a_shell(written, read):
    assert space_of([written]) == read
    dimensions(read)


def test_what_is_no_space_in_a_shell_is_refused():
    with pytest.raises(EngineError, match="is not key=values"):
        space_of(["lora.r"])


def test_the_form_writes_what_it_reads():
    field = field_at("sweep.space")
    text = 'lora.r = [8, 16], "lora.alpha, lora.dropout" = [[16, 0.5]], train.optim = ["a\\"b"]'
    value = parse_value(field, text)
    assert parse_value(field, format_value(value)) == value
    for wrong in ("lora.r = ", "[8]", "a.b = 1, a.b = 2", "." * 100 + "=1"):
        with pytest.raises(ValueError, match="must be a table"):
            parse_value(field, wrong)
