"""Screens as plain text in files. `UPDATE_GOLDEN=1 pytest …` writes them anew: read them before they are kept."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def same_as(name: str, text: str) -> None:
    """`text` is what `golden/NAME.txt` holds."""
    path = FOLDER / f"{name}.txt"
    found = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{path.name} differs; the screen shows\n{found}"
