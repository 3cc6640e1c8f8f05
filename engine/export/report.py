"""The report of an export as values: what `parity.json`, `export.json` and the job's result hold.

The writers of formats make a `FormatReport` each; the pages, the cards, the shell and the deck read them back.
No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.export.formats import QUANTIZED
from engine.jsonvalues import Table, Unreadable, load_any_object, number_in, table_in, tables_in, text_in, whole_in
from engine.runs.record import load_result

EXPORT_VERSION = 2
MARK_FILE, PARITY_FILE = "export.json", "parity.json"
KINDS = ("adapter", "merged", *QUANTIZED)
"""Formats with a directory of their own, as they are shown."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How far the logits of two models are apart; not a number where a file does not say."""

    positions: int = 0
    max_abs_diff: float = math.nan
    mean_abs_diff: float = math.nan
    relative_rms: float = math.nan
    """Of the spread of the logits."""
    top1_agreement: float = math.nan
    """Share of places with the same next token."""
    perplexity: float | None = None


@dataclass(frozen=True, slots=True)
class FormatAnswer:
    """A greedy answer of what was written. `same_as_merged` is None where there is no merged model to be like."""

    text: str
    tokens: int
    stopped: bool
    same_as_merged: bool | None = None


@dataclass(frozen=True, slots=True)
class FormatReport:
    """One format that was written, loaded again and compared with the model that `against` names. Not sanitised."""

    format: str
    against: str
    figures: Figures = Figures()
    memory_bytes: int | None = None
    stored: Mapping[str, int] = field(default_factory=dict)
    rows: tuple[Figures, ...] = ()
    answers: tuple[FormatAnswer, ...] = ()
    template_survives: bool = False
    stops_survive: bool = False
    tolerance: float | None = None
    perplexity_factor: float | None = None
    adapter_effect: Mapping[str, Any] | None = None
    stops: tuple[int, ...] | None = None
    """Tokens to stop at that an adapter's files do not name by themselves."""
    misplaced: int | None = None
    """Tensors of an adapter that PEFT alone does not put in their place."""
    reloaded_max_abs_diff: float | None = None
    calibration_rows: int | None = None
    fixed_layers: int | None = None
    layers: int | None = None
    file: str | None = None
    """Of a GGUF type; other formats are directories."""
    largest_weight_error: float | None = None
    size_bytes: int | None = None

    @property
    def perplexity(self) -> float | None:
        """Of the answers in all texts."""
        return self.figures.perplexity

    def to_json(self) -> dict[str, Any]:
        """The entry of parity.json: what a format does not have is left out."""
        always = {"adapter_effect"} if self.format == "merged" else {"stops"} if self.format == "adapter" else set()
        optional = [item.name for item in fields(self) if item.default is None and item.name not in always]
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in optional:
            if plain[name] is None:
                del plain[name]
        del plain["figures"]
        return {
            **plain,
            **asdict(self.figures),
            **({"stops": None if self.stops is None else list(self.stops)} if "stops" in plain else {}),
            "stored": dict(self.stored),
            "rows": [asdict(row) for row in self.rows],
            "answers": [asdict(answer) for answer in self.answers],
        }


@dataclass(frozen=True, slots=True)
class OllamaReport:
    """What was found about the Modelfile's TEMPLATE.

    `covers` and `lost` are abilities of the chat template that it has and has not. Not sanitised.
    """

    written: bool = False
    compared: int = 0
    equal: int = 0
    covers: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportReport:
    """parity.json: every format, and on what they were compared."""

    formats: tuple[FormatReport, ...] = ()
    transformers: str = ""
    source: str = ""
    prompts: tuple[str, ...] = ()
    ollama: OllamaReport | None = None
    """None without a Modelfile."""

    def of(self, name: str) -> FormatReport | None:
        """The entry of the format `name`."""
        return next((made for made in self.formats if made.format == name), None)

    def to_json(self) -> dict[str, Any]:
        """The content of parity.json."""
        return {
            "v": EXPORT_VERSION,
            "transformers": self.transformers,
            "source": self.source,
            "prompts": list(self.prompts),
            "formats": [made.to_json() for made in self.formats],
            **({} if self.ollama is None else {"ollama": asdict(self.ollama)}),
        }


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export: where its formats are, what they take on disk, and how they compare."""

    output: str
    paths: Mapping[str, str] = field(default_factory=dict)
    """Directories by kind, in the order of KINDS."""
    sizes_bytes: Mapping[str, int | None] = field(default_factory=dict)
    gguf: str | None = None
    card: str = ""
    dtype: str = ""
    run: str = ""
    report: ExportReport = ExportReport()
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The job's result without its outcome and time."""
        quantized = {kind: path for kind, path in self.paths.items() if kind in QUANTIZED}
        return {
            "run": self.run,
            "output": self.output,
            "adapter": self.paths.get("adapter"),
            "merged": self.paths.get("merged"),
            **quantized,
            "gguf": self.gguf,
            "card": self.card,
            **{f"{kind}_bytes": size for kind, size in self.sizes_bytes.items()},
            "dtype": self.dtype,
            "parity": self.report.to_json(),
        }


