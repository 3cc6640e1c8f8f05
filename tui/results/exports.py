"""Choosing what an export writes, and what the last one wrote: pure values. Drawn by `export_pane.py`.

Not here: which formats there are and what each takes (`engine.export.formats`, `engine.export.sizes`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.api import results
from tui.reading.snapshot import value
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
    export = _table(settings, "export")
    adapter = _table(settings, "tuning").get("method", "lora") == "lora"
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


def size_estimate(name: str, choices: Choices, run_json: Mapping[str, Any]) -> float | None:
    """About how large the row `name` of FORMATS will be; None when the model's shape is not known."""
    return results.estimated_bytes(name.removeprefix("gguf "), run_json, choices.dtype)


def _table(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = holder.get(key)
    return table if isinstance(table, Mapping) else {}


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


def make_exported(result: Mapping[str, Any]) -> Exported:
    """The export of a job's result; whatever is missing there is left out."""
    formats = _table(result, "parity").get("formats")
    entries = [made for made in (formats if isinstance(formats, list) else ()) if isinstance(made, Mapping)]
    compared = {str(made.get("format")): made for made in entries if "file" not in made}
    written = [
        _written(name, result[name], value(result, f"{name}_bytes"), compared.get(name, {}))
        for name in ("adapter", "merged", *results.QUANTIZED)
        if result.get(name)
    ]
    for made in entries:
        if "file" in made:
            kind = safe(made.get("format") or "", 20).removeprefix("gguf").lstrip(" -_")
            path = f"{result.get('gguf')}/{made.get('file')}"
            written.append(_written(f"gguf {kind}", path, value(made, "size_bytes"), made))
    return Exported(
        output=short_path(result.get("output") or ""),
        dtype=safe(result.get("dtype") or "", 12),
        card=short_path(result.get("card") or ""),
        seconds=value(result, "seconds"),
        answer=_answer(compared.get("merged", {})),
        written=tuple(written),
    )


def _answer(made: Mapping[str, Any]) -> str:
    """What a format answered to the first prompt."""
    answers = made.get("answers")
    first = answers[0] if isinstance(answers, list) and answers else None
    return safe(first.get("text") or "", 200) if isinstance(first, Mapping) else ""


def _written(name: str, path: object, size: float | None, entry: Mapping[str, Any]) -> Written:
    return Written(
        name,
        short_path(path),
        size,
        value(entry, "max_abs_diff"),
        value(entry, "mean_abs_diff"),
        value(entry, "relative_rms"),
        value(entry, "top1_agreement"),
        safe(entry.get("against") or "", 60),
        value(entry, "positions"),
    )
