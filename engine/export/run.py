"""The export job: adapter, merged model, tokenizer and card, checked before they take their place.

Its job is `{"job": "export", "run_dir": …, "output": …, "merged": …, "dtype": …}`. An earlier export at the same
place stands until the new one is complete and checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.evaluate.report import EvaluationReport, load_report
from engine.export import gguf_files, llama_quantize, merge, parity_page
from engine.export.card import card_text
from engine.export.clean import base_name, file_name
from engine.export.facts import Facts
from engine.export.formats import BY_NAME, K_QUANTS
from engine.export.gguf_write import described
from engine.export.merge import compare_adapter, copy_adapter, write_merged
from engine.export.ollama.write import write_modelfile
from engine.export.place import building, check_space, check_target, size_bytes
from engine.export.quantized import write_quantized
from engine.export.reload import loader_of
from engine.export.report import (
    EXPORT_VERSION,
    MARK_FILE,
    PARITY_FILE,
    ExportReport,
    ExportResult,
    FormatReport,
    OllamaReport,
)
from engine.export.sizes import needed_bytes
from engine.export.texts import Texts, texts_of
from engine.files import write_json_atomic, write_text_atomic
from engine.inference.run import OpenedRun, load_tokenizer, open_run, refuse_scores
from engine.jsonvalues import Unreadable
from engine.modeling.load import model_directory
from engine.runs.job import Job
from engine.runs.jobs import EVALUATION_FOLDER

PAGE = "parity.txt"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What the job asks for, settled: the place, whether to merge, the dtype, and how else to store it."""

    target: Path
    merged: bool
    dtype: str
    quantized: tuple[str, ...] = ()
    gguf: tuple[str, ...] = ()
    program: Path | None = None
    """llama-quantize, where K-quants are wanted."""


def run(job: Job) -> dict[str, Any]:
    """Export the run named in the job; returns paths, sizes and parity.

    Raises EngineError: MODEL (no weights, damaged adapter, failed parity), DISK, RESOURCES (still
    training, too little memory), PROFILE (a place that holds something else).
    """
    began = time.monotonic()
    trained = open_run(job)
    refuse_scores(trained, "merge and compare")
    plan = _plan(job, trained)
    check_target(plan.target)
    parameters = _parameters(trained)
    check_space(plan.target, _needed_bytes(trained, plan, parameters))
    if plan.merged:
        # GGUF files are compared in fp32, as they are read back.
        merge.check_memory(parameters, "fp32" if plan.gguf else plan.dtype)
    if plan.gguf:
        # Before hours of merging: what GGUF cannot hold shows in the base model's configuration.
        described(model_directory(trained.settings, trained.base_dir, job.warn))
    tokenizer = load_tokenizer(trained, job.warn)
    with building(plan.target) as folder:
        texts = texts_of(trained, tokenizer, job.warn)
        entries = _write(job, trained, plan, tokenizer, texts, folder)
        ollama = None
        if plan.gguf:
            first = next(made.file for made in entries if made.format == plan.gguf[0])
            ollama = write_modelfile(job, trained, tokenizer, folder / "gguf", str(first))
        report = _report(texts, entries, folder, ollama)
        result = _finish(job, trained, plan, folder, report, chats=texts.template is not None)
    return {"outcome": "completed", **result.to_json(), "seconds": round(time.monotonic() - began, 3)}


def _write(
    job: Job, trained: OpenedRun, plan: ExportPlan, tokenizer: Any, texts: Texts, folder: Path
) -> list[FormatReport]:
    """Every format into `folder`, each compared; their entries of the report in the order in which they are shown."""
    adapter = folder / "adapter"
    if trained.is_adapter:
        job.phase("export", "adapter")
        copy_adapter(trained, tokenizer, adapter)
    if not plan.merged:
        return _adapter_alone(job, trained, plan, texts, adapter)
    reference, merged, made = write_merged(job, trained, tokenizer, plan.dtype, folder / "merged", texts)
    entries = [made]
    if trained.is_adapter:
        entries.insert(0, compare_adapter(job, trained, plan.dtype, adapter, texts, reference, merged.look))
    failures: list[Problem] = []
    for method in plan.quantized:
        with _gathered(failures):
            entries.append(write_quantized(job, trained.settings, merged, method, folder / method))
    if plan.gguf:
        base, _ = base_name(trained.settings.model.name_or_path, trained.base_dir)
        name = file_name(trained.settings.name or f"{base.rpartition('/')[2]}-tuned")
        source = gguf_files.prepare(job, merged, folder / "gguf", name, plan.program)
        for kind in plan.gguf:
            with _gathered(failures):
                entries.append(gguf_files.write_kind(job, trained, source, kind))
    if failures:
        raise problems_error(failures, ExitCode.MODEL, "the export is not the tuned model, and an earlier one stands")
    return entries


@contextmanager
def _gathered(failures: list[Problem]) -> Iterator[None]:
    """Keep a format's failed comparison for the end: the others are worth knowing too."""
    try:
        yield
    except EngineError as error:
        if error.where not in BY_NAME:
            raise
        failures.append(Problem(error.message, error.hint, error.where))


