"""Every key of another tool's file is carried over, or listed with its value, or harmless with a reason."""

from __future__ import annotations

import copy
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from engine.cli.profile import profile
from engine.errors import EngineError
from engine.profile.foreign.closing import accounts
from engine.profile.foreign.draft import Draft
from engine.profile.foreign.read import read_draft
from engine.profile.foreign.write import profile_text
from engine.profile.load import load_text

ODD_VALUES: list[Any] = [
    False,
    True,
    0,
    1,
    None,
    "",
    "off",
    0.5,
    [],
    {},
    [1, 2],
    {"a": {"b": False}},
    [{"c": 0}],
    "x y",
]
AXOLOTL: dict[str, Any] = {
    "base_model": "demo",
    "adapter": "lora",
    "bnb_config_kwargs": {"bnb_4bit_use_double_quant": True},
    "special_tokens": {"pad_token": "<pad>"},
    "datasets": [
        {
            "path": "a.jsonl",
            "type": "chat_template",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": {"user": ["human"], "assistant": ["gpt"]},
        },
        {"path": "b.jsonl", "type": {"field_instruction": "q", "field_output": "a"}},
    ],
    "test_datasets": [{"path": "v.jsonl", "type": "chat_template"}, {"path": "w.jsonl", "type": "chat_template"}],
}
LLAMA_FACTORY: dict[str, Any] = {
    "model_name_or_path": "demo",
    "stage": "sft",
    "dataset": "one,two",
    "dataset_dir": ".",
    "eval_dataset": "two",
}
INFO: dict[str, Any] = {
    "one": {"file_name": "a.json", "columns": {"prompt": "q", "response": "a"}},
    "two": {
        "file_name": "b.json",
        "formatting": "sharegpt",
        "columns": {"messages": "talk"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    },
}


def draft_of(folder: Path, told: dict[str, Any], info: dict[str, Any] | None = None, **more: Any) -> Draft:
    """The file as a draft, read from disk as a person's is."""
    (folder / "t.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    if info is not None:
        (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return read_draft([folder / "t.yaml"], dataset_dir=folder, **more)


def lost(draft: Draft) -> dict[str, str]:
    """What is listed as not carried over: place -> words."""
    return {note.key: note.message for note in draft.notes if note.kind == "left out"}


def tables(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every table inside a file, so that an unknown key can be put into each."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    here = [path] if isinstance(value, dict) else []
    return [*here, *(found for name, item in inner for found in tables(item, (*path, name)))]


@pytest.mark.parametrize("tool", ["axolotl", "llamafactory"])
def test_an_unknown_key_in_any_place_is_listed_with_its_value(tmp_path: Path, tool: str) -> None:
    drawn = random.Random(7)
    whole = {"axolotl": {"told": AXOLOTL}, "llamafactory": {"told": LLAMA_FACTORY, "info": INFO}}[tool]
    places = [path for path in tables(whole) if path not in ((), ("info",))]
    for number, place in enumerate(places * 6):
        files, key, value = copy.deepcopy(whole), f"made_up_{number}", drawn.choice(ODD_VALUES)
        holder: Any = files
        for step in place:
            holder = holder[step]
        holder[key] = value
        draft = draft_of(tmp_path, files["told"], files.get("info"), dialect=tool)
        found = accounts(draft)
        assert not [name for name, became in found.items() if not became], place
        words = " ".join(f"{note.key} {note.message}" for note in draft.notes if note.kind == "left out")
        assert key in words, (place, value)
        if isinstance(value, dict) and value:
            assert f"{key}.a.b False" in words or "a.b = False" in words
        text = profile_text(draft, [tmp_path / "t.yaml"], tmp_path / "p.toml")
        assert key in text.partition("[model]")[0]


MANY: dict[str, dict[str, Any]] = {
    "axolotl": {
        **AXOLOTL,
        "load_in_4bit": True,
        "lora_target_modules": ["q_proj"],
        "sequence_len": 512,
        "val_set_size": 0.1,
        "chat_template": "chatml",
        "optimizer": "adamw_8bit",
        "gradient_checkpointing": True,
        "activation_offloading": True,
        "warmup_ratio": 0.1,
        "default_system_message": "Be short.",
        "bf16": "auto",
        "evals_per_epoch": 2,
        "eval_strategy": "steps",
    },
    "llamafactory": {
        **LLAMA_FACTORY,
        "quantization_bit": 4,
        "quantization_type": "nf4",
        "double_quantization": False,
        "lora_target": "all",
        "max_samples": 10,
        "neat_packing": True,
        "mask_history": True,
        "template": "llama3",
        "new_special_tokens": "<a>,<b>",
        "enable_thinking": False,
        "pref_beta": 0.2,
        "bf16": True,
    },
    "trl": {
        "model_name_or_path": "demo",
        "datasets": [{"path": "json", "data_files": "a.jsonl", "split": "train[:5]"}],
        "test_split_size": 0.1,
        "use_peft": True,
        "lora_r": 4,
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "assistant_only_loss": True,
        "dtype": "bfloat16",
        "warmup_steps": 5,
        "gradient_checkpointing": True,
    },
}


@pytest.mark.parametrize("tool", list(MANY))
def test_what_counts_as_carried_over_changes_the_profile_or_what_is_said(tmp_path: Path, tool: str) -> None:
    info = INFO if tool == "llamafactory" else None
    before = draft_of(tmp_path, MANY[tool], info, dialect=tool)
    carried = [place for place, became in accounts(before).items() if became in ("carried", "changed")]
    assert len(carried) > 10
    for place in carried:
        files = {"told": copy.deepcopy(MANY[tool]), "info": copy.deepcopy(info)}
        root, _, path = place.removeprefix("dataset_info.json ").partition(".")
        holder: Any = files["info"] if place.startswith("dataset_info") else files["told"]
        for step in [root, *path.split(".")][: -1 if path else 0]:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        last: Any = path.rpartition(".")[2] or root
        last = int(last) if isinstance(holder, list) else last
        value = holder[last]
        holder[last] = not value if isinstance(value, bool) else value / 2 if isinstance(value, float) else f"{value}x"
        if isinstance(value, int) and not isinstance(value, bool):
            holder[last] = value * 2
        try:
            after = draft_of(tmp_path, files["told"], files["info"], dialect=tool)
        except EngineError:
            continue
        assert (after.settings, after.notes) != (before.settings, before.notes), place


@pytest.mark.parametrize("tool", list(MANY))
def test_values_of_any_type_are_carried_over_listed_or_refused(tmp_path: Path, tool: str) -> None:
    from engine.profile.foreign.read import DIALECTS

    drawn = random.Random(5)
    odd = [*ODD_VALUES, -1, "auto", "4", float("nan"), float("inf"), 10**30, [[]], {"path": "x"}, "~nobody/x", "\0"]
    for _ in range(30):
        told = {**copy.deepcopy(MANY[tool]), drawn.choice(list(DIALECTS[tool].rules)): drawn.choice(odd)}
        told[drawn.choice(list(MANY[tool]))] = drawn.choice(odd)
        try:
            draft = draft_of(tmp_path, told, INFO if tool == "llamafactory" else None, dialect=tool)
        except EngineError:
            continue
        assert all(accounts(draft).values())
        text = profile_text(draft, [tmp_path / "t.yaml"], tmp_path / "p.toml")
        assert load_text(text, tmp_path / "p.toml").problems == ()


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ({"train_on_eos": "none"}, "datasets.0.train_on_eos", "none"),
        ({"train_on_eot": "last"}, "datasets.0.train_on_eot", "last"),
        ({"roles_to_train": ["user", "assistant"]}, "datasets.0.roles_to_train", "user"),
        ({"shards": 10, "shards_idx": 0}, "datasets.0.shards", "10"),
        ({"drop_system_message": True}, "datasets.0.drop_system_message", "True"),
        ({"chat_template": "chatml"}, "datasets.0.chat_template", "chatml"),
        ({"message_property_mappings": {"mood": "feels"}}, "datasets.0.message_property_mappings.mood", "feels"),
        ({"roles": {"narrator": ["voice"]}}, "datasets.0.roles.narrator", "voice"),
        ({"roles": {"user": ["x"], "assistant": ["x"]}}, "datasets.0.roles.user", "x"),
        ({"type": {"format": "[INST] {instruction}"}}, "datasets.0.type.format", "[INST]"),
        ({"path": "a/b", "data_files": ["x.jsonl"]}, "datasets.0.data_files", "x.jsonl"),
    ],
)
def test_what_an_axolotl_data_set_wants_and_is_not_here_is_listed(
    tmp_path: Path, entry: dict[str, Any], key: str, value: str
) -> None:
    told = {"base_model": "demo", "datasets": [{"path": "a.jsonl", "type": "chat_template", **entry}]}
    assert value in lost(draft_of(tmp_path, told))[key]


def test_every_data_file_and_column_of_an_axolotl_set_is_read(tmp_path: Path) -> None:
    told = {
        "base_model": "demo",
        "datasets": [
            {"path": "json", "data_files": ["a.jsonl", "b.jsonl"], "ds_type": "json", "type": "alpaca"},
            {"path": "c.jsonl", "type": "chat_template", "field_messages": "talk", "field_system": "sys"},
            {"path": "d.jsonl", "type": {"field_instruction": "q", "field_input": "c", "field_output": "a"}},
            {"path": "owner/name", "revision": "v2", "type": "completion", "field": "body", "split": "train[:50]"},
        ],
    }
    draft = draft_of(tmp_path, told)
    entries = [{**entry, "path": Path(entry["path"]).name} for entry in draft.settings["data.datasets"]]
    assert entries == [
        {"path": "a.jsonl", "format": "alpaca"},
        {"path": "b.jsonl", "format": "alpaca"},
        {"path": "c.jsonl", "format": "messages", "columns": {"messages": "talk", "system": "sys"}},
        {"path": "d.jsonl", "columns": {"instruction": "q", "input": "c", "output": "a"}},
        {"path": "name@v2", "format": "text", "max_samples": 50, "columns": {"text": "body"}},
    ]
    assert not lost(draft)


def test_each_line_of_a_text_file_is_an_example(tmp_path: Path) -> None:
    told = {"base_model": "demo", "datasets": [{"path": "text", "data_files": "a.txt", "type": "completion"}]}
    entry = draft_of(tmp_path, told).settings["data.datasets"][0]
    assert (Path(entry["path"]).name, entry["format"], entry["documents"]) == ("a.txt", "text", "line")


def test_a_second_held_out_set_is_listed_whole(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, AXOLOTL)
    told = {note.key: note.message for note in draft.notes if note.kind == "changed"}["test_datasets.1"]
    assert "w.jsonl" in told
    assert "chat_template" in told
    assert Path(draft.settings["evaluate.sets"]["w"]).name == "w.jsonl"


@pytest.mark.parametrize(("size", "key"), [(100, "data.validation_rows"), (0.1, "data.validation_fraction")])
def test_held_out_rows_are_a_share_or_a_number(tmp_path: Path, size: float, key: str) -> None:
    assert draft_of(tmp_path, {**LLAMA_FACTORY, "eval_dataset": None, "val_size": size}, INFO).settings[key] == size
    assert draft_of(tmp_path, {**AXOLOTL, "test_datasets": None, "val_set_size": size}).settings[key] == size


def test_counts_of_llama_factory_are_those_of_each_set(tmp_path: Path) -> None:
    info = {"one": {"file_name": "a.json", "num_samples": 5}, "two": {"file_name": "b.json"}}
    draft = draft_of(tmp_path, {**LLAMA_FACTORY, "max_samples": 10}, info)
    assert [entry["max_samples"] for entry in draft.settings["data.datasets"]] == [5, 10]
    assert "data.max_samples" not in draft.settings


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"preserve_thinking": True}, "preserve_thinking"),
        ({"enable_thinking": None}, "enable_thinking"),
        ({"ignore_pad_token_for_loss": False}, "ignore_pad_token_for_loss"),
        ({"mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3"}, "interleave_probs"),
        ({"save_safetensors": False}, "save_safetensors"),
        ({"eval_dataset": None, "val_size": 5, "eval_strategy": "no"}, "val_size"),
        ({"packing": False, "use_galore": True, "galore_rank": 8}, "galore_rank"),
        ({"cutoff_len": 512, "model_max_length": 1024}, "cutoff_len"),
        ({"hub_token": "hf_abc", "push_to_hub": True}, "push_to_hub"),
    ],
)
def test_what_false_null_and_details_of_llama_factory_change_is_listed(
    tmp_path: Path, told: dict[str, Any], key: str
) -> None:
    assert key in lost(draft_of(tmp_path, {**LLAMA_FACTORY, **told}, INFO))


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_is_an_argument_of_the_chat_template(tmp_path: Path, thinking: bool) -> None:
    draft = draft_of(tmp_path, {**LLAMA_FACTORY, "enable_thinking": thinking}, INFO)
    assert draft.settings["data.template_arguments"] == {"enable_thinking": thinking}
    assert "enable_thinking" not in lost(draft)


