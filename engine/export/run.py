"""The export job: adapter, merged model, tokenizer and card, checked before they take their place.

Called by the worker for `{"job": "export", "run_dir": …, "output": …, "merged": …, "dtype": …}`. An
earlier export at the same place stands until the new one is whole and right.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.evaluate.trained import Trained, load_tokenizer, open_run, refuse_scores
from engine.export import merge
from engine.export.card import Facts, card_text
from engine.export.clean import base_name, file_name, scrub_json
from engine.export.gguf_files import write_ggufs
from engine.export.merged import write_merged
from engine.export.place import MARK, building, check_space, check_target, size_bytes
from engine.export.quantized import write_quantized
from engine.runs.files import write_json_atomic, write_text_atomic
from engine.worker_job import Job

EXPORT_VERSION = 1
SPACE_FACTOR = 1.05
SPARE_BYTES = 64 * 1024 * 1024
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the job asks for, settled: the place, whether to merge, the dtype, and how else to store it."""

    target: Path
    merged: bool
    dtype: str
    quantized: tuple[str, ...] = ()
    gguf: tuple[str, ...] = ()


def run(job: Job) -> dict[str, Any]:
    """Export the run named in the job; returns paths, sizes and parity.

    Raises EngineError: MODEL (no weights, damaged adapter, failed parity), DISK, RESOURCES (still
    training, too little memory), PROFILE (a place that holds something else).
    """
    began = time.monotonic()
    trained = open_run(job)
    refuse_scores(trained, "merge and compare")
    wanted = _wanted(job, trained)
    check_target(wanted.target)
    parameters = _parameters(trained)
    check_space(wanted.target, _needed_bytes(trained, wanted, parameters))
    if wanted.merged:
        merge.check_memory(parameters, wanted.dtype)
    tokenizer = load_tokenizer(trained, job.warn)
    with building(wanted.target) as folder:
        if trained.is_adapter:
            _copy_adapter(job, trained, tokenizer, folder / "adapter")
        checked = write_merged(job, trained, tokenizer, wanted.dtype, folder / "merged") if wanted.merged else None
        also = {
            method: write_quantized(job, trained, tokenizer, method, wanted.dtype, folder / "merged", folder / method)
            for method in wanted.quantized
        }
        ggufs = _write_ggufs(job, trained, tokenizer, wanted, folder)
        result = _finish(job, trained, wanted, folder, checked, also, time.monotonic() - began)
        result |= {"gguf": str(wanted.target / "gguf") if ggufs else None, "ggufs": ggufs}
    return {"outcome": "completed", **result}


def _wanted(job: Job, trained: Trained) -> Wanted:
    settings = trained.settings.export
    output = job.params.get("output")
    target = Path(str(output)).expanduser().absolute() if output else trained.run_dir / "export"
    asked = job.params.get("merged")
    merged = settings.merged if asked is None else bool(asked)
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
    return Wanted(
        target,
        merged,
        merge.export_dtype(trained, job.params.get("dtype")),
        tuple(dict.fromkeys(quantized)),
        tuple(dict.fromkeys(ggufs)),
    )


def _parameters(trained: Trained) -> int:
    known = trained.run_json.get("model", {}).get("parameters") or trained.summary().get("total_parameters")
    return int(known or 0)


def _needed_bytes(trained: Trained, wanted: Wanted, parameters: int) -> int:
    model = parameters * merge.ITEM_BYTES[wanted.dtype] if wanted.merged else 0
    # Embeddings, head and norms stay as they are: never more than the merged model.
    model += (len(wanted.quantized) + 2 * len(wanted.gguf)) * model
    adapter = size_bytes(trained.weights) if trained.is_adapter else 0
    return int((model + adapter) * SPACE_FACTOR) + SPARE_BYTES


def _write_ggufs(job: Job, trained: Trained, tokenizer: Any, wanted: Wanted, folder: Path) -> dict[str, dict[str, Any]]:
    """GGUF files of the merged model, named after the run's profile or its base."""
    if not wanted.gguf:
        return {}
    base, _ = base_name(trained.settings.model.name_or_path, trained.base_dir)
    name = file_name(trained.settings.name or f"{base.rpartition('/')[2]}-tuned")
    return write_ggufs(job, trained, tokenizer, wanted.gguf, folder / "merged", folder / "gguf", name)


def _copy_adapter(job: Job, trained: Trained, tokenizer: Any, folder: Path) -> None:
    """The adapter with its tokenizer, named after a base that others can find."""
    job.phase("export", "adapter")
    folder.mkdir()
    for name in _ADAPTER_FILES:
        shutil.copyfile(trained.weights / name, folder / name)
    config_path = folder / "adapter_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    name, on_hub = base_name(trained.settings.model.name_or_path, trained.base_dir)
    config["base_model_name_or_path"] = name
    config["revision"] = trained.settings.model.revision if on_hub else None
    write_json_atomic(config_path, config, mode=0o644)
    tokenizer.save_pretrained(folder)
    scrub_json(folder)


def _finish(
    job: Job,
    trained: Trained,
    wanted: Wanted,
    folder: Path,
    checked: dict[str, Any] | None,
    also: dict[str, dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Cards, the mark of an export, and what the caller is told."""
    job.phase("export", "model card")
    base, on_hub = base_name(trained.settings.model.name_or_path, trained.base_dir)
    report = trained.read("eval/report.json") or None
    kinds = [kind for kind in ("adapter", "merged", *also) if (folder / kind).is_dir()]
    for kind in kinds:
        dtype = {"merged": wanted.dtype, "adapter": "the adapter's own dtype"}.get(kind, f"{kind} by bitsandbytes")
        size = sum(path.stat().st_size for path in (folder / kind).glob("*.safetensors"))
        facts = Facts(kind, trained, base, on_hub, dtype, size, also.get(kind, checked), report)
        write_text_atomic(folder / kind / "README.md", card_text(facts), mode=0o644)
    sizes = {f"{kind}_bytes": size_bytes(folder / kind) for kind in kinds}
    mark = {"v": EXPORT_VERSION, "base": base, "dtype": wanted.dtype, **sizes, "parity": checked, "quantized": also}
    write_json_atomic(folder / MARK, mark, mode=0o644)
    paths: dict[str, Any] = {kind: str(wanted.target / kind) for kind in kinds}
    return {
        "run": trained.run_dir.name,
        "output": str(wanted.target),
        "adapter": paths.get("adapter"),
        "merged": paths.get("merged"),
        **{method: paths[method] for method in also},
        "card": str(wanted.target / _main(kinds) / "README.md"),
        **sizes,
        "dtype": wanted.dtype,
        "parity": checked,
        "quantized": also,
        "seconds": round(seconds, 3),
    }


def _main(kinds: Sequence[str]) -> str:
    return "merged" if "merged" in kinds else kinds[0]
