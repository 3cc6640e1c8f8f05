"""A profile goes out as another tool's training file and comes back the same, except for what was listed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from engine.cli.profile import profile as command
from engine.profile.fields import profile_fields
from engine.profile.foreign.out import TOOLS, outgoing
from engine.profile.foreign.out_text import yaml_text
from engine.profile.foreign.outgoing import AUTO, TRAINING, Outgoing, defaults_of
from engine.profile.foreign.read import read_draft, tree_of
from engine.profile.load import load_profile
from engine.profile.schema import Profile

CHOICES: dict[str, list[Any]] = {
    "model.revision": ["v2"],
    "model.max_length": [512, 4096],
    "model.additional_special_tokens": [["<a>", "<b>"]],
    "tuning.adapter": ["runs/one/adapter"],
    "lora.r": [8, 64],
    "lora.alpha": [8.0, 64.0],
    "lora.dropout": [0.05],
    "lora.target_modules": [["q_proj", "v_proj"]],
    "lora.modules_to_save": [["lm_head"]],
    "lora.plus_ratio": [16.0],
    "data.system": ["Be short."],
    "data.template": ["chatml", "llama3", "granite", "mine.jinja"],
    "data.template_arguments": [{"enable_thinking": False}, {"other": 1}],
    "data.response_template": ["<answer>"],
    "data.validation_fraction": [0.0, 0.2],
    "data.validation_path": ["held.jsonl"],
    "data.validation_rows": [100],
    "data.learn": [["text"]],
    "data.max_samples": [100],
    "train.beta": [0.3],
    "train.per_device_train_batch_size": [1, 4],
    "train.gradient_accumulation_steps": [2, 16],
    "train.total_batch_size": [16],
    "train.learning_rate": [1e-5, 3e-4],
    "train.warmup_ratio": [0.0, 0.1],
    "train.warmup_steps": [0, 10],
    "train.num_train_epochs": [0.5, 2.0],
    "train.max_steps": [50],
    "train.weight_decay": [0.1],
    "train.max_grad_norm": [0.0, 0.5],
    "train.eval_steps": [10],
    "train.save_steps": [10, 15],
    "train.activation_checkpointing": [True, False, 2, "offload"],
    "train.seed": [7],
    "train.early_stopping_patience": [3],
    "train.report_to": [["tensorboard"]],
    "train.neftune_noise_alpha": [5.0],
    "evaluate.max_samples": [8],
    "name": ["mine"],
}
SETS: list[dict[str, Any]] = [
    {"path": "a.jsonl", "format": "messages", "columns": {"messages": "talk"}},
    {"path": "b.jsonl", "format": "alpaca", "columns": {"instruction": "q", "output": "a"}, "max_samples": 20},
    {"path": "hub:owner/name", "format": "text", "split": "test", "subset": "main"},
    {"path": "hub:owner/name@v3", "format": "prompt-completion", "weight": 0.5},
    {"path": "c.parquet"},
    {
        "path": "d.jsonl",
        "format": "messages",
        "message_keys": {"role": "speaker", "content": "text"},
        "speakers": {"customer": "user", "clerk": "assistant", "desk": "tool"},
    },
    {"path": "e.txt", "format": "text", "documents": "line"},
    {"path": "f.txt", "format": "text"},
]


def random_profile(drawn: random.Random) -> Profile:
    """Some settings, each with a value that a person might give."""
    settings: dict[str, Any] = {"model.name_or_path": "owner/model"}
    for field in profile_fields():
        values = CHOICES.get(field.key) or [word for word in field.choices if field.kind == "choice"]
        values = values or ([True, False] if field.kind == "bool" else [])
        if values and not field.key.startswith("data.datasets") and drawn.random() < 0.4:
            settings[field.key] = drawn.choice(values)
    settings["data.datasets"] = drawn.sample(SETS, drawn.choice([1, 1, 2]))
    return Profile.model_validate(tree_of(settings))


def given_in(profile: Profile) -> frozenset[str]:
    dumped = profile.model_dump(exclude_unset=True)
    return frozenset(f"{table}.{key}" for table, inner in dumped.items() if isinstance(inner, dict) for key in inner)


def sent(tool: str, profile: Profile) -> Outgoing:
    return outgoing(tool, profile, given_in(profile), lambda _: None)


def returned(folder: Path, out: Outgoing, tool: str) -> dict[str, Any]:
    """The settings that come back when the exported file is imported."""
    (folder / "t.yaml").write_text(yaml_text(out, "p.toml", "t.yaml"), encoding="utf-8")
    for name, value in out.files.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return read_draft([folder / "t.yaml"], dialect=tool, dataset_dir=folder).settings


def comparable(value: Any) -> Any:
    """Paths by their names alone: those of a file go out relative and come back whole."""
    if isinstance(value, str) and value.startswith(("/", "runs/")):
        return Path(value).name
    if isinstance(value, list) and value and isinstance(value[0], dict):
        kept = [{**entry, "path": comparable(entry["path"])} for entry in value]
        return [{key: item for key, item in entry.items() if key not in ("format", "columns")} for entry in kept]
    return value


@pytest.mark.parametrize("tool", list(TOOLS))
def test_what_was_not_listed_comes_back_the_same(tmp_path: Path, tool: str) -> None:
    drawn = random.Random(11)
    for number in range(30):
        profile = random_profile(drawn)
        out = sent(tool, profile)
        back = returned(tmp_path, out, tool)
        lost = {".".join(one.key.split(".")[:2]) for one in out.lost}
        before = profile.model_dump(mode="json", exclude_defaults=True)
        for key, default in {**defaults_of(), "data.datasets": None}.items():
            if key.partition(".")[0] not in TRAINING or key in lost or out.values[key] == AUTO:
                continue
            shaped = out.values["tuning.method"] != "lora" or out.values["tuning.adapter"]
            if (key.startswith("lora.") and shaped) or is_moot(key, out.values):
                continue
            wanted = out.values[key]
            if key == "data.datasets":
                wanted = counted(before["data"])
            assert comparable(back.get(key, default)) == comparable(wanted), (number, key, out.told)


def counted(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Data sets with their counts; of a single one, that of all rows is its own."""
    sets = [dict(entry) for entry in data["datasets"]]
    if len(sets) == 1 and data.get("max_samples"):
        sets[0]["max_samples"] = min(data["max_samples"], sets[0].get("max_samples", data["max_samples"]))
    return sets


