"""An adapter that a run begins with: where it is found, what it decides, and what is refused."""

from __future__ import annotations

import json

import pytest

from engine.profile.load import load_profile
from engine.resolve.check import examine
from engine.resolve.resolve import resolve_profile
from tests.unit.profile_machines import DATA, MODEL

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "demo",
    "r": 8,
    "lora_alpha": 24,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "init_lora_weights": True,
}
BEGIN = f"{MODEL}{DATA}[tuning]\nadapter = 'begun'\n"


@pytest.fixture
def adapter(tmp_path):
    """Write an adapter's folder; returns what to add to a profile."""

    def write(name="begun", **changes):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
        (folder / "adapter_model.safetensors").touch()
        return folder

    return write


def test_rank_scale_and_targets_come_from_the_adapter(load, cpu_machine, adapter):
    folder = adapter()
    resolved = resolve_profile(load(BEGIN), cpu_machine)
    lora = resolved.settings.lora
    assert (lora.r, lora.alpha, lora.target_modules) == (8, 24.0, ["q_proj", "v_proj"])
    assert resolved.settings.tuning.method == "lora"
    assert resolved.plan.shape.lora_r == 8
    told = resolved.provenance["lora.r"]
    assert told["source"] == "auto"
    assert str(folder) in told["reason"]
    assert resolved.to_run_json()["start"]["files"][0][0] == "adapter/adapter_config.json"
    agreed = load(BEGIN + "[lora]\nr = 8\nalpha = 24\ntarget_modules = ['v_proj', 'q_proj']\n")
    assert examine(agreed, cpu_machine).problems == ()


REFUSED = {
    "another rank": ({}, "[lora]\nr = 16\n", "lora.r", "has 8, not 16"),
    "other targets": ({}, "[lora]\ntarget_modules = ['k_proj']\n", "lora.target_modules", "q_proj, v_proj, not k_proj"),
    "all-linear over few": ({}, "[lora]\ntarget_modules = 'all-linear'\n", "lora.target_modules", "not all-linear"),
    "PiSSA anew": ({}, "[lora]\ninit = 'pissa'\n", "lora.init", "has default, not pissa"),
    "another base": ({"base_model_name_or_path": "org/Other-1B"}, "", "tuning.adapter", "trained on 'org/Other-1B'"),
    "a revision": ({"revision": "abc"}, "", "tuning.adapter", "revision 'abc'"),
    "no LoRA": ({"peft_type": "IA3"}, "", "tuning.adapter", "of the kind IA3"),
    "a changed base": ({"init_lora_weights": "pissa_niter_4"}, "", "tuning.adapter", "'pissa_niter_4' has changed"),
    "one that scores": ({"task_type": "SEQ_CLS"}, "", "tuning.adapter", "scores answers"),
    "a rank beyond profiles": (
        {"r": 4096, "lora_alpha": 64},
        "",
        "tuning.adapter",
        "lora.r = 4096: input should be",
    ),
    "no scale": ({"lora_alpha": 0}, "", "tuning.adapter", "lora_alpha is 0"),
    "a scale in words": ({"lora_alpha": "16"}, "", "tuning.adapter", "lora_alpha is '16'"),
    "random weights": ({}, "[model]\ninitialise = 'random'\n", "tuning.adapter", "was trained on weights"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_together_with_an_adapter_is_refused_by_name(load, cpu_machine, adapter, case):
    changes, more, key, words = REFUSED[case]
    adapter(**changes)
    text = BEGIN.replace("[model]\n", more) if more.startswith("[model]") else BEGIN + more
    (problem,) = (item.problem for item in examine(load(text), cpu_machine).problems)
    assert problem.key == key
    assert words in problem.message
    assert problem.hint


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_an_adapter_does_not_go_with_training_the_base_itself(load, cpu_machine, adapter, method):
    adapter()
    (problem,) = (item.problem for item in examine(load(f"{BEGIN}method = '{method}'\n"), cpu_machine).problems)
    assert f"'{method}' trains the base itself" in problem.message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: folder.rename(folder.with_name("begin")), "neither such a folder nor such a run"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "holds no adapter_config.json"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    ],
)
def test_an_adapter_that_is_not_there_or_not_whole_is_refused(
    load, cpu_machine, adapter, spoil, words, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spoil(adapter())
    (problem,) = (item.problem for item in examine(load(BEGIN), cpu_machine).problems)
    assert words in problem.message


@pytest.mark.parametrize("reference", ["~nobody-of-this-name/adapter", "a" * 3000])
def test_a_name_that_no_folder_can_have_is_refused_in_words(load, cpu_machine, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (problem,) = (item.problem for item in examine(load(BEGIN.replace("begun", reference)), cpu_machine).problems)
    assert "neither such a folder nor such a run" in problem.message


def test_a_base_known_by_its_name_alone_is_told(load, cpu_machine, adapter):
    for written, told in (("demo", False), ("/elsewhere/out/demo", True)):
        adapter(base_model_name_or_path=written)
        warnings = examine(load(BEGIN), cpu_machine).warnings
        assert any("only that name" in item.problem.message for item in warnings) == told


def test_tokens_that_a_run_added_keep_their_order(load, cpu_machine, adapter, tmp_path):
    folder = adapter("first/adapter").parent
    settings = {"model": {"additional_special_tokens": ["<a>", "<b>"]}}
    (folder / "run.json").write_text(json.dumps({"schema_version": 1, "settings": settings}))
    (folder / "events.jsonl").write_text('{"v": 1, "t": 1.0, "type": "finished", "outcome": "completed"}\n')
    text = BEGIN.replace("begun", "first")
    assert resolve_profile(load(text), cpu_machine).settings.model.additional_special_tokens == ["<a>", "<b>"]
    swapped = text.replace("[model]\n", "[model]\nadditional_special_tokens = ['<b>', '<a>']\n")
    (problem,) = (item.problem for item in examine(load(swapped), cpu_machine).problems)
    assert (problem.key, "has <a>, <b>, not <b>, <a>" in problem.message) == ("model.additional_special_tokens", True)


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("demo", True),
        ("someone/Demo", True),
        ("unsloth/demo-unsloth-bnb-4bit", True),
        ("/elsewhere/models--org--demo/snapshots/0123abc", True),
        ("/elsewhere/models/demo/", True),
        ("/elsewhere/models--org--demo2/snapshots/demo", False),
        ("demo2", False),
    ],
)
def test_a_base_is_known_by_the_names_it_goes_by(load, cpu_machine, adapter, written, same):
    adapter(base_model_name_or_path=written)
    assert (examine(load(BEGIN), cpu_machine).problems == ()) == same


def test_folders_that_are_both_here_are_the_same_base_by_what_they_hold(tmp_path, cpu_machine, adapter, load):
    from engine.demo.paths import model_dir

    source = model_dir()
    for name in ("copy", "other"):
        folder = tmp_path / name
        folder.mkdir()
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    weights = next((tmp_path / "other").glob("*.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-100] ^= 255
    weights.write_bytes(raw)
    found = {}
    for name in ("copy", "other"):
        adapter(base_model_name_or_path=name)
        found[name] = examine(load_profile(load(BEGIN).path), cpu_machine).problems == ()
    assert found == {"copy": True, "other": False}
