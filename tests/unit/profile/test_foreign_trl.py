"""Arguments of TRL and Unsloth scripts, as YAML or JSON, become profiles with every loss named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import EngineError
from engine.profile.foreign.closing import accounts
from engine.profile.foreign.draft import Draft
from engine.profile.foreign.read import read_draft

UNSLOTH: dict[str, Any] = {
    "FastLanguageModel.from_pretrained": {"model_name": "demo", "max_seq_length": 2048, "load_in_4bit": True},
    "FastLanguageModel.get_peft_model": {
        "r": 16,
        "target_modules": ["q_proj", "v_proj"],
        "lora_alpha": 16,
        "lora_dropout": 0,
        "bias": "none",
        "use_gradient_checkpointing": "unsloth",
        "random_state": 3407,
        "loftq_config": None,
    },
    "SFTTrainer": {"dataset_text_field": "text", "dataset_num_proc": 2},
    "SFTConfig": {"per_device_train_batch_size": 2, "warmup_steps": 5, "max_steps": 60, "optim": "adamw_8bit"},
    "train_on_responses_only": {"instruction_part": "<user>", "response_part": "<assistant>"},
    "dataset": "rows.jsonl",
}
TRL: dict[str, Any] = {
    "model_name_or_path": "demo",
    "dataset_name": "owner/name",
    "dataset_config": "main",
    "dataset_test_split": "test",
    "eval_strategy": "steps",
    "learning_rate": 2e-4,
    "use_peft": True,
    "lora_r": 32,
    "assistant_only_loss": True,
    "packing": True,
    "attn_implementation": "flash_attention_2",
    "dtype": "bfloat16",
}


def draft_of(folder: Path, told: dict[str, Any], name: str = "t.yaml") -> Draft:
    """The arguments as a draft, read from disk."""
    text = json.dumps(told, indent="\t") if name.endswith(".json") else yaml.safe_dump(told, sort_keys=False)
    (folder / name).write_text(text, encoding="utf-8")
    return read_draft([folder / name])


def lost(draft: Draft) -> dict[str, str]:
    return {note.key: note.message for note in draft.notes if note.kind == "left out"}


@pytest.mark.parametrize("name", ["t.yaml", "t.json"])
def test_sections_of_an_unsloth_script_are_read(tmp_path: Path, name: str) -> None:
    draft = draft_of(tmp_path, UNSLOTH, name)
    wanted = {
        "model.name_or_path": "demo",
        "model.max_length": 2048,
        "quantization.method": "nf4",
        "lora.r": 16,
        "lora.target_modules": ["q_proj", "v_proj"],
        "train.activation_checkpointing": "offload",
        "train.seed": 3407,
        "train.optim": "adamw_bnb_8bit",
        "train.max_steps": 60,
        "train.objective": "sft",
        "data.response_template": "<assistant>",
        "data.instruction_template": "<user>",
    }
    assert {key: draft.settings.get(key) for key in wanted} == wanted
    assert draft.settings["data.datasets"] == [{"path": str(Path.cwd() / "rows.jsonl"), "format": "text"}]
    assert not lost(draft)
    assert all(accounts(draft).values())


def test_flat_arguments_of_trls_command_line_are_read(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, TRL)
    wanted = {
        "data.datasets": [{"path": "hub:owner/name", "subset": "main"}],
        "data.validation_path": "hub:owner/name",
        "data.validation_split": "test",
        "data.mask": "answers",
        "lora.r": 32,
        "lora.alpha": 32.0,
        "lora.dropout": 0.05,
        "model.attention": "packed",
        "model.dtype": "bf16",
        "train.learning_rate": 2e-4,
    }
    assert {key: draft.settings.get(key) for key in wanted} == wanted
    assert not lost(draft)


def test_files_are_read_whatever_loads_them(tmp_path: Path) -> None:
    told = {"model_name_or_path": "demo", "dataset_name": "json", "data_files": "rows.jsonl"}
    draft = draft_of(tmp_path, told)
    assert [Path(entry["path"]).name for entry in draft.settings["data.datasets"]] == ["rows.jsonl"]
    assert not lost(draft)


@pytest.mark.parametrize(
    ("section", "objective"),
    [("DPOConfig", "dpo"), ("kto_config", "kto"), ("ORPOConfig", "orpo"), ("RewardConfig", "reward")],
)
def test_a_section_says_the_objective(tmp_path: Path, section: str, objective: str) -> None:
    draft = draft_of(
        tmp_path, {"model_name_or_path": "demo", "train_file": "a.jsonl", section: {"learning_rate": 1e-6}}
    )
    assert draft.settings["train.objective"] == objective


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"SFTConfig": {"made_up": False}}, "made_up"),
        ({"LoraConfig": {"layers_to_transform": [1, 2], "r": 4}}, "layers_to_transform"),
        ({"SFTConfig": {"max_length": None}}, "max_length"),
        ({"DPOConfig": {"loss_type": "ipo"}}, "loss_type"),
        ({"SFTConfig": {"seed": 1}, "LoraConfig": {"random_state": 2}}, "random_state"),
        ({"SFTConfig": {"learning_rate": 1e-4}, "args": {"learning_rate": 2e-4}}, "args.learning_rate"),
        ({"datasets": [{"path": "a.jsonl", "data_dir": "x", "odd": 0}]}, "datasets.0.odd"),
        ({"nested": {"deep": {"off": False}}}, "nested: deep.off = False"),
        ({"bf16": False, "tf32": True}, "tf32"),
    ],
)
def test_what_is_not_carried_over_is_listed_wherever_it_stands(tmp_path: Path, more: dict[str, Any], key: str) -> None:
    draft = draft_of(tmp_path, {"model_name_or_path": "demo", "dataset_name": "owner/name", **more})
    assert key in " ".join(f"{place}: {message}" for place, message in lost(draft).items())
    assert all(accounts(draft).values())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.py", "model_name = 'demo'\n", "is a script"),
        ("t.json", '{"learning_rate": 1, "learning_rate": 2}', "stands twice"),
        ("t.json", '{"a": ' + "[" * 60 + "]" * 60 + "}", "nested too deeply"),
        ("t.json", "[1]", "not a list of settings"),
        ("t.json", '{"a": ', "cannot be read"),
    ],
)
def test_what_is_no_list_of_arguments_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EngineError) as caught:
        read_draft([tmp_path / name])
    assert message in caught.value.message


def test_the_newer_files_of_llama_factory_are_read(tmp_path: Path) -> None:
    sets = {"mine": {"path": "rows.json", "source": "local", "converter": "alpaca", "size": 50, "odd": False}}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets))
    told = {
        "model": "demo",
        "model_class": "llm",
        "peft_config": {"name": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all", "made_up": 0},
        "quant_config": {"name": "bnb", "quantization_bit": 4},
        "dist_config": {"name": "fsdp2"},
        "train_dataset": "sets.yaml",
        "micro_batch_size": 2,
    }
    draft = draft_of(tmp_path, told)
    assert draft.settings["data.datasets"][0]["max_samples"] == 50
    assert (draft.settings["lora.r"], draft.settings["lora.alpha"]) == (4, 8.0)
    assert draft.settings["quantization.method"] == "nf4"
    assert set(lost(draft)) == {"peft_config.made_up", "dist_config", "sets.yaml mine.odd"}
    assert all(accounts(draft).values())