def test_training_starts_from_the_adapter_that_a_file_names(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for told in ({**LLAMA_FACTORY, "adapter_name_or_path": "before"}, {**AXOLOTL, "lora_model_dir": "before"}):
        draft = draft_of(tmp_path, {**told, "lora_alpha": 8}, INFO)
        assert draft.settings["tuning.adapter"] == str(tmp_path / "before")
        assert not [key for key in draft.settings if key.startswith("lora.")]
        assert accounts(draft)["lora_alpha"] == "not needed"
    for told in ({"adapter_name_or_path": "a,b"}, {"adapter_name_or_path": "owner/adapter"}):
        assert "adapter_name_or_path" in lost(draft_of(tmp_path, {**LLAMA_FACTORY, **told}, INFO))


def test_a_chat_template_comes_in_by_file_or_into_one(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    told = {**AXOLOTL, "chat_template": "jinja", "chat_template_jinja": "mine.jinja"}
    assert draft_of(tmp_path, told).settings["data.template"] == str(tmp_path / "mine.jinja")
    text = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({**AXOLOTL, "chat_template_jinja": text}))
    answer = CliRunner().invoke(profile, ["import", str(tmp_path / "t.yaml"), "-o", str(tmp_path / "p.toml")])
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "t.jinja").read_text() == text
    assert 'template = "t.jinja"' in (tmp_path / "p.toml").read_text()


