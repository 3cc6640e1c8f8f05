"""`engine profile …` as a shell sees it: output, streams, exit codes; and what importing costs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FIVE = """\
[model]
name_or_path = "demo"
max_lenght = 128
[tuning]
method = "full"
[quantization]
method = "nf4"
[[data.datasets]]
path = "missing.jsonl"
[train]
learning_rate = "fast"
weight_decay = 7.5
"""
GOOD = '[model]\nname_or_path = "demo"\n[[data.datasets]]\npath = "demo:dates.train.jsonl" # dates\n'


def test_five_problems_one_line_each(engine):
    Path("p.toml").write_text(FIVE)
    code, out, err = engine("profile", "check", "p.toml")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.split(": ")[0] for line in lines[:5]] == [f"p.toml:{n}" for n in (3, 7, 9, 11, 12)]
    assert lines[0] == "p.toml:3: model.max_lenght: no such setting - did you mean 'model.max_length'?"
    assert lines[5:] == ["p.toml: 5 problems"]
    code, out, _ = engine("profile", "check", "p.toml", "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"], len(error["problems"])) == (2, "profile", 5)


def processor_time_s():
    """Of the processes that were started and have ended; other work on this machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_five_problems_take_less_than_a_second(tmp_path):
    (tmp_path / "p.toml").write_text(FIVE)
    command = [sys.executable, "-m", "engine", "profile", "check", "p.toml"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    times = []
    for _ in range(3):
        began_s = processor_time_s()
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        times.append(processor_time_s() - began_s)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 6
    assert min(times) < 1.0


def test_a_good_profile_is_summed_up(engine):
    Path("p.toml").write_text(GOOD)
    code, out, _ = engine("profile", "check", "p.toml", "--set", "model.max_length=64")
    assert code == 0
    assert out.startswith("ok: demo on ")
    assert "max_length 64" in out
    code, out, _ = engine("profile", "check", "demo", "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["settings"]["tuning.method"]) == (0, True, "lora")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("dates.train", "none"), 3),
        (GOOD.replace('"demo"', '"no/such-model"'), 4),
        (GOOD.replace('"demo"', '"meta-llama/Llama-3.1-70B-Instruct"') + "[tuning]\nmethod = 'full'\n", 5),
        ("x = = 1", 2),
    ],
)
def test_exit_codes_tell_kinds_apart(engine, text, expected):
    Path("p.toml").write_text(text)
    code, _, err = engine("profile", "check", "p.toml")
    assert code == expected
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_new_from_a_shipped_profile_keeps_its_comments(engine):
    Path("sub").mkdir()
    Path("mine.jsonl").write_text("{}\n")
    arguments = (
        "profile",
        "new",
        "sub/p.toml",
        "--from",
        "cpu-smollm2-135m",
        "--model",
        "demo",
        "--data",
        "mine.jsonl",
    )
    code, out, _ = engine(*arguments)
    assert (code, out) == (0, "sub/p.toml\n")
    text = Path("sub/p.toml").read_text()
    assert "# your examples, beside this file" in text
    assert 'name_or_path = "demo"' in text
    assert 'path = "../mine.jsonl"' in text
    assert engine("profile", "check", "sub/p.toml")[0] == 0
    code, _, err = engine(*arguments)
    assert code == 2
    assert "the file exists" in err
    assert engine(*arguments, "--force")[0] == 0


def test_new_for_a_model_pins_what_was_chosen(engine):
    assert engine("profile", "new", "p.toml", "--model", "demo", "--data", "demo:dates.train.jsonl")[0] == 0
    assert engine("profile", "check", "p.toml")[0] == 0
    assert "per_device_train_batch_size" in Path("p.toml").read_text()
    for arguments, expected in ((("q.toml",), 2), (("q.toml", "--model", "x/y"), 4), (("q.toml", "--from", "dmo"), 2)):
        assert engine("profile", "new", *arguments)[0] == expected
    assert not Path("q.toml").exists()


def test_new_on_a_device_pins_it(engine):
    assert engine("profile", "new", "p.toml", "--model", "demo", "--device", "cpu")[0] == 0
    assert '[launch]\ndevice = "cpu"' in Path("p.toml").read_text()
    assert engine("profile", "new", "q.toml", "--from", "demo", "--device", "cpu")[0] == 0
    assert 'device = "cpu"' in Path("q.toml").read_text()
    code, _, err = engine("profile", "new", "r.toml", "--model", "demo", "--device", "1")
    assert code == 5
    assert "no GPU here is called '1'" in err
    assert not Path("r.toml").exists()


def test_set_changes_and_removes(engine):
    Path("p.toml").write_text(GOOD)
    code, out, _ = engine("profile", "set", "p.toml", "model.max_length=16k", "lora.r=4")
    assert (code, out) == (0, "model.max_length = 16384\nlora.r = 4\n")
    assert "# dates" in Path("p.toml").read_text()
    assert engine("profile", "set", "p.toml", "lora.r=")[1] == "lora.r removed\n"
    before = Path("p.toml").read_text()
    for bad in ("lora.r=0", "lora.rank=3", "nonsense", "model.name_or_path="):
        assert engine("profile", "set", "p.toml", bad)[0] == 2
    assert Path("p.toml").read_text() == before


def test_show_gives_sources_and_reasons(engine):
    Path("p.toml").write_text(GOOD)
    out = engine("profile", "show", "p.toml")[1]
    assert any(line.split()[:3] == ["model.dtype", "auto", "auto"] for line in out.splitlines())
    found = json.loads(engine("profile", "show", "p.toml", "--resolved", "--json")[1])["settings"]
    assert found["model.dtype"]["value"] in ("bf16", "fp32")
    assert found["model.dtype"]["reason"]


def test_list_and_schema(engine):
    assert "qlora-8b-24gb" in engine("profile", "list")[1]
    assert len(json.loads(engine("profile", "list", "--json")[1])["profiles"]) >= 6
    assert json.loads(engine("profile", "schema")[1])["title"] == "Profile"


def test_escapes_do_not_reach_the_terminal(engine):
    Path("p.toml").write_text(GOOD + '[train]\n"\\u001b]0;x\\u0007" = 1\noptim = "\\u001b[2J"\n')
    for arguments in ((), ("--json",)):
        code, out, err = engine("profile", "check", "p.toml", *arguments)
        assert code == 2
        assert "\x1b" not in out + err
        assert "\\u001b" not in out


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, engine.profile, engine.profile.shipped, engine.cli.profile; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "tomlkit", "tomli_w", "torch", "numpy", "transformers"}
    code = "import sys, engine.resolve.resolve, engine.profile.save; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"tomlkit", "torch", "numpy", "transformers"}
