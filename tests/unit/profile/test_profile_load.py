"""Reading a profile: what is found, on which line, with which advice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.profile.load import load_profile
from engine.profile.tomltext import key_lines, line_of
from tests.unit.profile_machines import DATA, MODEL


def test_a_sparse_profile_is_whole(load):
    loaded = load(MODEL + DATA)
    assert loaded.problems == ()
    assert loaded.profile.train.learning_rate == "auto"
    assert loaded.given == {"model.name_or_path", "model.max_length", "data.datasets.0.path"}


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[train]\nlearning_rat = 1e-4\n", "train.learning_rat", "train.learning_rate"),
        ("[train]\nlr = 1e-4\n", "train.lr", "train.learning_rate"),
        ("[lora]\nlora_alpha = 3\n", "lora.lora_alpha", "lora.alpha"),
        ("[lroa]\nr = 3\n", "lroa", "lora"),
        ("[launch]\nmax_length = 3\n", "launch.max_length", "model.max_length"),
        ('[[data.datasets]]\npath = "b.csv"\nfromat = "alpaca"\n', "data.datasets.1.fromat", "data.datasets.1.format"),
    ],
)
def test_an_unknown_key_names_the_nearest(load, text, key, nearest):
    (problem,) = load(MODEL + DATA + text).problems
    assert problem.key == key
    assert problem.hint == f"did you mean '{nearest}'?"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed = true", "is not a whole number"),
        ("seed = 1.5", "is not a whole number"),
        ('seed = "42"', "write it without quotes"),
        ("learning_rate = nan", "is out of range"),
        ("learning_rate = inf", "is out of range"),
        ("learning_rate = 1e999", "is out of range"),
        ("learning_rate = false", "is not a number"),
        ("learning_rate = 0", "a number above 0 and at most 1, or 'auto'"),
        ("load_best_model_at_end = 1", "true or false"),
        ("eval_steps = 0", "from 1 to 1,000,000,000, or 'auto'"),
        ("activation_checkpointing = 0", "true, false or a whole number"),
        ('activation_checkpointing = "on"', "is not true, false, a number, 'offload' or 'attention'"),
        ('activation_checkpointing = "of"', "from 1 to 1,000, on a GPU also 'offload' or 'attention', or 'auto'"),
        ("max_steps = 2020-01-01", "is not a whole number"),
        ('lr_scheduler_type = "cosin"', "did you mean 'cosine'?"),
    ],
)
def test_a_wrong_value_is_told_in_words(load, setting, said):
    loaded = load(MODEL + DATA + "[train]\n" + setting + "\n")
    (problem,) = loaded.problems
    assert said in str(problem)
    assert problem.line == 7
    assert problem.where.endswith("p.toml:7")


def test_auto_is_accepted_where_the_machine_may_choose(load):
    fields = ("per_device_train_batch_size", "learning_rate", "activation_checkpointing", "eval_steps", "optim")
    text = "".join(f'{name} = "auto"\n' for name in fields)
    assert load(MODEL + DATA + "[train]\n" + text).problems == ()
    (problem,) = load(MODEL + DATA + '[train]\nseed = "auto"\n').problems
    assert "whole number" in problem.message


def test_every_problem_comes_at_once_and_the_rest_stays_usable(load):
    loaded = load('[model]\ndtype = "bfloat16"\n[lora]\nr = 0\nalpha = 8\n[train]\nsedd = 1\n')
    keys = {problem.key for problem in loaded.problems}
    assert keys == {"model.name_or_path", "model.dtype", "lora.r", "train.sedd", "data"}
    assert loaded.profile is None
    assert loaded.partial.lora.alpha == 8
    assert not loaded.is_sound("lora.r")
    assert not loaded.is_sound("data.datasets.0.path")
    assert loaded.is_sound("lora.alpha")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MODEL + '[data]\ndatasets = {path = "a.jsonl"}\n', "two brackets"),
        (MODEL + "[data]\ndatasets = []\n", "[[data.datasets]]"),
        (MODEL + '[data]\ndatasets = ["a.jsonl"]\n', "[data.datasets]"),
        ('model = "demo"\n' + DATA, "write [model]"),
        (MODEL + "[[data.datasets]]\nformat = 'alpaca'\n", "set it:"),
        ("schema_version = 2\n" + MODEL + DATA, "the number 1"),
        ('name = "../../etc"\n' + MODEL + DATA, "starting with a letter or digit"),
    ],
)
def test_a_misshapen_table_says_how_to_write_it(load, text, said):
    (problem,) = load(text).problems
    assert said in str(problem)


def test_thousands_of_unknown_keys_are_counted_not_listed(load):
    loaded = load(MODEL + DATA + "[train]\n" + "".join(f"k{n} = 1\n" for n in range(3000)))
    assert len(loaded.problems) == 51
    assert "2950 more" in loaded.problems[-1].message


def test_overrides_are_typed_as_in_toml_or_as_in_the_form(load):
    loaded = load(
        MODEL + DATA,
        "train.learning_rate=1e-4",
        "model.max_length=16k",
        "lora.target_modules=q_proj,v_proj",
        "evaluate.metrics=['rouge']",
        "name=12",
        "model.dtype=fp32",
        "data.packing=no",
        "data.datasets.1.path=b.csv",
    )
    profile = loaded.profile
    assert (profile.train.learning_rate, profile.model.max_length) == (1e-4, 16384)
    assert profile.lora.target_modules == ["q_proj", "v_proj"]
    assert (profile.evaluate.metrics, profile.name, profile.model.dtype) == (["rouge"], "12", "fp32")
    assert profile.data.packing is False
    assert [item.path for item in profile.data.datasets] == ["train.jsonl", "b.csv"]
    assert "model.max_length" in loaded.overridden


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nonsense", "not key=value"),
        ("train.seed.deep=1", "table"),
        ("data.datasets.7.path=x", "no entry '7'"),
        ("lora.r=0", "out of range"),
        ("train.sede=1", "did you mean 'train.seed'"),
        ("lora.r=1\nevil=2", "not a whole number"),
        ("a.b.c.d.e.f.g.h.i.j=1", "not key=value"),
    ],
)
def test_a_bad_override_is_a_problem_of_the_command_line(load, override, said):
    loaded = load(MODEL + DATA + "[train]\nseed = 1\n", override)
    assert said in str(loaded.problems[0])
    assert loaded.problems[0].where == "--set"
    assert loaded.profile is None


def test_lines_of_keys_in_every_notation():
    text = "\n".join(
        [
            'a.b = """',
            "x = 1 # not a key",
            '"""',
            "[t]",
            "list = [",
            '  { k = "v" }, # comment = 1',
            "  { k = 'w', m.n = 2 },",
            "]",
            "[[e.f]]",
            "'q' = 1",
            "[[e.f]]",
            "q = 2",
            "[e.f.sub]",
            "z = 1",
        ]
    )
    lines = key_lines(text)
    expected = {
        "a.b": 1,
        "t.list": 5,
        "t.list.0.k": 6,
        "t.list.1.m.n": 7,
        "e.f.0.q": 10,
        "e.f.1.q": 12,
        "e.f.1.sub.z": 14,
    }
    assert {key: lines.get(key) for key in expected} == expected
    assert "x" not in lines
    assert line_of(lines, "e.f.1.missing") == 11
    assert line_of(lines, "nowhere") is None


def test_a_missing_file_names_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = load_profile("no.toml").problems
    assert problem.where == str(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff\xfem\x00", "UTF-16"),
        (b'[model]\nname_or_path = "\xe9"\n', "not UTF-8"),
        (b"a = 1\n" * 60_000, "larger than 256 KiB"),
    ],
)
def test_unreadable_bytes_are_named(tmp_path, raw, said):
    path = tmp_path / "p.toml"
    path.write_bytes(raw)
    (problem,) = load_profile(path).problems
    assert said in problem.message


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path):
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (MODEL + DATA).replace("\n", "\r\n").encode())
    assert load_profile(path).problems == ()


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    fifo = tmp_path / "fifo.toml"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        (problem,) = load_profile(path).problems
        assert "not a file" in problem.message


def test_control_characters_never_reach_a_message(load):
    text = (
        MODEL.replace("demo", "d\\u001b[2J\\u202e") + '[data]\ntemplate = "\\u0000\\u009b"\n"\\u001bkey" = 1\n' + DATA
    )
    problems = load(text).problems
    assert len(problems) == 3
    shown = "".join(str(problem) + problem.key + problem.value for problem in problems)
    assert not [char for char in shown if ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char == "\u202e"]
