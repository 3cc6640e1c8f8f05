"""A profile on disk with its data: the built-in model on fifty rows."""

from __future__ import annotations

from pathlib import Path

TEXT = """\
schema_version = 1

[model]
name_or_path = "demo"
max_length = 256

[lora]
r = 8

[[data.datasets]]
path = "rows.jsonl"
format = "alpaca"
"""


def put_profile(folder: Path) -> Path:
    """`mine.toml` in `folder`, and the rows that it names."""
    (folder / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' * 50)
    path = folder / "mine.toml"
    path.write_text(TEXT)
    return path
