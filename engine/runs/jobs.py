"""What evaluation and export are asked for, and where in a run they work. Started by the command line and the deck."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.runs.record import read_record
from engine.runs.store import Run

EVALUATION_FOLDER, EXPORT_FOLDER = "eval", "export-job"
"""Folders of a run that hold the job's events, log and result."""


def evaluation_job(run: Run, rows: int | None = None) -> dict[str, Any]:
    """Base against tuned on held-out rows (None = the profile's number). Raises EngineError(PROFILE)."""
    return {**_job("evaluate", run), "rows": rows}


def export_job(
    run: Run,
    *,
    output: Path | None = None,
    merged: bool | None = None,
    dtype: str | None = None,
    quantized: Sequence[str] = (),
    gguf: Sequence[str] = (),
    llama_quantize: str | None = None,
) -> dict[str, Any]:
    """What the run learned, in the forms asked for; None = as the profile says. Raises EngineError(PROFILE)."""
    return {
        **_job("export", run),
        "output": str(output.expanduser().absolute()) if output else None,
        "merged": merged,
        "dtype": dtype,
        "quantized": list(quantized),
        "gguf": list(gguf),
        "llama_quantize": llama_quantize,
    }


def _job(name: str, run: Run) -> dict[str, Any]:
    return {"job": name, "run_dir": str(run.path), "run_json": read_record(run.path).raw}
