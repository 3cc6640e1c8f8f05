"""Names that resemble one that is not known, and models to train instead of one that cannot be trained here.

Not here: the list (`catalog.py`), looking for files (`resolve.py`).
"""

from __future__ import annotations

import difflib
import math
import re

from engine.models.catalog import catalog_index, listing_of, load_catalog, refused_names
from engine.models.spec import ModelSpec

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_SERIES = re.compile(r"[a-z]+")
_LETTERS = 3
_DOUBLINGS_A_YEAR = 0.8
"""A model that is a year newer is preferred to one whose size is nearer by this much."""
_HORIZON_YEAR = 2100.0


def nearest_models(name: str, count: int = 3) -> list[str]:
    """Catalogue names that resemble `name`."""
    index = catalog_index()
    short = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(name.lower(), index, n=count, cutoff=0.6)
    close += difflib.get_close_matches(short, index, n=count, cutoff=0.5)
    return list(dict.fromkeys(index[match].name for match in close))[:count]


def why_refused(name: str) -> str:
    """What the trainer lacks for a model that is known by name and cannot be trained; empty for any other."""
    short = name.rpartition("/")[2].lower()
    starts = [start for start in refused_names() if short.startswith(start)]
    return refused_names()[max(starts, key=len)][1] if starts else ""


def instead_of(name: str, count: int = 3) -> list[str]:
    """Catalogue names to train instead of `name`, nearest first: its maker's, else those of its size; else none."""
    short = name.rpartition("/")[2].lower()
    wanted = _parameters(short)
    same = [spec for spec in load_catalog() if _series(spec.name.rpartition("/")[2].lower()) == _series(short)]
    known = same or (load_catalog() if wanted else ())
    return [spec.name for spec in sorted(known, key=lambda spec: _distance(spec, short, wanted))[:count]]


def _distance(spec: ModelSpec, short: str, wanted: float | None) -> tuple[bool, float]:
    """Whether it is of another kind (base, code, with images by its name); then doublings in size and age together."""
    apart = abs(math.log2(spec.sizes.total_parameters / wanted)) if wanted else 0.0
    other_kind = any((use in spec.use_cases) != (use in short) for use in ("base", "code"))
    other_kind |= ("-vl-" in spec.name.lower()) != ("-vl-" in short)
    return other_kind, apart + _DOUBLINGS_A_YEAR * _years_old(spec)


def _years_old(spec: ModelSpec) -> float:
    """Before the end of the list's horizon; a person's own models count as new."""
    listed = listing_of(spec.name)
    if listed is None:
        return 0.0
    year, month = listed.released.split("-")
    return _HORIZON_YEAR - (int(year) + int(month) / 12)


def _series(short: str) -> str:
    """Letters that a maker's models begin with: `qwen` of qwen3.5-9b, `llama` of meta-llama-3-8b."""
    words = [word for word in _SERIES.findall(short) if len(word) >= _LETTERS and word not in ("meta", "nvidia")]
    return words[0] if words else ""


def _parameters(short: str) -> float | None:
    """Size that a name gives: 9e9 of qwen3.5-9b, 30e9 of qwen3-30b-a3b."""
    found = _SIZE.search(short)
    return float(found[1]) * {"b": 1e9, "m": 1e6}[found[2]] if found else None
