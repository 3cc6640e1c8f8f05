"""What a run leaves behind for evaluation and export: data used, adapter or model, tokenizer, summary."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from engine.files import swap_directory, sync_tree, write_json_atomic
from engine.modeling.adapters import save_adapter
from engine.modeling.wrappers import copy_processor, is_wrapper
from engine.profile.schema import Profile

INITIAL_ADAPTER = "adapter-initial"
"""Of PiSSA: what the trained adapter is counted from."""


def write_data_record(run_dir: Path, report: dict[str, Any], conversations: BinaryIO) -> None:
    """`data/report.json` and the held-out conversations as they were used, `data/validation.jsonl`."""
    folder = run_dir / "data"
    folder.mkdir(exist_ok=True, mode=0o700)
    write_json_atomic(folder / "report.json", report)
    beside = folder / ".validation.jsonl.tmp"
    with beside.open("wb") as file:
        shutil.copyfileobj(conversations, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / "validation.jsonl")


def replace_directory(target: Path, fill: Callable[[Path], Any]) -> None:
    """Fill a directory beside `target`, fsync, and swap it in: readers see the old or the new one."""
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    try:
        fill(beside)
        sync_tree(beside)
        swap_directory(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def save_weights(run_dir: Path, model: Any, tokenizer: Any, settings: Profile) -> str:
    """`adapter/` or `model/`, and `tokenizer/`; returns the name of the first."""
    name = "adapter" if settings.tuning.method == "lora" else "model"

    def fill(folder: Path) -> None:
        if name == "adapter":
            save_adapter(model, folder, settings, run_dir / INITIAL_ADAPTER)
            _name_base(folder, settings)
        else:
            model.save_pretrained(folder, safe_serialization=True)
            if is_wrapper(model.config) and model.name_or_path:
                copy_processor(Path(model.name_or_path), folder)

    replace_directory(run_dir / name, fill)
    replace_directory(run_dir / "tokenizer", tokenizer.save_pretrained)
    return name


def _name_base(folder: Path, settings: Profile) -> None:
    """PEFT writes the directory that was loaded, a path of this machine; the profile's name travels better."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = settings.model.name_or_path
    config["revision"] = settings.model.revision
    write_json_atomic(path, config, mode=0o644)
    (folder / "README.md").unlink(missing_ok=True)
