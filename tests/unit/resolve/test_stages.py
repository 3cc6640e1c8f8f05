"""Stages in a row: all are checked before the first begins, and each knows its place."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from engine.resolve.stages import check_stages, read_again
from engine.runs.stages import StageProfile, StageRow, next_run, row_of, write_row
from engine.runs.store import Run, create_run
from tests.unit.profile_machines import DATA, MODEL

SFT = f"{MODEL}{DATA}[lora]\nr = 8\n[tuning]\nmethod = 'lora'\n"
NEXT = f"{MODEL}{DATA}[train]\nobjective = 'dpo'\n[tuning]\nmethod = 'lora'\n"


@pytest.fixture
def row(load, tmp_path):
    load(SFT)

    def make(*texts):
        paths = [tmp_path / f"{number}.toml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return StageRow(1, tuple(StageProfile(str(path), text) for path, text in zip(paths, texts, strict=True)))

    return make


def test_stages_that_go_together_pass_and_the_next_need_not_repeat_the_rank(row, cpu_machine):
    check_stages(row(SFT, NEXT), cpu_machine)
    check_stages(row(SFT, f"{NEXT}[lora]\nr = 8\n", NEXT), cpu_machine)


def test_the_rank_of_the_first_stage_is_that_of_all_behind_it(row, cpu_machine):
    check_stages(row(SFT, NEXT, f"{NEXT}[lora]\nr = 8\n"), cpu_machine)
    with pytest.raises(EngineError, match="has 8, not 16"):
        check_stages(row(SFT, NEXT, f"{NEXT}[lora]\nr = 16\n"), cpu_machine)


REFUSED = {
    "other tokens": (
        SFT.replace("[model]\n", "[model]\nadditional_special_tokens = ['<a>']\n"),
        NEXT.replace("[model]\n", "[model]\nadditional_special_tokens = ['<b>']\n"),
        ["model.additional_special_tokens", "has <a>, not <b>"],
    ),
    "another rank": (SFT, f"{NEXT}[lora]\nr = 4\n", ["lora.r", "stage 1"]),
    "another base": (SFT, NEXT.replace('"demo"', '"Qwen/Qwen2.5-0.5B"'), ["tuning.adapter", "'demo'"]),
    "an adapter of its own": (SFT, NEXT.replace("[tuning]\n", "[tuning]\nadapter = 'x'\n"), ["tuning.adapter"]),
    "no adapter behind it": (SFT.replace("'lora'", "'full'").replace("[lora]\nr = 8\n", ""), NEXT, ["stage 1", "full"]),
    "a wrong key later": (SFT, NEXT + "[train2]\n", ["train2"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_later_stage_lacks_is_told_before_the_first(row, cpu_machine, case):
    first, second, words = REFUSED[case]
    with pytest.raises(EngineError) as raised:
        check_stages(row(first, second), cpu_machine)
    told = " ".join([str(raised.value), *map(str, raised.value.problems)])
    assert all(word in told for word in words)


def test_a_run_knows_its_place_and_the_stage_behind_it(row, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = row(SFT, NEXT)
    first = create_run("sft", {}, SFT)
    write_row(first, made)
    assert row_of(first.path) == made
    assert next_run(first) is None
    second = create_run("dpo", {}, NEXT)
    write_row(second, made.after(first))
    assert next_run(first) == second
    assert (row_of(second.path).number, row_of(second.path).is_last) == (2, True)


def test_a_profile_that_was_mended_meanwhile_counts_aloud(row, tmp_path):
    made = row(SFT, NEXT)
    (tmp_path / "1.toml").write_text(NEXT + "# mended\n")
    (tmp_path / "0.toml").write_text("spoiled, and over")
    again, changed = read_again(made.after(Run("first", tmp_path)))
    assert changed == (str(tmp_path / "1.toml"),)
    assert again.profile.text.endswith("# mended\n")
