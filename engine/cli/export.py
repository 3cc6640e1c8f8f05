"""`engine export RUN`: write adapter, merged model and card, and compare each with base + adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.cli.names import complete_runs
from engine.cli.progress import Progress
from engine.errors import EngineError, ExitCode
from engine.export import parity_page
from engine.export.formats import DTYPES, GGUF, QUANTIZED
from engine.export.push import Hub, connect, files_of, listing, upload
from engine.export.report import ExportReport, result_of
from engine.runs import jobs, launch, store
from engine.runs.store import Run
from engine.text import format_duration


@click.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write; default: in the run.")
@click.option("--no-merged", is_flag=True, help="Write the adapter alone.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Data type of the merged weights.")
@click.option(
    "--quantize", multiple=True, type=click.Choice(QUANTIZED), help="Also write it in 4 or 8 bits; repeatable."
)
@click.option(
    "--gguf",
    multiple=True,
    type=click.Choice(GGUF),
    help="Also write GGUF for llama.cpp and Ollama; repeatable.",
)
@click.option(
    "--llama-quantize", help="Path of llama.cpp's llama-quantize, for types with _k; default: the one on PATH."
)
@click.option("--push", metavar="OWNER/NAME", help="Upload it to the Hugging Face hub, with the token in HF_TOKEN.")
@click.option("--public", is_flag=True, help="With --push: make it public; default: private.")
@json_option
def export(
    run: str,
    output: Path | None,
    no_merged: bool,
    dtype: str | None,
    quantize: tuple[str, ...],
    gguf: tuple[str, ...],
    llama_quantize: str | None,
    push: str | None,
    public: bool,
    as_json: bool,
) -> None:
    """Write the model that RUN trained. RUN is an id, a part of one, or 'last'.

    An older export stays until the new one is complete and checked.
    """
    if public and not push:
        raise EngineError("--public needs --push", code=ExitCode.PROFILE, hint="add --push OWNER/NAME")
    trained_run = store.find_run(run)
    hub = connect(push) if push else None
    result = export_run(
        trained_run,
        output=output,
        merged=False if no_merged else None,
        dtype=dtype,
        quantized=quantize,
        gguf=gguf,
        llama_quantize=llama_quantize,
        quiet=as_json,
    )
    if not as_json:
        show(result)
    if hub is not None:
        result["pushed"] = _push(hub, Path(result["output"]), public=public, quiet=as_json)
    if as_json:
        print_json(result)


def _push(hub: Hub, folder: Path, *, public: bool, quiet: bool) -> dict[str, Any]:
    """List the files, then upload them."""
    files = files_of(folder)
    if not quiet:
        for text in listing(files, hub.repo, public=public):
            note(text)
    done = upload(hub, folder, files, public=public)
    if not quiet:
        line(f"pushed   {done['url']} ({'public' if public else 'private'})")
    return done


def export_run(
    run: Run,
    *,
    output: Path | None = None,
    merged: bool | None = None,
    dtype: str | None = None,
    quantized: Sequence[str] = (),
    gguf: Sequence[str] = (),
    llama_quantize: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Export a run in a worker and return its result. Raises the worker's EngineError."""
    job = jobs.export_job(
        run,
        output=output,
        merged=merged,
        dtype=dtype,
        quantized=quantized,
        gguf=gguf,
        llama_quantize=llama_quantize,
    )
    progress = Progress(quiet=quiet)
    try:
        return launch.run_job(job, progress, directory=run.path / jobs.EXPORT_FOLDER)
    finally:
        progress.close()


def show(found: dict[str, Any]) -> None:
    """Print the paths and the comparison of the formats."""
    result = result_of(found)
    rows = [*result.paths.items(), *([("gguf", result.gguf)] if result.gguf else [])]
    for text in table([*rows, ("card", result.card)]):
        line(text)
    report = result.report
    if report.formats:
        line()
        for text in parity_page.table_lines(report):
            line(text)
        line()
        _show_answer(report)
        for text in parity_page.legend(report):
            note(text)
    note(f"done in {format_duration(result.seconds)}")


def _show_answer(report: ExportReport) -> None:
    """Print the first answer of the merged model, or of the adapter alone."""
    answer = (report.of("merged") or report.formats[0]).answers[0]
    end = "ended by itself" if answer.stopped else "did not end by itself"
    line(f"answer   {answer.text[:200]!r} ({answer.tokens} tokens, {end})")
