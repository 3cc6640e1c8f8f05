"""Rows of any data file for an evaluation that no run held them out for.

Called by `subject.py`; formats, columns and masks are those of training.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from engine.data.files import data_error
from engine.data.formats import read_parts, with_mask, with_system
from engine.evaluate.rows import HeldOut
from engine.profile.schema import Profile
from engine.profile.tables.data import Dataset
from engine.worker_job import Warn

MOST_ROWS = 100_000
"""Read from one source; the rows that are scored are spread over them."""
_PART_ROWS = 10_000


def read_data(path: str, settings: Profile, warn: Warn) -> list[HeldOut]:
    """Every usable row that ends with an answer. Raises EngineError(DATA) when there is none."""
    found: list[HeldOut] = []
    causes: Counter[str] = Counter()
    for part in read_parts(Dataset(path=path), Path.cwd(), limit=MOST_ROWS + 1, rows=_PART_ROWS):
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