@pytest.mark.parametrize(
    ("stage", "told", "columns"),
    [
        ("dpo", {"prompt": "ask", "chosen": "good", "rejected": "bad"}, ["prompt", "chosen", "rejected"]),
        ("rm", {"prompt": "ask", "chosen": "good", "rejected": "bad"}, ["prompt", "chosen", "rejected"]),
        ("kto", {"prompt": "ask", "response": "said", "kto_tag": "fine"}, ["prompt", "completion", "label"]),
        ("pt", {"prompt": "body"}, ["text"]),
        ("sft", {"prompt": "ask", "query": "", "response": "said", "system": None}, ["instruction", "output"]),
    ],
)
def test_own_columns_take_the_roles_of_the_stage(
    tmp_path: Path, stage: str, told: dict[str, Any], columns: list[str]
) -> None:
    info = {"one": {"file_name": "a.json", "ranking": stage in ("dpo", "rm"), "columns": told}}
    draft = draft_of(tmp_path, {"model_name_or_path": "demo", "stage": stage, "dataset": "one"}, info)
    assert list(draft.settings["data.datasets"][0]["columns"]) == columns
    assert not lost(draft)


OWN = {"message_keys": {"role": "speaker", "content": "text"}, "speakers": {"customer": "user", "asks": "call"}}