def is_moot(key: str, values: dict[str, Any]) -> bool:
    """Settings that say nothing beside the others."""
    held_out = any(values[f"data.validation_{name}"] for name in ("path", "rows", "fraction"))
    without = {
        "train.beta": values["train.objective"] not in ("dpo", "orpo", "kto"),
        "tuning.trainable_layers": values["tuning.method"] != "freeze",
        "quantization.double_quant": values["quantization.method"] not in ("nf4", "fp4"),
        "data.validation_fraction": bool(values["data.validation_path"] or values["data.validation_rows"]),
        "data.validation_rows": bool(values["data.validation_path"]),
        "data.validation_split": True,
        "data.max_samples": values["data.max_samples"] is not None and len(values["data.datasets"]) == 1,
        "data.mask": values["train.objective"] != "sft",
        "train.warmup_ratio": values["train.warmup_steps"] is not None,
        "train.total_batch_size": True,
        "train.eval_steps": not held_out,
        "train.early_stopping_patience": not held_out,
        "train.load_best_model_at_end": not held_out,
    }
    return without.get(key, False)


@pytest.mark.parametrize("tool", list(TOOLS))
def test_every_setting_is_said_or_listed(tool: str) -> None:
    drawn = random.Random(12)
    for _ in range(20):
        out = sent(tool, random_profile(drawn))
        defaults = defaults_of()
        listed = {one.key for one in out.lost}
        for key, value in out.values.items():
            if key in ("lora.fused", "train.kernels"):
                continue
            if key.partition(".")[0] in TRAINING and value not in (defaults.get(key), AUTO):
                assert key in out.said or key in listed, key


