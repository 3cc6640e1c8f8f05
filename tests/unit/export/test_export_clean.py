"""What leaves the machine carries no secrets and no paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.export.clean import base_name, cell, plain, redact, scrub_json


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "Ab1" * 10,
        "ghp_" + "a1B2" * 9,
        "sk-proj-" + "x" * 30,
        "AKIA" + "ABCD1234" * 2,
        "https://user:pass@host.example/x",
    ],
)
def test_secrets(secret: str) -> None:
    shown = redact(f"before {secret} after")
    assert "[secret]" in shown
    assert "pass" not in shown
    assert secret not in shown
    assert shown.startswith("before")
    assert shown.endswith("after")


@pytest.mark.parametrize(
    "path", ["/home/alice/data/x.jsonl", "~/models", "/mnt/a/b/", "file:/srv/x", r"C:\Users\alice\x"]
)
def test_paths(path: str) -> None:
    assert redact(f"see {path}") == "see [path]"


@pytest.mark.parametrize(
    "text", ["bf16/fp16", "meta-llama/Llama-3.1-8B", "1/2", "https://huggingface.co/a/b", "and/or"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_markdown_and_terminal_marks() -> None:
    assert plain("a|b <script> [x](y) `c` \x1b[31m\nd") == r"a\|b \<script\> \[x\](y) \`c\` �\[31m⏎d"
    assert cell("all-linear") == "`all-linear`"
    assert cell("a`b|c") == r"a\`b\|c"
    assert len(plain("x" * 999)) == 200


def test_base_names(tmp_path: Path) -> None:
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert base_name("meta-llama/Llama-3.1-8B", tmp_path) == ("meta-llama/Llama-3.1-8B", True)
    assert base_name("owner/model", tmp_path) == ("model", False)
    assert base_name(str(tmp_path / "owner" / "model"), tmp_path) == ("model", False)
    assert base_name("../elsewhere/Qwen3", tmp_path) == ("Qwen3", False)
    assert base_name("weights.gguf", tmp_path) == ("weights.gguf", False)
    assert base_name("demo", tmp_path) == ("tunedeck-demo", False)


def test_json_files_lose_paths_of_this_machine(tmp_path: Path) -> None:
    config = {"_name_or_path": "/home/alice/base", "sub": {"vocab_file": "/home/alice/v"}, "vocab_size": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    named = {"name_or_path": "owner/model", "is_local": True, "local_files_only": True, "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    (tmp_path / "tokenizer.json").write_text('{"name_or_path": "/home/alice/base"}')
    scrub_json(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"sub": {}, "vocab_size": 7}
    kept = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert kept == {"name_or_path": "owner/model", "eos_token": "</s>"}
