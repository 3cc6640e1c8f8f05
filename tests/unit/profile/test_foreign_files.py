"""Files of other tools as people, and people with bad intentions, write them; and where paths lead afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from engine.cli.profile import profile
from engine.errors import EngineError
from engine.profile.foreign.draft import Draft, listed, shown
from engine.profile.foreign.read import read_draft

BASE = "model_name_or_path: demo\nstage: sft\ndata_path: rows.jsonl\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    row = {"instruction": "Name a color.", "output": "Blue."}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    return tmp_path


def draft_of(folder: Path, text: str, **more: Any) -> Draft:
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    return read_draft([folder / "t.yaml"], **more)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(profile, list(arguments))


def test_few_aliases_that_multiply_are_refused_before_anything_is_built(folder: Path) -> None:
    """Nine levels of ten: fewer aliases than are allowed, a billion values."""
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    began = time.monotonic()
    with pytest.raises(EngineError, match="repeats itself"):
        draft_of(folder, BASE + "\n".join(rows))
    with pytest.raises(EngineError, match="repeats itself"):
        draft_of(folder, BASE + "peft_config: &a [*a]\n")
    assert time.monotonic() - began < 2


def test_keys_that_an_anchor_brings_are_read_and_the_files_own_win(folder: Path) -> None:
    text = "defaults: &d\n  lora_rank: 4\n  cutoff_len: 512\n<<: *d\nlora_rank: 8\n" + BASE
    draft = draft_of(folder, text, dialect="llamafactory")
    assert (draft.settings["lora.r"], draft.settings["model.max_length"]) == (8, 512)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("datasets:\n  - path: a.jsonl\n    path: b.jsonl\nbase_model: demo\n", "'path' stands twice", "keep one"),
        (BASE + "---\n" + BASE, "several documents", "a file of its own"),
        (BASE + "\tlora_rank: 8\n", "not YAML", "spaces"),
        ("# nothing yet\n", "holds no settings", "LLaMA-Factory"),
    ],
)
def test_a_file_that_loses_something_is_refused_in_words(folder: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        draft_of(folder, text)
    assert hint in caught.value.hint


def test_a_file_that_is_not_there_is_no_profile(folder: Path) -> None:
    with pytest.raises(EngineError, match="no such file") as caught:
        read_draft([folder / "none.yaml"])
    assert "profile" not in caught.value.hint


@pytest.mark.parametrize("key", ["train_dataset", "eval_dataset"])
def test_a_list_of_sets_that_is_not_there_is_named(folder: Path, key: str) -> None:
    text = f"model: demo\nmodel_class: llm\npeft_config: {{name: lora}}\n{key}: data/none.yaml\n"
    if key == "train_dataset":
        with pytest.raises(EngineError, match="no such file"):
            draft_of(folder, text)
    draft = draft_of(folder, text, data=folder / "rows.jsonl")
    assert any(note.kind == "left out" and note.key == key for note in draft.notes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hub_token", 123456),
        ("huggingface_token", "abc"),
        ("my_api_keys", ["abc", "def"]),
        ("env.HF_TOKEN", "abc"),
        ("credentials", {"user": "me", "word": "abc"}),
        ("note", "hf_abcdefghijklmnopqrstuvwxyz"),
        ("url", "https://me:abc@host/x"),
    ],
)
def test_no_secret_is_written_down(key: str, value: Any) -> None:
    told = listed(value, key)
    assert "(a secret)" in told
    assert "abc" not in told
    assert "123456" not in told


def test_what_is_no_secret_is_written_down() -> None:
    assert listed(True, "use_auth_token") == "True"
    assert listed("<pad>", "pad_token") == "<pad>"
    assert shown("https://host/x@y") == "https://host/x@y"


def test_a_models_folder_is_found_from_a_profile_in_another_folder(folder: Path) -> None:
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "out").mkdir()
    (folder / "t.yaml").write_text(BASE.replace(": demo", ": models/mine"))
    assert run("import", "t.yaml", "-o", "out/p.toml").exit_code == 0
    assert 'name_or_path = "../models/mine"' in (folder / "out" / "p.toml").read_text()
    assert run("import", "t.yaml", "--model", "./models/mine", "-o", "out/q.toml").exit_code == 0
    assert 'name_or_path = "../models/mine"' in (folder / "out" / "q.toml").read_text()
    assert run("export", "out/p.toml", "--to", "trl", "-o", "back.yaml").exit_code == 0
    assert yaml.safe_load((folder / "back.yaml").read_text())["model_name_or_path"] == "models/mine"


def test_data_of_the_hub_may_stand_in(folder: Path) -> None:
    assert draft_of(folder, BASE, data=Path("hub:owner/name")).settings["data.datasets"] == [{"path": "hub:owner/name"}]


def test_what_other_tools_make_of_files_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "p.toml").write_text(
        '[model]\nname_or_path = "owner/model"\n[[data.datasets]]\npath = "book.txt"\nformat = "text"\n'
        '[[data.datasets]]\npath = "parts/*.jsonl"\nformat = "alpaca"\n'
        '[[data.datasets]]\npath = "~/rows.jsonl"\nformat = "alpaca"\n'
    )
    for tool in ("llamafactory", "axolotl", "trl"):
        answer = run("export", "p.toml", "--to", tool, "--force")
        assert answer.exit_code == 0, answer.output
        assert "documents = file" in answer.output
        assert "a pattern" in answer.output
        assert str(folder / "rows.jsonl") in answer.output + "".join(
            path.read_text() for path in folder.glob("*.[yj]*")
        )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("base_model: demo\nadapter: lora\ndatasets:\n  - path: rows.jsonl\n  - {type: alpaca}\n", "datasets.1"),
        (
            "base_model: demo\nadapter: lora\ndatasets: [rows.jsonl]\ntest_datasets:\n  - {split: x}\n",
            "test_datasets.0",
        ),
        ("base_model: [a, b]\nadapter: lora\ndatasets: [rows.jsonl]\n", "base_model"),
    ],
)
def test_a_set_without_a_path_and_a_model_without_a_name_are_listed(folder: Path, text: str, key: str) -> None:
    draft = draft_of(folder, text, **({"model": "demo"} if key == "base_model" else {}))
    assert key in {note.key for note in draft.notes if note.kind == "left out"}
    assert [Path(entry["path"]).name for entry in draft.settings["data.datasets"]] == ["rows.jsonl"]
    assert "data.validation_path" not in draft.settings


def test_a_key_that_is_known_and_says_nothing_is_not_called_unknown(folder: Path) -> None:
    notes = {note.key: note.message for note in draft_of(folder, BASE + "max_samples: 0\nx: 1\n").notes}
    assert "not known" in notes["x"]
    assert "not known" not in notes["max_samples"]


def test_a_folder_that_is_not_there_is_said_for_every_file(folder: Path) -> None:
    template = 'chat_template_jinja: "{{ messages[0].content }}"\n'
    (folder / "t.yaml").write_text("base_model: demo\nadapter: lora\ndatasets: [rows.jsonl]\n" + template)
    assert run("import", "t.yaml", "-o", "p.toml").exit_code == 0
    for arguments in (["import", "t.yaml"], ["export", "p.toml", "--to", "axolotl"]):
        with pytest.raises(EngineError, match="cannot be written") as caught:
            CliRunner().invoke(profile, [*arguments, "-o", "none/x"], catch_exceptions=False)
        assert "folder that exists" in caught.value.hint


@pytest.mark.parametrize("value", ["[a]", "yes", "{a: 1}"])
def test_what_is_no_text_never_becomes_a_system_message(folder: Path, value: str) -> None:
    draft = draft_of(folder, BASE + f"default_system: {value}\n")
    assert "data.system" not in draft.settings
    assert any(note.key == "default_system" and note.kind == "left out" for note in draft.notes)


def test_prompts_that_are_conversations_are_not_exported_as_text(folder: Path) -> None:
    row = {"ask": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}}
    (folder / "pairs.jsonl").write_text(json.dumps({**row, "rejected": {"from": "gpt", "value": "b"}}) + "\n")
    (folder / "p.toml").write_text(
        '[model]\nname_or_path = "owner/model"\n[train]\nobjective = "dpo"\n[[data.datasets]]\n'
        'path = "pairs.jsonl"\ncolumns = { prompt = "ask" }\n'
    )
    assert run("export", "p.toml", "--to", "llamafactory", "-o", "lf.yaml").exit_code == 0
    (told,) = json.loads((folder / "dataset_info.json").read_text()).values()
    assert (told["formatting"], told["columns"]["messages"], told["tags"]["role_tag"]) == ("sharegpt", "ask", "from")
    assert run("export", "p.toml", "--to", "axolotl", "-o", "ax.yaml").exit_code == 0
    (told,) = yaml.safe_load((folder / "ax.yaml").read_text())["datasets"]
    assert (told["type"], told["field_messages"]) == ("chat_template.default", "ask")
    assert told["message_property_mappings"] == {"role": "from", "content": "value"}
    for name, tool in (("lf.yaml", "llamafactory"), ("ax.yaml", "axolotl")):
        entry = read_draft([folder / name], dialect=tool, dataset_dir=folder).settings["data.datasets"][0]
        assert entry["columns"] == {"prompt": "ask"}