USUAL: dict[str, Any] = {
    "model.name_or_path": "owner/model",
    "model.max_length": 1024,
    "model.dtype": "bf16",
    "quantization.method": "nf4",
    "tuning.method": "lora",
    "lora.r": 8,
    "lora.alpha": 16.0,
    "lora.dropout": 0.05,
    "lora.use_rslora": True,
    "data.datasets": [{"path": "rows.jsonl", "format": "messages"}],
    "data.mask": "all",
    "data.validation_fraction": 0.1,
    "train.per_device_train_batch_size": 2,
    "train.gradient_accumulation_steps": 4,
    "train.learning_rate": 2e-4,
    "train.warmup_ratio": 0.1,
    "train.weight_decay": 0.01,
    "train.optim": "adamw_torch",
    "train.activation_checkpointing": True,
    "train.eval_steps": 10,
    "train.save_steps": 20,
    "train.seed": 7,
}


@pytest.mark.parametrize("tool", list(TOOLS))
def test_the_usual_settings_can_all_be_told(tool: str) -> None:
    out = sent(tool, Profile.model_validate(tree_of(USUAL)))
    assert out.lost == []
    words = {str(value) for value in out.told.values()}
    assert {"owner/model", "1024", "16", "0.05", "0.0002", "0.01", "10", "20", "7"} <= words


def test_the_file_says_how_to_use_it_and_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": "Name a color.", "input": "", "output": "Blue."}] * 3
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.toml").write_text(
        '[model]\nname_or_path = "owner/model"\n[lora]\nbias = "all"\n[train]\nlearning_rate = 1e-4\n'
        '[[data.datasets]]\npath = "rows.jsonl"\nweight = 2.0\n'
    )
    answer = CliRunner().invoke(command, ["export", "p.toml", "--to", "llamafactory", "-o", "out/lf.yaml"])
    assert answer.exit_code != 0
    (tmp_path / "out").mkdir()
    answer = CliRunner().invoke(command, ["export", "p.toml", "--to", "llamafactory", "-o", "out/lf.yaml"])
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "out" / "lf.yaml").read_text()
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert "# llamafactory-cli train lf.yaml" in text
    for lost in ("lora.bias", "data.datasets.0.weight", "train.per_device_train_batch_size"):
        assert lost in text.partition("model_name_or_path")[0]
        assert lost in answer.output
    assert yaml.safe_load(text)["learning_rate"] == pytest.approx(1e-4)
    columns = {"prompt": "instruction", "query": "input", "response": "output"}
    assert info == {"rows": {"file_name": "../rows.jsonl", "columns": columns}}
    again = CliRunner().invoke(command, ["export", "p.toml", "--to", "llamafactory", "-o", "out/lf.yaml"])
    assert again.exit_code != 0
    assert CliRunner().invoke(command, ["import", "out/lf.yaml", "-o", "back.toml"]).exit_code == 0
    assert load_profile(tmp_path / "back.toml").problems == ()


@pytest.mark.parametrize("tool", list(TOOLS))
def test_conversations_are_named_as_their_rows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"talk": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "p.toml").write_text(
        '[model]\nname_or_path = "owner/model"\n[[data.datasets]]\npath = "rows.jsonl"\n'
        'columns = { messages = "talk" }\n'
    )
    answer = CliRunner().invoke(command, ["export", "p.toml", "--to", tool, "-o", "o.yaml"])
    assert answer.exit_code == 0, answer.output
    back = read_draft([tmp_path / "o.yaml"], dialect=tool).settings["data.datasets"][0]
    if tool != "trl":
        assert back["columns"] == {"messages": "talk"}
        texts = (tmp_path / "o.yaml").read_text() + "".join(p.read_text() for p in tmp_path.glob("dataset_info.json"))
        assert "from" in texts
        assert "value" in texts
    else:
        assert "data.datasets.0.columns" in answer.output