def load_export(run_dir: Path, job_folder: str) -> ExportResult | Unreadable:
    """The last export of a run: by its job's result, else by the mark in the run's own export folder."""
    found = load_result(run_dir / job_folder)
    if not isinstance(found, Unreadable) and found.get("output"):
        return result_of(found)
    mark = load_any_object(run_dir / "export" / MARK_FILE, name=MARK_FILE, hint="export again")
    return mark if isinstance(mark, Unreadable) else _marked(mark, run_dir / "export")


def _marked(mark: Table, folder: Path) -> ExportResult:
    """An export without its job's result: what its mark and its folders say."""
    kinds = {kind: str(folder / kind) for kind in KINDS if (folder / kind).is_dir()}
    return result_of({**mark, **kinds, "output": str(folder)})


def result_of(found: Table) -> ExportResult:
    """The export that a job's result tells of; whatever is missing there is left out."""
    paths = {kind: str(found[kind]) for kind in KINDS if found.get(kind)}
    gguf = found.get("gguf")
    return ExportResult(
        output=str(found.get("output") or ""),
        paths=paths,
        sizes_bytes={kind: whole_in(found, f"{kind}_bytes") for kind in paths},
        gguf=str(gguf) if gguf else None,
        card=str(found.get("card") or ""),
        dtype=str(found.get("dtype") or ""),
        run=text_in(found, "run"),
        report=report_of(table_in(found, "parity")),
        seconds=number_in(found, "seconds"),
    )


def report_of(found: Table) -> ExportReport:
    """The parity report that an object is."""
    prompts = found.get("prompts")
    return ExportReport(
        tuple(map(format_of, tables_in(found, "formats"))),
        text_in(found, "transformers"),
        text_in(found, "source"),
        tuple(map(str, prompts)) if isinstance(prompts, list) else (),
        _ollama_of(table_in(found, "ollama")),
    )


def _ollama_of(found: Table) -> OllamaReport | None:
    if not found:
        return None

    def texts(key: str) -> tuple[str, ...]:
        values = found.get(key)
        return tuple(map(str, values)) if isinstance(values, list | tuple) else ()

    return OllamaReport(
        found.get("written") is True,
        whole_in(found, "compared") or 0,
        whole_in(found, "equal") or 0,
        texts("covers"),
        texts("lost"),
        texts("warnings"),
    )


def format_of(found: Table) -> FormatReport:
    """The entry that an object is."""
    stops = found.get("stops")
    stored = table_in(found, "stored")
    return FormatReport(
        format=text_in(found, "format"),
        against=text_in(found, "against"),
        figures=_figures(found),
        memory_bytes=whole_in(found, "memory_bytes"),
        stored={name: whole_in(stored, name) or 0 for name in stored},
        rows=tuple(map(_figures, tables_in(found, "rows"))),
        answers=tuple(map(_answer, tables_in(found, "answers"))),
        template_survives=found.get("template_survives") is True,
        stops_survive=found.get("stops_survive") is True,
        tolerance=number_in(found, "tolerance"),
        perplexity_factor=number_in(found, "perplexity_factor"),
        adapter_effect=table_in(found, "adapter_effect") or None,
        stops=tuple(stops) if isinstance(stops, list) else None,
        misplaced=whole_in(found, "misplaced"),
        reloaded_max_abs_diff=number_in(found, "reloaded_max_abs_diff"),
        calibration_rows=whole_in(found, "calibration_rows"),
        fixed_layers=whole_in(found, "fixed_layers"),
        layers=whole_in(found, "layers"),
        file=text_in(found, "file") or None,
        largest_weight_error=number_in(found, "largest_weight_error"),
        size_bytes=whole_in(found, "size_bytes"),
    )


def _figures(found: Table) -> Figures:
    def figure(key: str) -> float:
        value = number_in(found, key)
        return math.nan if value is None else value

    return Figures(
        whole_in(found, "positions") or 0,
        figure("max_abs_diff"),
        figure("mean_abs_diff"),
        figure("relative_rms"),
        figure("top1_agreement"),
        number_in(found, "perplexity"),
    )


def _answer(found: Table) -> FormatAnswer:
    same = found.get("same_as_merged")
    return FormatAnswer(
        str(found.get("text") or ""),
        whole_in(found, "tokens") or 0,
        found.get("stopped") is True,
        same if isinstance(same, bool) else None,
    )
