"""`engine export RUN`: adapter, merged model and card, checked against base + adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.cli.progress import Progress
from engine.runs import jobs, launch, store
from engine.runs.store import Run
from engine.text import format_bytes, format_duration


@click.command()
@click.argument("run")
@click.option("--output", type=click.Path(path_type=Path), help="Where the export goes; default: in the run.")
@click.option("--no-merged", is_flag=True, help="The adapter alone, without a merged model.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), help="dtype of the merged weights.")
@click.option(
    "--quantize", multiple=True, type=click.Choice(["nf4", "int8"]), help="Also in 4 or 8 bits; can be given twice."
)
@click.option(
    "--gguf",
    multiple=True,
    type=click.Choice(["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_0"]),
    help="Also as GGUF for llama.cpp and Ollama; can be given again.",
)
@json_option
def export(
    run: str,
    output: Path | None,
    no_merged: bool,
    dtype: str | None,
    quantize: tuple[str, ...],
    gguf: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write what RUN has learnt: an id, a part of one, or 'last'. An older export stands until this one is right."""
    found = store.find_run(run)
    result = export_run(
        found,
        output=output,
        merged=False if no_merged else None,
        dtype=dtype,
        quantized=quantize,
        gguf=gguf,
        quiet=as_json,
    )
    if as_json:
        print_json(result)
        return
    show(result)


def export_run(
    run: Run,
    *,
    output: Path | None = None,
    merged: bool | None = None,
    dtype: str | None = None,
    quantized: Sequence[str] = (),
    gguf: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """The result of an export worker; also called by `engine demo`. Raises its EngineError."""
    job = jobs.export_job(run, output=output, merged=merged, dtype=dtype, quantized=quantized, gguf=gguf)
    progress = Progress(quiet=quiet)
    try:
        return launch.run_job(job, progress, directory=run.path / jobs.EXPORT_FOLDER)
    finally:
        progress.close()


def show(result: dict[str, Any]) -> None:
    """Paths, sizes and how the files compared."""
    rows = [
        (kind, str(result[kind]), format_bytes(result.get(f"{kind}_bytes")))
        for kind in ("adapter", "merged", *result.get("quantized", {}))
        if result.get(kind)
    ]
    for text in table([*rows, ("card", str(result["card"]), "")]):
        line(text)
    parity = result.get("parity")
    if parity:
        line(
            f"parity   {parity['dtype']}, {parity['positions']} positions of {parity['rows']} texts: largest logit "
            f"difference {parity['max_abs_diff']:.3g}, mean {parity['mean_abs_diff']:.3g}, "
            f"same next token {parity['top1_agreement']:.1%}"
        )
        generation = parity["generation"]
        end = "ended by itself" if generation["stopped"] else "did not end by itself"
        line(f"answer   {generation['text'][:200]!r} ({generation['tokens']} tokens, {end})")
    for method, found in result.get("quantized", {}).items():
        line(
            f"{method:<8} against the merged model: {found['relative_rms']:.1%} of the logits' spread, same next token "
            f"{found['top1_agreement']:.1%}; loaded again it differs by {found['reloaded_max_abs_diff']:.1g}"
        )
    for kind, found in result.get("ggufs", {}).items():
        line(
            f"{kind:<8} {found['file']} {format_bytes(found['bytes'])}: {found['relative_rms']:.1%} of the logits'"
            f" spread, same next token {found['top1_agreement']:.1%}"
        )
    note(f"done in {format_duration(result['seconds'])}")
