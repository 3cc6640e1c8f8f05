"""A part of the table of architectures, run again; and the committed table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import families, family_models

RECORD = json.loads(families.RESULTS.read_text())["families"]
AGAIN = ("qwen2_moe", "gemma3n_text")


def test_every_architecture_is_in_the_committed_table() -> None:
    assert list(RECORD) == list(family_models.TYPES)
    assert len(RECORD) >= 45
    broken = {name: found["cells"] for name, found in RECORD.items() if "FAILS" in str(found["cells"])}
    assert not broken, "what the engine does not do it refuses in words of its own"


@pytest.mark.parametrize("name", AGAIN)
def test_an_architecture_gives_what_the_table_says(name: str, tmp_path: Path) -> None:
    families.write_rows(tmp_path)
    assert families.measure(name, tmp_path).cells == RECORD[name]["cells"]