def _adapter_alone(job: Job, trained: OpenedRun, plan: ExportPlan, texts: Texts, folder: Path) -> list[FormatReport]:
    """The adapter's entry; none, told as a warning, where the base does not fit the memory to compare it."""
    try:
        merge.check_memory(_parameters(trained), plan.dtype)
    except EngineError as error:
        job.warn("not_compared", f"the adapter was copied and not compared: {error.message}")
        return []
    return [compare_adapter(job, trained, plan.dtype, folder, texts, None, None)]


def _report(texts: Texts, entries: list[FormatReport], folder: Path, ollama: OllamaReport | None) -> ExportReport:
    """The parity report, written as JSON and as a page; every entry gets the size of its files."""
    prompts = tuple(prompt.conversation.turns[-1]["content"] for prompt in texts.prompts)
    sized = tuple(replace(made, size_bytes=_size_bytes(made, folder)) for made in entries)
    report = ExportReport(sized, transformers.__version__, texts.source, prompts, ollama)
    write_json_atomic(folder / PARITY_FILE, report.to_json(), mode=0o644)
    if entries:
        write_text_atomic(folder / PAGE, parity_page.page(report), mode=0o644)
    return report


def _size_bytes(made: FormatReport, folder: Path) -> int:
    return _weights_bytes(folder / made.format) if made.file is None else (folder / "gguf" / made.file).stat().st_size


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _plan(job: Job, trained: OpenedRun) -> ExportPlan:
    settings = trained.settings.export
    output = job.params.get("output")
    target = Path(str(output)).expanduser().absolute() if output else trained.run_dir / "export"
    given = job.params.get("merged")
    merged = settings.merged if given is None else bool(given)
    if not merged and not trained.is_adapter:
        raise EngineError(
            "full tuning has no adapter to export", code=ExitCode.PROFILE, where="--no-merged", hint="leave it out"
        )
    quantized = tuple(job.params.get("quantized") or settings.quantized)
    ggufs = tuple(job.params.get("gguf") or settings.gguf)
    if (quantized or ggufs) and not merged:
        raise EngineError(
            f"only a merged model is {'quantized' if quantized else 'written as GGUF'}",
            code=ExitCode.PROFILE,
            where="--quantize" if quantized else "--gguf",
            hint="leave --no-merged (export.merged = false) out",
        )
    needs_program = any(kind in K_QUANTS for kind in ggufs)
    return ExportPlan(
        target,
        merged,
        merge.export_dtype(trained, job.params.get("dtype")),
        tuple(dict.fromkeys(quantized)),
        tuple(dict.fromkeys(ggufs)),
        llama_quantize.find(job.params.get("llama_quantize")) if needs_program else None,
    )


def _parameters(trained: OpenedRun) -> int:
    """Of the whole model: what trained counted them with all that was loaded, towers too."""
    return max(trained.record.model.parameters or 0, trained.summary().total_parameters or 0)


def _needed_bytes(trained: OpenedRun, plan: ExportPlan, parameters: int) -> int:
    # K-quants come out of a 16-bit file that is there as long as it takes.
    others = len(plan.quantized) + len(plan.gguf) + (plan.program is not None)
    adapter = size_bytes(trained.weights) if trained.is_adapter else 0
    return needed_bytes(parameters, plan.dtype, 1 + others if plan.merged else 0, adapter)


def _finish(
    job: Job, trained: OpenedRun, plan: ExportPlan, folder: Path, report: ExportReport, *, chats: bool
) -> ExportResult:
    """Cards, the mark of an export, and the result for the caller."""
    job.phase("export", "model card")
    base, on_hub = base_name(trained.settings.model.name_or_path, trained.base_dir)
    scores = _evaluated(trained)
    trust = trained.settings.model.trust_remote_code
    loader = loader_of(merge.source_of(trained, job.warn), trust_remote_code=trust).__name__
    kinds = [kind for kind in ("adapter", "merged", *plan.quantized) if (folder / kind).is_dir()]
    for kind in kinds:
        dtypes = {"merged": plan.dtype, "adapter": "the adapter's own dtype"}
        dtype = dtypes.get(kind) or f"{kind} by {BY_NAME[kind].writer}"
        facts = Facts(
            kind,
            trained,
            base,
            on_hub,
            dtype,
            _weights_bytes(folder / kind),
            report.of(kind),
            scores,
            report.of("merged"),
            chats,
            loader,
            report.ollama if kind == "merged" else None,
        )
        write_text_atomic(folder / kind / "README.md", card_text(facts), mode=0o644)
    sizes = {kind: size_bytes(folder / kind) for kind in kinds}
    mark = {"v": EXPORT_VERSION, "base": base, "dtype": plan.dtype}
    mark |= {f"{kind}_bytes": size for kind, size in sizes.items()}
    write_json_atomic(folder / MARK_FILE, mark, mode=0o644)
    return ExportResult(
        output=str(plan.target),
        paths={kind: str(plan.target / kind) for kind in kinds},
        sizes_bytes=sizes,
        gguf=str(plan.target / "gguf") if plan.gguf else None,
        card=str(plan.target / _main(kinds) / "README.md"),
        dtype=plan.dtype,
        run=trained.run_dir.name,
        report=report,
    )


def _evaluated(trained: OpenedRun) -> EvaluationReport | None:
    """The run's evaluation, where it was evaluated."""
    found = load_report(trained.run_dir / EVALUATION_FOLDER)
    return None if isinstance(found, Unreadable) else found


def _main(kinds: Sequence[str]) -> str:
    return "merged" if "merged" in kinds else kinds[0]
