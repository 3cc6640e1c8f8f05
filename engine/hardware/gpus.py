"""The spec table of known cards and the search in it by name.

It gives rates that NVML does not report, and cards for `engine fit --gpu`.
Not here: cards that are not in the table (`arithmetic.py`) and anything measured.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any

MIB = 1024**2
_TABLE = os.path.join(os.path.dirname(__file__), "gpus.toml")
_FILLER = frozenset(
    (
        "nvidia",
        "tesla",
        "geforce",
        "jetson",
        "gpu",
        "graphics",
        "generation",
        "edition",
        "with",
        "design",
        "card",
        "nvgpu",
    )
)
# Words that make a different card of the same number; a name without one never means a card with it.
_DISTINCT = frozenset(("laptop", "ti", "super", "d", "ada", "pro", "quadro", "titan", "max", "s"))
_NAME_ALTERATIONS = (
    (r"\(r\)|\(tm\)", " "),
    (r"max-?\s?q\s+design|\bmobile\b|\bnotebook\b", "laptop"),
    (r"[^a-z0-9]+", " "),
    (r"\b(rtx|gtx)(?=[a-z]?\d)", r"\1 "),
    (r"\b([a-z]?\d{4})(?=ti|super)", r"\1 "),
    (r"\btisuper\b", "ti super"),
    (r"\b(\d+)\s?g(?:i?b)?\b", r"\1gb"),
)
# A slice of memory that ECC or firmware takes stays under this; 8 and 10 GB variants are further apart.
_MEMORY_TOLERANCE = 0.13
_SOLD_SHARE = 1.08
"""A sixteenth goes to ECC, and a little to firmware (B200)."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One row of the table. `usable_bytes` is what CUDA can hand out; rates as in `Gpu`."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    total_bytes: int
    usable_bytes: int
    memory_bandwidth_bytes_s: float
    tensor_flops: float
    power_limit_w: float
    unified_memory: bool = False


def find_gpu(name: str, total_bytes: int | None = None) -> GpuSpec | None:
    """The row that `name` means, or `None` where none or several do.

    Takes NVML's names and a person's ("rtx 4090", "RTX4090", "A100"). `total_bytes` of a card that
    is there tells apart variants which share a name.
    """
    words = _words(name)
    rows = _rows()
    alias = _aliases().get(" ".join(sorted(words)))
    if total_bytes is None and alias is not None:
        return rows[alias]
    matching = [row for row in rows.values() if _means(words, row)]
    exact = [row for row in matching if _words(row.name) == words]
    exact = exact or [row for row in matching if _words(row.name) == words - _sizes(words)]
    if total_bytes is not None:
        near = [row for row in matching if abs(row.total_bytes - total_bytes) <= _MEMORY_TOLERANCE * row.total_bytes]
        closest = min((abs(row.total_bytes - total_bytes) for row in near), default=0)
        near = [row for row in near if abs(row.total_bytes - total_bytes) == closest]
        return near[0] if len(near) == 1 or (near and _same_rates(near)) else (exact[0] if exact else None)
    if exact:
        return exact[0]
    return matching[0] if len(matching) == 1 else _by_alias(words)


def _by_alias(words: frozenset[str]) -> GpuSpec | None:
    """The row of a short name with its memory behind it, such as `DGX Spark 128GB`."""
    sizes = _sizes(words)
    alias = _aliases().get(" ".join(sorted(words - sizes))) if sizes else None
    row = _rows()[alias] if alias else None
    return row if row is not None and sizes <= _size_of(row) else None


def nearest_names(name: str, count: int = 4) -> list[str]:
    """Names in the table that look like `name`: those holding all its words first, then similar spelling."""
    import difflib

    words = _words(name)
    holding = [row.name for row in _rows().values() if words and words <= _words(row.name)]
    plain = {" ".join(_in_order(row)): row for row in _rows()}
    similar = difflib.get_close_matches(" ".join(_in_order(name)), plain, n=count, cutoff=0.5)
    return list(dict.fromkeys(holding + [plain[found] for found in similar]))[:count]


def siblings(spec: GpuSpec) -> tuple[GpuSpec, ...]:
    """Cards with the name of `spec` and another memory: their names differ in a size alone."""
    words = _words(spec.name)
    plain = words - _sizes(words)
    alike = ((row, _words(row.name)) for row in _rows().values() if row.total_bytes != spec.total_bytes)
    return tuple(row for row, its_words in alike if its_words - _sizes(its_words) == plain)


def memory_gb(row: GpuSpec) -> int:
    """The memory of a card as its name has it, else as the driver reports it."""
    named = _sizes(_words(row.name)) & _size_of(row)
    return int(min(named).removesuffix("gb")) if named else round(row.total_bytes / MIB / 1024)


def _sizes(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if re.fullmatch(r"\d+gb", word))


def known_gpus() -> tuple[GpuSpec, ...]:
    """Every row, in the order of the file."""
    return tuple(_rows().values())


def _means(words: frozenset[str], row: GpuSpec) -> bool:
    """Whether a card called `words` may be `row`: the row only adds words that do not change the card.

    A size that the row carries and the name lacks may be added; a size in the name must be the row's.
    """
    row_words = _words(row.name)
    kept = words if _sizes(words) <= row_words else words - _size_of(row)
    return bool(kept) and kept <= row_words and not ((row_words - kept) & _DISTINCT)


def _size_of(row: GpuSpec) -> set[str]:
    """Sizes that mean this card: what the driver reports, and what it is sold with before ECC takes its share."""
    gib = row.total_bytes / MIB / 1024
    sold = range(round(gib), int(gib * _SOLD_SHARE) + 1)
    return {f"{size}gb" for size in (round(row.total_bytes / MIB / 1000), *sold)}


def _same_rates(rows: list[GpuSpec]) -> bool:
    return len({(row.tensor_flops, row.memory_bandwidth_bytes_s) for row in rows}) == 1


def _words(name: str) -> frozenset[str]:
    words = frozenset(_in_order(name))
    # "RTX" says nothing beside a number, except that Quadro RTX 6000, RTX 6000 Ada and RTX PRO 6000 need it kept apart,
    # which their other words do.
    return words - {"rtx"} if len(words) > 1 else words


@functools.lru_cache(maxsize=512)
def _in_order(name: str) -> tuple[str, ...]:
    text = name.lower()
    for pattern, replacement in _NAME_ALTERATIONS:
        text = re.sub(pattern, replacement, text)
    return tuple(word for word in text.split() if word not in _FILLER)


@functools.lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    import tomllib

    with open(_TABLE, "rb") as file:
        return tomllib.load(file)


@functools.lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    return {" ".join(sorted(_words(short))): name for short, name in _table()["aliases"].items()}


@functools.lru_cache(maxsize=1)
def _rows() -> dict[str, GpuSpec]:
    sections = {key: rows for key, rows in _table().items() if key != "aliases"}
    return {
        name: _row(name, values, unified=section == "unified")
        for section, rows in sections.items()
        for name, values in rows.items()
    }


def _row(name: str, values: list[Any], *, unified: bool) -> GpuSpec:
    capability, multiprocessors, total_mib, usable_mib, gigabytes_s, teraflops, watts = values
    major, minor = capability.split(".")
    return GpuSpec(
        name=name,
        compute_capability=(int(major), int(minor)),
        multiprocessors=multiprocessors,
        total_bytes=total_mib * MIB,
        usable_bytes=usable_mib * MIB,
        memory_bandwidth_bytes_s=gigabytes_s * 1e9,
        tensor_flops=teraflops * 1e12,
        power_limit_w=float(watts),
        unified_memory=unified,
    )