def own_words(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name in OWN}


def test_what_rows_of_llama_factory_call_their_parts_and_speakers_is_carried_over(tmp_path: Path) -> None:
    info = copy.deepcopy(INFO)
    tags = {"user_tag": "customer", "function_tag": "asks", "role_tag": "speaker", "content_tag": "text"}
    info["two"]["tags"] |= tags
    draft = draft_of(tmp_path, {**LLAMA_FACTORY, "dataset": "two"}, info)
    assert own_words(draft.settings["data.datasets"][0]) == OWN
    assert not lost(draft)
    assert own_words(draft_of(tmp_path, LLAMA_FACTORY, INFO).settings["data.datasets"][1]) == {}


def test_what_rows_of_axolotl_call_their_parts_and_speakers_is_carried_over(tmp_path: Path) -> None:
    names = {"role": "speaker", "content": "text", "reasoning_content": "why"}
    entry = {
        "path": "a.jsonl",
        "type": "chat_template",
        "message_property_mappings": names,
        "message_field_training": "learn",
        "roles": {"user": ["customer", "user"], "assistant": ["gpt"]},
    }
    draft = draft_of(tmp_path, {"base_model": "demo", "datasets": [entry]})
    wanted = {"message_keys": {"train": "learn", **names}, "speakers": {"customer": "user"}}
    assert own_words(draft.settings["data.datasets"][0]) == wanted
    assert not lost(draft)


