"""Documents of compared or judged rows: the two of each row side by side, with their roles. For `prepare.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.data.encode import Document
from engine.data.examples import Example
from engine.data.preference import CHOSEN, DESIRED, MISMATCHED, REJECTED, UNDESIRED


def paired(documents: Sequence[Document], examples: Sequence[Example]) -> list[Document]:
    """Documents of `flat` numbered by their row and with their role; rows that lost one of the two are left out."""
    found: dict[int, list[Document]] = {}
    for document in documents:
        row, second = divmod(document.example, 2)
        found.setdefault(row, []).append(replace(document, example=row, role=_role(examples[row], bool(second))))
    return [document for row in sorted(found) if len(found[row]) == 2 for document in found[row]]


def _role(example: Example, second: bool) -> int:
    if example.kind == "judged":
        return MISMATCHED if second else DESIRED if example.desirable else UNDESIRED
    return REJECTED if second else CHOSEN
