"""Choosing what an export writes, and what the last one wrote: pure values. Drawn by `export_pane.py`.

Not here: which formats there are and what each takes (`engine.export.formats`, `engine.export.sizes`).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.api import results
from engine.api.results import ExportReport, ExportResult, FormatReport
from engine.api.runs import RunRecord
from engine.jsonvalues import table_in
from tui.text import safe, short_path

DTYPES = ("", *results.DTYPES)
"""Empty: as the run computed."""
FORMATS: tuple[tuple[str, str], ...] = (
    ("adapter", "what was learned, for PEFT"),
    ("merged", "base and adapter in one model"),
    *((row.title, row.meaning) for row in results.FORMATS),
)
"""Names of the rows of the pane, and what each is."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What shall be written. `dtype` and `output` empty = as the run computed, in the run's own folder."""

    adapter: bool = True
    """Whether there is an adapter: it is always written; full tuning has none."""
    merged: bool = True
    quantized: tuple[str, ...] = ()
    gguf: tuple[str, ...] = ()
    dtype: str = ""
    output: str = ""

    def has(self, name: str) -> bool:
        """Whether the format `name` of FORMATS is chosen."""
        if name in ("adapter", "merged"):
            return self.adapter if name == "adapter" else self.merged
        kind = name.removeprefix("gguf ")
        return kind in (self.quantized if name in results.QUANTIZED else self.gguf)


def first_choices(settings: Mapping[str, Any]) -> Choices:
    """What the run's profile asks for."""
    export = table_in(settings, "export")
    adapter = table_in(settings, "tuning").get("method", "lora") == "lora"
    quantized = tuple(kind for kind in results.QUANTIZED if kind in (export.get("quantized") or ()))
    gguf = tuple(kind for kind in results.GGUF if kind in (export.get("gguf") or ()))
    return Choices(adapter, export.get("merged") is not False, quantized, gguf)


def toggled(choices: Choices, name: str, profile: Choices) -> tuple[Choices, str]:
    """The choices with `name` switched, and why it could not be (else empty). `profile`: where they began."""
    if name == "adapter":
        return choices, "the adapter is always written" if choices.adapter else "this run trained the model itself"
    if name == "merged":
        if not choices.adapter:
            return choices, "a fully tuned model has no adapter to export instead"
        if choices.quantized or choices.gguf:
            return choices, "the other formats are made from it"
        return replace(choices, merged=not choices.merged), ""
    kind = name.removeprefix("gguf ")
    if name in results.QUANTIZED:
        quantized = _switched(choices.quantized, kind, results.QUANTIZED)
        after, refused = replace(choices, merged=True, quantized=quantized), profile.quantized and not quantized
    else:
        gguf = _switched(choices.gguf, kind, results.GGUF)
        after, refused = replace(choices, merged=True, gguf=gguf), profile.gguf and not gguf
    return (choices, "the run's profile asks for it: choose another beside it first") if refused else (after, "")


def _switched(kinds: tuple[str, ...], kind: str, order: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in order if (one in kinds) != (one == kind))


def command(run_id: str, choices: Choices, profile: Choices) -> str:
    """The shell command that does the same."""
    words = ["engine", "export", run_id]
    words += ["--no-merged"] if not choices.merged and profile.merged else []
    words += ["--dtype", choices.dtype] if choices.dtype else []
    for option, kinds, of_profile in (
        ("--quantize", choices.quantized, profile.quantized),
        ("--gguf", choices.gguf, profile.gguf),
    ):
        if kinds != of_profile:
            words += [word for kind in kinds for word in (option, kind)]
    words += ["--output", choices.output] if choices.output else []
    return shlex.join(words)


def size_estimate(name: str, choices: Choices, record: RunRecord | None) -> float | None:
    """About how large the row `name` of FORMATS will be; None when the model's shape is not known."""
    return None if record is None else results.estimated_bytes(name.removeprefix("gguf "), record, choices.dtype)


@dataclass(frozen=True, slots=True)
class Written:
    """One format of a finished export and how it compared with what it was made from."""

    name: str
    path: str
    size_bytes: float | None = None
    max_diff: float | None = None
    mean_diff: float | None = None
    relative: float | None = None
    same_token: float | None = None
    against: str = ""
    positions: float | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export."""

    output: str
    dtype: str = ""
    card: str = ""
    seconds: float | None = None
    answer: str = ""
    written: tuple[Written, ...] = ()

    def of(self, name: str) -> Written | None:
        """What was written as the format `name`."""
        return next((one for one in self.written if one.name == name), None)


def make_exported(result: ExportResult) -> Exported:
    """A finished export ready to show."""
    report = result.report
    written = [
        _written(name, path, result.sizes_bytes.get(name), _directory(report, name))
        for name, path in result.paths.items()
    ]
    for made in report.formats:
        if made.file is not None:
            kind = safe(made.format, 20).removeprefix("gguf").lstrip(" -_")
            written.append(_written(f"gguf {kind}", f"{result.gguf}/{made.file}", made.size_bytes, made))
    merged = _directory(report, "merged")
    return Exported(
        output=short_path(result.output),
        dtype=safe(result.dtype, 12),
        card=short_path(result.card),
        seconds=result.seconds,
        answer=safe(merged.answers[0].text, 200) if merged and merged.answers else "",
        written=tuple(written),
    )


def _directory(report: ExportReport, name: str) -> FormatReport | None:
    """The entry of a format that is a directory."""
    return next((made for made in report.formats if made.format == name and made.file is None), None)


def _written(name: str, path: str, size: float | None, made: FormatReport | None) -> Written:
    if made is None:
        return Written(name, short_path(path), size)
    figures = made.figures
    return Written(
        name,
        short_path(path),
        size,
        _known(figures.max_abs_diff),
        _known(figures.mean_abs_diff),
        _known(figures.relative_rms),
        _known(figures.top1_agreement),
        safe(made.against, 60),
        figures.positions or None,
    )


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure
