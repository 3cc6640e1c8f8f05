"""The table of docs/import.md counts every key of the example files once, with the reason that import gives."""

from __future__ import annotations

from pathlib import Path

from bench.foreign import page


def test_the_table_counts_every_key_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.yml").write_text(
        "base_model: demo\nmade_up: false\ndebug: true\nfsdp_config: {a: 1, b: 2}\n"
        "datasets:\n  - {path: rows.jsonl, type: chat_template, shards: 10}\n"
    )
    (tmp_path / "examples" / "b.yaml").write_text("base_model: demo\nrl: ppo\n")
    text = page("axolotl", tmp_path)
    assert "2 files, 8 keys and items" in text
    assert "| lost without a word | 0 |" in text
    assert "1 (rl: ppo cannot be trained here)" in text
    assert "- this key is not known: `made_up` 1\n" in text
    assert "- one GPU is used: `fsdp_config.a` 1, `fsdp_config.b` 1\n" in text
    assert "- see the worker's log: `debug` 1\n" in text