def test_a_secret_is_named_and_not_written_down(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, {**LLAMA_FACTORY, "hub_token": "hf_abc", "my_api_key": "sk-123"}, INFO)
    text = profile_text(draft, [tmp_path / "t.yaml"], tmp_path / "p.toml")
    assert "my_api_key" in text
    assert "hf_abc" not in text + str(draft.notes)
    assert "sk-123" not in text + str(draft.notes)


def test_roles_of_columns_are_those_that_data_are_read_by() -> None:
    from engine.data.layouts import ROLES as READ
    from engine.profile.foreign.columns import ROLES

    for layout, roles in ROLES.items():
        assert set(roles) <= set(READ[layout]), layout


def test_speakers_that_import_takes_for_known_are_read() -> None:
    from engine.data.convert import to_example
    from engine.data.layouts import Planner
    from engine.data.turns import Reading
    from engine.data.unread import RowNotes
    from engine.profile.foreign.columns import SPEAKERS

    planner = Planner("messages", {})
    for system, user, answer in itertools.zip_longest(*(SPEAKERS[one] for one in ("system", "user", "assistant"))):
        spoken = [(system or "system", "s"), (user or "user", "q"), (answer or "gpt", "a")]
        row = {"messages": [{"role": word, "content": text} for word, text in spoken]}
        example, _ = to_example(row, planner, 1, 0, RowNotes(), Reading())
        assert [message.role for message in example.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    "line", [r'path = "C:\Users\ada\x.jsonl"', r'path = "D:\data\x.jsonl"', r'path = "\\server\share"', r'a = "x\q"']
)
def test_a_backslash_in_a_profile_is_explained(tmp_path: Path, line: str) -> None:
    from engine.profile.load import load_text

    problem = load_text(line, tmp_path / "p.toml").problems[0]
    assert "backslash" in problem.message
    assert "single quotes" in problem.hint


def test_a_profile_with_further_held_out_sets_can_be_checked(tmp_path: Path) -> None:
    from engine.profile.data_files import check_data_files
    from engine.profile.load import load_profile

    for name in ("a", "v", "w"):
        (tmp_path / f"{name}.jsonl").write_text('{"messages": []}\n')
    told = {"base_model": "demo", "datasets": [{"path": "a.jsonl"}], "test_datasets": AXOLOTL["test_datasets"]}
    text = profile_text(draft_of(tmp_path, told), [tmp_path / "t.yaml"], tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text(text)
    assert list(check_data_files(load_profile(tmp_path / "p.toml"))) == []
