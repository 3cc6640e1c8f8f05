"""One setting as the form, the messages and the reference see it: plain data, no pydantic.

Made by `fields.py` from the schema; its limits are put in words by `values.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WHOLE_TABLES = ("columns", "sets", "space", "template_arguments", "message_keys", "speakers")
"""Names of settings whose value is a table: one setting, not a table of settings."""


DECIDED_BY_DATA = {
    "train.eval_steps": "ten times a run, once the number of steps is known",
    "train.save_steps": "with each evaluation, once the number of steps is known",
    "data.template": "the model's own template, once its tokenizer is read",
    "data.marks": "as the rows are written, once they are read",
    "data.datasets.0.format": "recognised from the columns when the file is read",
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A leaf of the profile, such as `train.learning_rate` or `data.datasets.0.path`."""

    key: str
    """Dotted; entries of a list of tables carry their number, here always 0."""
    table: str
    """First part of the key, empty for top-level settings."""
    name: str
    label: str
    kind: str
    """`text`, `int`, `float`, `bool`, `switch` (bool, int or a word), `choice`, `list`, `map` (of names) or `table`
    (of anything that TOML has)."""
    choices: tuple[str, ...] = ()
    """Words that are allowed; for a list, of its items (or in its place, as `all-linear`)."""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    description: str = ""
    default: Any = None
    advanced: bool = False
    auto: bool = False
    """`"auto"` leaves the choice to the machine."""
    required: bool = False
    optional: bool = False
    """May stay unset."""
    above: bool = False
    """The minimum itself is excluded."""
    below: bool = False
    """The maximum itself is excluded."""
    min_chars: int = 0
    max_chars: int | None = None
    pattern: str = ""
    items: str = ""
    """What a list holds, as `texts`; empty = names or `choices`."""
    most_items: int | None = None


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting; tables in lists carry their number."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and name not in WHOLE_TABLES:
            yield from leaves(value, f"{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                yield from leaves(item, f"{key}.{number}.")
        else:
            yield key, value
