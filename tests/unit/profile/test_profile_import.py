"""Training files of LLaMA-Factory and Axolotl become profiles: same effect, every loss named."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.profile import profile
from engine.errors import EngineError, ExitCode
from engine.profile.foreign.read import read_draft, tree_of
from engine.profile.foreign.write import profile_text
from engine.profile.load import load_profile, load_text

ROWS = [{"instruction": "Name a colour.", "input": "", "output": "Blue."}] * 4
LLAMA_FACTORY = """
### model
model_name_or_path: Qwen/Qwen3-4B
trust_remote_code: true
flash_attn: fa2
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
use_dora: true
quantization_bit: 4
### dataset
dataset: mine,other
template: qwen3_nothink
cutoff_len: 1024
max_samples: 1000
val_size: 0.1
### output
output_dir: saves/x
plot_loss: true
report_to: none
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
learning_rate: 1e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
max_steps: -1
bf16: true
use_galore: true
resume_from_checkpoint: null
"""
AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
load_in_4bit: true
adapter: qlora
datasets:
  - path: rows.jsonl
    type: alpaca
val_set_size: 0.05
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
gradient_checkpointing: true
attn_implementation: flash_attention_2
warmup_ratio: 0.1
evals_per_epoch: 4
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
fsdp:
  - full_shard
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in with both files, a data set and LLaMA-Factory's list of names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lf.yaml").write_text(LLAMA_FACTORY)
    (tmp_path / "ax.yml").write_text(AXOLOTL)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "data").mkdir()
    info = {
        "mine": {"file_name": "mine.json", "columns": {"prompt": "frage", "response": "antwort"}},
        "other": {"file_name": "other.json", "formatting": "sharegpt", "columns": {"messages": "talk"}},
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    return tmp_path


def imported(*arguments: str) -> Result:
    return CliRunner().invoke(profile, ["import", *arguments])


def settings_of(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_llama_factory_file_becomes_a_valid_profile(folder: Path) -> None:
    answer = imported("lf.yaml")
    assert answer.exit_code == 0, answer.output
    assert load_profile(folder / "lf.toml").problems == ()
    found = settings_of(folder / "lf.toml")
    assert found["model"] | {"attention": "packed", "max_length": 1024, "dtype": "bf16"} == found["model"]
    assert found["quantization"]["method"] == "nf4"
    assert found["lora"] | {"r": 8, "use_dora": True, "target_modules": "all-linear"} == found["lora"]
    assert found["train"]["learning_rate"] == pytest.approx(1e-4)
    assert "max_steps" not in found["train"]
    assert found["data"]["validation_fraction"] == 0.1


def test_what_a_file_leaves_out_takes_that_tools_default_not_ours(folder: Path) -> None:
    (folder / "short.yaml").write_text("model_name_or_path: demo\ndata_path: rows.jsonl\nlora_rank: 4\nstage: sft\n")
    assert imported("short.yaml").exit_code == 0
    found = settings_of(folder / "short.toml")
    assert found["train"]["learning_rate"] == 5e-5
    assert found["train"]["lr_scheduler_type"] == "linear"
    assert found["train"]["per_device_train_batch_size"] == 8
    assert found["lora"]["alpha"] == 8.0
    assert found["data"] | {"packing": False, "validation_fraction": 0.0} == found["data"]


def test_named_data_sets_are_found_with_their_columns(folder: Path) -> None:
    assert imported("lf.yaml").exit_code == 0
    first, second = settings_of(folder / "lf.toml")["data"]["datasets"]
    columns = {"instruction": "frage", "output": "antwort"}
    assert first == {"path": "data/mine.json", "columns": columns, "max_samples": 1000}
    assert second == {"path": "data/other.json", "columns": {"messages": "talk"}, "max_samples": 1000}


def test_every_loss_is_named_with_its_line(folder: Path) -> None:
    answer = imported("lf.yaml", "--json")
    notes = json.loads(answer.output)["notes"]
    lost = [note for note in notes if note["kind"] == "left out"]
    assert [note["key"] for note in lost] == ["use_galore"]
    line = 1 + LLAMA_FACTORY.splitlines().index("use_galore: true")
    assert lost[0]["where"] == f"lf.yaml:{line}"
    changed = [note["key"] for note in notes if note["kind"] == "changed"]
    assert changed == ["template"]
    text = (folder / "lf.toml").read_text()
    assert "Not carried over:" in text
    assert "use_galore" in text
    assert "# lora_rank" in text


def test_axolotl_file_becomes_a_valid_profile(folder: Path) -> None:
    answer = imported("ax.yml")
    assert answer.exit_code == 0, answer.output
    found = settings_of(folder / "ax.toml")
    assert found["quantization"]["method"] == "nf4"
    assert found["lora"] | {"r": 32, "alpha": 16.0, "target_modules": "all-linear"} == found["lora"]
    assert found["data"]["packing"] is True
    assert found["data"]["datasets"] == [{"path": "rows.jsonl", "format": "alpaca"}]
    assert found["train"]["optim"] == "adamw_torch"
    assert "dtype" not in found["model"]
    assert "fsdp" in answer.output
    assert "paged_adamw_32bit became adamw_torch" in answer.output


def test_without_an_adapter_axolotl_trains_every_weight(folder: Path) -> None:
    kept = [line for line in AXOLOTL.splitlines() if not line.startswith(("adapter", "load_in"))]
    (folder / "full.yml").write_text("\n".join(kept))
    draft = read_draft([folder / "full.yml"])
    assert draft.settings["tuning.method"] == "full"
    assert draft.settings["quantization.method"] == "none"
    assert not any(key.startswith("lora.") for key in draft.settings)


def test_eight_bits_take_precedence_over_a_four_bit_type_aloud(folder: Path) -> None:
    text = "quantization_bit: 8\nquantization_type: nf4\ndouble_quantization: true\nlora_rank: 16\n"
    (folder / "advanced.yaml").write_text(text)
    draft = read_draft([folder / "advanced.yaml"], model="demo", data=Path("demo:dates"))
    assert draft.settings["quantization.method"] == "int8"
    assert "quantization.double_quant" not in draft.settings
    assert {note.key for note in draft.notes} >= {"quantization_type", "double_quantization"}


def test_later_files_win(folder: Path) -> None:
    (folder / "more.yaml").write_text("lora_rank: 64\nlearning_rate: 3e-5\n")
    draft = read_draft([folder / "lf.yaml", folder / "more.yaml"])
    assert draft.settings["lora.r"] == 64
    assert draft.settings["lora.alpha"] == 128.0
    assert draft.settings["train.learning_rate"] == pytest.approx(3e-5)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("finetuning_type: oft\n", "oft cannot be trained", "lora, freeze, full"),
        ("stage: ppo\n", "ppo cannot be trained", "sft"),
        ("lora_rank: 8\n", "no training data", "together"),
        ("lora_rank: 8\nlora_rank: 9\n", "stands twice", ""),
        ("- a\n- b\n", "not a list of settings", ""),
        ("lora_rank: [8\n", "not YAML", ""),
        ("colour: red\nsize: 3\n", "not known", "LLaMA-Factory"),
        ("lora_rank: !!python/object/apply:os.system ['true']\nstage: sft\n", "not YAML", ""),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(folder: Path, text: str, message: str, hint: str) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(EngineError) as caught:
        read_draft([folder / "bad.yaml"])
    assert caught.value.code == ExitCode.PROFILE
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_exploding_alias_chain_is_refused_quickly(folder: Path) -> None:
    rows = ["a0: &a0 [x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 15)]
    (folder / "bomb.yaml").write_text("\n".join(rows))
    with pytest.raises(EngineError, match="repeats itself"):
        read_draft([folder / "bomb.yaml"])


def test_a_value_that_a_profile_refuses_is_left_out_and_named(folder: Path) -> None:
    (folder / "odd.yaml").write_text("stage: sft\nlora_rank: 0\nlearning_rate: quick\ndata_path: rows.jsonl\n")
    draft = read_draft([folder / "odd.yaml"], model="demo")
    assert {note.key for note in draft.notes if note.kind == "left out"} == {"lora_rank", "lora.alpha", "learning_rate"}
    assert load_text(profile_text(draft, [folder / "odd.yaml"], folder / "odd.toml"), folder / "odd.toml").profile


def test_hostile_text_reaches_neither_terminal_nor_comment(folder: Path) -> None:
    (folder / "evil.yaml").write_text(
        'stage: sft\n"\\e]52;c;eA\\a": 1\ntemplate: "\\e[2J\\n[model]"\ndata_path: rows.jsonl\n'
    )
    answer = imported("evil.yaml", "--model", "demo")
    assert answer.exit_code == 0, answer.output
    assert "\x1b" not in answer.output
    assert "\x1b" not in (folder / "evil.toml").read_text()


def test_an_existing_profile_is_not_replaced(folder: Path) -> None:
    (folder / "lf.toml").write_text("# mine\n")
    with pytest.raises(EngineError, match="the file exists"):
        CliRunner().invoke(profile, ["import", "lf.yaml"], catch_exceptions=False)
    assert (folder / "lf.toml").read_text() == "# mine\n"
    assert imported("lf.yaml", "--force").exit_code == 0


def test_every_key_that_rules_set_is_a_setting_of_the_profile() -> None:
    from engine.profile.fields import field_at
    from engine.profile.foreign import axolotl, common, llamafactory, shared, trl

    for module in (llamafactory, axolotl, common, shared, trl):
        for key in _targets(module.__file__ or ""):
            assert field_at(key) or key in ("data.datasets", "name"), f"{module.__name__}: {key}"


def _targets(path: str) -> set[str]:
    import re

    text = Path(path).read_text(encoding="utf-8")
    return set(re.findall(r'(?:to|put|put_default|_steps)\(\s*"([a-z_]+(?:\.[a-z_0-9]+)+)"', text)) | set(
        re.findall(r'^\s+"((?:model|data|train|lora|tuning|quantization)\.[a-z_]+)":', text, re.MULTILINE)
    )


def test_tree_of_nests_dotted_keys() -> None:
    assert tree_of({"lora.r": 1, "name": "x"}) == {"lora": {"r": 1}, "name": "x"}


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("stage: dpo\npref_beta: 0.3\n", "dpo"),
        ("stage: dpo\npref_loss: orpo\npref_beta: 0.3\n", "orpo"),
        ("stage: kto\npref_beta: 0.3\n", "kto"),
        ("stage: pt\npref_beta: 0.3\n", "pretrain"),
        ("base_model: demo\nrl: orpo\nrl_beta: 0.3\n", "orpo"),
    ],
)
def test_objectives_are_carried_over(folder: Path, text: str, objective: str) -> None:
    (folder / "other.yaml").write_text(text)
    draft = read_draft([folder / "other.yaml"], model="demo", data=Path("rows.jsonl"))
    assert draft.settings["train.objective"] == objective
    assert draft.settings["train.beta"] == 0.3
    assert not [note for note in draft.notes if note.kind == "left out"]


def test_what_came_later_is_carried_over(folder: Path) -> None:
    (folder / "other.yaml").write_text(
        "stage: rm\nfinetuning_type: freeze\nfreeze_trainable_layers: 3\noptim: adafactor\nstreaming: true\n"
        "report_to: [tensorboard, comet_ml]\ntokenized_path: kept\n"
    )
    draft = read_draft([folder / "other.yaml"], model="demo", data=Path("rows.jsonl"))
    wanted = {
        "train.objective": "reward",
        "tuning.method": "freeze",
        "tuning.trainable_layers": 3,
        "train.optim": "adafactor",
        "train.report_to": ["tensorboard"],
    }
    assert {key: draft.settings[key] for key in wanted} == wanted
    assert [note.key for note in draft.notes if note.kind == "left out"] == ["report_to"]


def test_sets_of_the_hub_keep_their_split_and_subset(folder: Path) -> None:
    (folder / "ax.yaml").write_text(
        "base_model: demo\nreward_model: true\ntorch_compile: true\ndatasets:\n"
        "  - {path: tatsu-lab/alpaca, type: alpaca, split: test}\n  - {path: a/b, name: main, split: 'train[:10%]'}\n"
    )
    draft = read_draft([folder / "ax.yaml"])
    first, second = draft.settings["data.datasets"]
    assert (first["path"], first["split"]) == ("hub:tatsu-lab/alpaca", "test")
    assert (second["path"], second["subset"]) == ("hub:a/b", "main")
    assert "split" not in second
    assert [note.message for note in draft.notes if note.kind == "left out"] == [
        "split train[:10%]: a part of a split; max_samples takes its first rows"
    ]
    assert (draft.settings["train.objective"], draft.settings["train.torch_compile"]) == ("reward", True)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("gradient_checkpointing: offload", "offload"),
        ("gradient_checkpointing: offload_disk", "offload"),
        ("gradient_checkpointing: true\nactivation_offloading: true", "offload"),
        ("activation_offloading: true\ngradient_checkpointing: true", "offload"),
        ("gradient_checkpointing: true", True),
    ],
)
def test_axolotls_offloading_is_a_way_of_checkpointing(folder: Path, lines: str, expected: object) -> None:
    kept = [line for line in AXOLOTL.splitlines() if not line.startswith("gradient_checkpointing")]
    (folder / "off.yml").write_text("\n".join([*kept, lines]) + "\n")
    draft = read_draft([folder / "off.yml"])
    assert draft.settings["train.activation_checkpointing"] == expected
