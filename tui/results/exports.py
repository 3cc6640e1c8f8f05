"""Choosing what an export writes, and what the last one wrote: pure values. Drawn by `exportview.py`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.api.results import ExportReport, ExportResult, FormatReport
from engine.api.runs import RunRecord
from tui.text import safe, short_path

QUANTIZED = ("nf4", "int8", "int8-dynamic", "int8-static")
K_TYPES = ("q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k")
"""GGUF types that llama.cpp's llama-quantize writes."""
GGUF = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_0", *K_TYPES)
DTYPES = ("", "bf16", "fp16", "fp32")
FORMATS: tuple[tuple[str, str], ...] = (
    ("adapter", "what was learned, for PEFT"),
    ("merged", "base and adapter in one model"),
    ("nf4", "4 bits, bitsandbytes"),
    ("int8", "8 bits, bitsandbytes"),
    ("int8-dynamic", "8 bits, torchao"),
    ("int8-static", "8 bits, fixed scales, torchao"),
    ("gguf f16", "16 bits, for llama.cpp and Ollama"),
    ("gguf bf16", "16 bits with a wider range"),
    ("gguf q8_0", "8.5 bits a weight, nearly lossless"),
    ("gguf q5_1", "6 bits a weight"),
    ("gguf q5_0", "5.5 bits a weight"),
    ("gguf q4_0", "4.5 bits a weight"),
    *((f"gguf {kind}", "needs llama.cpp's llama-quantize") for kind in K_TYPES),
)
BITS = {
    "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5, "q4_0": 4.5, "q6_k": 6.56, "q5_k_m": 5.69,
    "q5_k_s": 5.53, "q4_k_m": 4.85, "q4_k_s": 4.58, "q3_k_l": 4.27, "q3_k_m": 3.91, "q3_k_s": 3.5, "q2_k": 3.35,
    "nf4": 4.13, "int8": 8.0, "int8-dynamic": 8.0, "int8-static": 8.0,
}  # fmt: skip
"""Of a weight in the layers; for the K types llama.cpp's averages over a 7B model."""
_ITEM_BITS = {"bf16": 16.0, "fp16": 16.0, "fp32": 32.0}


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
        return kind in (self.quantized if name in QUANTIZED else self.gguf)


def first_choices(settings: Mapping[str, Any]) -> Choices:
    """What the run's profile asks for."""
    asked = settings.get("export")
    export = asked if isinstance(asked, Mapping) else {}
    tuning = settings.get("tuning")
    adapter = not isinstance(tuning, Mapping) or tuning.get("method", "lora") == "lora"
    quantized = tuple(kind for kind in QUANTIZED if kind in (export.get("quantized") or ()))
    gguf = tuple(kind for kind in GGUF if kind in (export.get("gguf") or ()))
    return Choices(adapter, export.get("merged") is not False, quantized, gguf)


def toggled(choices: Choices, name: str, profile: Choices) -> tuple[Choices, str]:
    """The choices with `name` switched, and why it could not be (else empty). `profile`: where they began."""
    if name == "adapter":
        return choices, "the adapter is always written" if choices.adapter else "this run trained the model itself"
    if name == "merged":
        if not choices.adapter:
            return choices, "a fully tuned model has no adapter to export instead"
        kept = choices.quantized or choices.gguf
        if kept:
            return choices, "the other formats are made from it"
        return replace(choices, merged=not choices.merged), ""
    kind = name.removeprefix("gguf ")
    if name in QUANTIZED:
        quantized = _switched(choices.quantized, kind, QUANTIZED)
        after, refused = replace(choices, merged=True, quantized=quantized), profile.quantized and not quantized
    else:
        gguf = _switched(choices.gguf, kind, GGUF)
        after, refused = replace(choices, merged=True, gguf=gguf), profile.gguf and not gguf
    return (choices, "the run's profile asks for it: choose another beside it first") if refused else (after, "")


def _switched(kinds: tuple[str, ...], kind: str, order: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in order if (one in kinds) != (one == kind))


def command(run_id: str, choices: Choices, profile: Choices) -> str:
    """The shell command that does the same."""
    words = ["engine", "export", run_id]
    words += ["--no-merged"] if not choices.merged and profile.merged else []
    words += ["--dtype", choices.dtype] if choices.dtype else []
    for option, kinds, asked in (
        ("--quantize", choices.quantized, profile.quantized),
        ("--gguf", choices.gguf, profile.gguf),
    ):
        if kinds != asked:
            words += [word for kind in kinds for word in (option, kind)]
    words += ["--output", choices.output] if choices.output else []
    return shlex.join(words)


def estimated_bytes(name: str, choices: Choices, record: RunRecord | None) -> float | None:
    """About how large a format will be, from the model's shape; None when that is not known.

    Matrices of the layers in the format's bits; embeddings and head as the exporter stores them.
    """
    if record is None:
        return None
    model, own_dtype = record.model, record.text("model.dtype") or "bf16"
    if name == "adapter":
        count = record.prediction.trainable_parameters
        return count * _ITEM_BITS.get(own_dtype, 16.0) / 8 if count else None
    parameters = model.parameters
    if not parameters:
        return None
    merged_bits = _ITEM_BITS.get(choices.dtype or own_dtype, 16.0)
    if name == "merged":
        return parameters * merged_bits / 8
    edges = (model.vocab_size or 0) * (model.hidden_size or 0) * (1 if model.tie_word_embeddings else 2)
    if name in QUANTIZED:
        return (edges * merged_bits + max(0.0, parameters - edges) * BITS[name]) / 8
    kind = name.removeprefix("gguf ")
    edge_bits = BITS["q8_0"] if kind in ("q4_0", "q5_0", "q5_1") else BITS[kind]
    return (edges * edge_bits + max(0.0, parameters - edges) * BITS[kind]) / 8


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
