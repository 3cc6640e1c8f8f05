"""The held-out conversations of a run: reading them back and choosing those that are scored.

`data/validation.jsonl` holds what training held out, as it was used. Not here: tokens (`encode.py`).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.data.examples import Example, Examples
from engine.data.files import data_error
from engine.data.formats import read_parts, with_mask, with_system
from engine.data.stored import example_from_json
from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile
from engine.profile.tables.data import Dataset
from engine.runs.job import Warn

VALIDATION_FILE = Path("data") / "validation.jsonl"
Chosen = TypeVar("Chosen")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out conversation that ends with an answer."""

    example: Example

    @property
    def has_prompt(self) -> bool:
        """False for plain text, which is scored but cannot be answered, and for a last answer that only calls tools."""
        messages = self.example.messages
        asked = any(message.role == "user" for message in messages[:-1])
        return self.example.kind == "chat" and asked and bool(messages[-1].content.strip())

    @property
    def reference(self) -> str:
        """The answer that a model should give to the turns before it."""
        return self.example.messages[-1].content

    @property
    def prompt(self) -> str:
        """The last question, for showing."""
        asked = [message.content for message in self.example.messages[:-1] if message.role == "user"]
        return asked[-1] if asked else ""


def read_held_out(run_dir: Path) -> list[HeldOut]:
    """Every held-out conversation of a run, in file order; empty when nothing was held out.

    Raises EngineError(DATA) for a file that is missing or damaged, naming the line.
    """
    path = run_dir / VALIDATION_FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"the held-out rows cannot be read: {error}",
            code=ExitCode.DATA,
            where=str(path),
            hint="train again; the run keeps what it held out",
        ) from error
    return [_parsed(text, number, path) for number, text in enumerate(lines, 1) if text.strip()]


def _parsed(text: str, number: int, path: Path) -> HeldOut:
    try:
        example = example_from_json(json.loads(text), number)
        if not example.messages or example.messages[-1].role != "assistant":
            raise ValueError("it does not end with an answer")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"damaged row: {error}", code=ExitCode.DATA, where=f"{path}:{number}", hint="remove the line or train again"
        ) from error
    return HeldOut(example)


def choose(rows: list[Chosen], count: int) -> list[Chosen]:
    """`count` rows spread evenly over all of them, so that every data file keeps its share."""
    if count >= len(rows):
        return rows
    return [rows[position * len(rows) // count] for position in range(count)]


MOST_ROWS = 100_000
"""Read from one source; the rows that are scored are spread over them."""
_PART_ROWS = 10_000


def read_data(path: str, settings: Profile, columns: Mapping[str, str], base_dir: Path, warn: Warn) -> list[HeldOut]:
    """Every usable row that ends with an answer. Raises EngineError(DATA) when there is none.

    `columns` (role = column), where given, count; else the layout of the run's own data sets where the rows have such
    columns, else that which the columns show.
    """
    found: list[HeldOut] = []
    causes: Counter[str] = Counter()
    for part in _parts(path, settings, columns, base_dir, warn):
        causes.update(part.causes)
        examples = with_mask(with_system(part.examples, settings.data.system), settings.data.mask)
        found += [HeldOut(example) for example in examples]
    if causes:
        told = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common(5))
        warn("rows_unusable", f"{sum(causes.values())} rows of {path} cannot be used: {told}")
    if not found:
        raise data_error("no row can be used", where=path, hint="see 'engine data check' for how rows are read")
    if len(found) > MOST_ROWS:
        warn("rows_read", f"only the first {MOST_ROWS} rows of {path} are used")
    return found[:MOST_ROWS]


def _taken(settings: Profile) -> dict[str, Any]:
    """How the run's own data sets take values: further rows are read alike."""
    own = settings.data.datasets
    return {
        "values_as_text": any(one.values_as_text for one in own),
        "ignored_columns": sorted({name for one in own for name in one.ignored_columns}),
        "documents": own[0].documents,
        "message_keys": next((one.message_keys for one in own if one.message_keys), {}),
        "speakers": next((one.speakers for one in own if one.speakers), {}),
    }


def _parts(path: str, settings: Profile, columns: Mapping[str, str], base_dir: Path, warn: Warn) -> Iterator[Examples]:
    """The rows in the first layout that fits them."""
    own = [one for one in settings.data.datasets if one.columns or one.format != "auto"]
    layouts: list[tuple[str, dict[str, str]]] = [(one.format, dict(one.columns)) for one in own]
    if columns:
        layouts = [("auto", dict(columns))]
    tried: list[EngineError] = []
    for number, (layout, roles) in enumerate([*layouts, ("auto", {})] if not columns else layouts):
        dataset = Dataset.model_validate({"path": path, "format": layout, "columns": roles, **_taken(settings)})
        parts = read_parts(dataset, base_dir, limit=MOST_ROWS + 1, rows=_PART_ROWS)
        try:
            first = next(parts, None)
        except EngineError as error:
            tried.append(error)
            continue
        if number < len(own) and not columns:
            warn("layout", f"{path}: read as the run's own data set {own[number].path}")
        yield from () if first is None else itertools.chain([first], parts)
        return
    last = tried[-1]
    if "column" not in f"{last.message} {last.hint}":
        raise last
    hint = f"{last.hint}; on the command line: --column ROLE=NAME" if last.hint else "name them: --column ROLE=NAME"
    raise EngineError(last.message, code=last.code, where=last.where, hint=hint)
