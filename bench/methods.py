"""Every method x storage x objective on the built-in model: does it learn, and does what it saved give the same logits?

    python -m bench.methods [--only lora/nf4/dpo …] [--output FILE.json]

A cell is a whole run of the training job, in this process: profile, resolution, data, training, saving. Its loss is
that of the held-out rows before the first step and after the last one. Then the saved weights are loaded as `engine
evaluate` loads them, and their logits are compared with those of the model that was saved. Cells that make no sense
are given to `engine profile check`, which has to refuse them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHODS = {
    "full": {"tuning": {"method": "full"}},
    "freeze": {"tuning": {"method": "freeze", "trainable_layers": 2}},
    "lora": {"tuning": {"method": "lora"}},
    "rslora": {"tuning": {"method": "lora"}, "lora": {"use_rslora": True, "alpha": 8.0}},
    "dora": {"tuning": {"method": "lora"}, "lora": {"use_dora": True}},
    "pissa": {"tuning": {"method": "lora"}, "lora": {"init": "pissa", "alpha": 8.0}},
    "lora+": {"tuning": {"method": "lora"}, "lora": {"plus_ratio": 16.0}},
}
STORAGES = ("none", "int8", "nf4", "fp4")
OBJECTIVES = ("sft", "pretrain", "dpo", "kto", "orpo", "reward")
STEPS = 12
RATES = {"full": 5e-4, "freeze": 2e-3, "pissa": 1e-3, "lora+": 1e-3}
ADAPTER_RATE = 5e-3


@dataclass(frozen=True)
class Cell:
    """One combination."""

    method: str
    storage: str
    objective: str

    @property
    def name(self) -> str:
        """`lora/nf4/dpo`."""
        return f"{self.method}/{self.storage}/{self.objective}"


def cells() -> list[Cell]:
    """All of them."""
    return [Cell(method, storage, objective) for method in METHODS for storage in STORAGES for objective in OBJECTIVES]


def write_rows(folder: Path, count: int = 160) -> None:
    """A file of rows for each kind of objective, made of the built-in examples."""
    from engine.demo.paths import data_file

    lines = data_file("dates.train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    rows = [json.loads(line) for line in lines]
    # The same answer in a form that was not asked for.
    others = ["/".join(reversed(row["completion"].split("-"))) for row in rows]
    made: dict[str, list[dict[str, Any]]] = {
        "learned": rows,
        "text": [{"text": f"{row['prompt']} {row['completion']}"} for row in rows],
        "pairs": [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other}
            for row, other in zip(rows, others, strict=True)
            if row["completion"] != other
        ],
        "judged": [
            {"prompt": row["prompt"], "completion": other if number % 2 else row["completion"], "label": not number % 2}
            for number, (row, other) in enumerate(zip(rows, others, strict=True))
        ],
    }
    for name, some in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")


def settings_of(cell: Cell) -> dict[str, Any]:
    """A profile as TOML tables."""
    rows = {"sft": "learned", "pretrain": "text", "kto": "judged"}.get(cell.objective, "pairs")
    method = METHODS[cell.method]
    tree: dict[str, Any] = {
        "schema_version": 1,
        "model": {"name_or_path": "demo", "max_length": 128, "dtype": "fp32"},
        "quantization": {"method": cell.storage},
        "tuning": method["tuning"],
        "data": {"datasets": [{"path": f"{rows}.jsonl"}], "validation_fraction": 0.2},
        "train": {
            "objective": cell.objective,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "learning_rate": RATES.get(cell.method, ADAPTER_RATE),
            "lr_scheduler_type": "constant",
            "max_steps": STEPS,
            "eval_steps": STEPS,
            "save_steps": STEPS,
            "load_best_model_at_end": False,
        },
        "launch": {"device": "cpu", "threads": 1},
    }
    if method["tuning"]["method"] == "lora":
        tree["lora"] = {"r": 8, **method.get("lora", {})}
    return tree


def problems_of(cell: Cell, folder: Path) -> list[str]:
    """What `engine profile check` has against a cell."""
    from engine.hardware.probe import probe_machine
    from engine.resolve.check import check_profile

    return [f"{item.key}: {item.message}" for item in check_profile(_profile(cell, folder), probe_machine())]


def _profile(cell: Cell, folder: Path) -> Any:
    import tomli_w

    from engine.profile.load import load_profile

    path = folder / f"{cell.name.replace('/', '-')}.toml"
    path.write_text(tomli_w.dumps(settings_of(cell)), encoding="utf-8")
    return load_profile(path)


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train one cell in `folder`, which holds the rows. Loss before and after, and the largest difference of logits."""
    from bench import short_runs

    began = time.monotonic()
    trained = short_runs.train(_profile(cell, folder), folder / cell.name.replace("/", "-"))
    found = {
        "loss_before": trained.losses[0],
        "loss_after": trained.losses[-1],
        "logit_difference": short_runs.difference(short_runs.reloaded_logits(trained.run_dir), trained.logits),
        "logit_scale": float(trained.logits.abs().max()),
    }
    return {name: round(value, 6) for name, value in found.items()} | {"seconds": round(time.monotonic() - began, 1)}


def table(results: dict[str, Any]) -> list[str]:
    """Held-out loss before -> after, a row for each method and storage, in Markdown."""
    lines = ["| method | base | " + " | ".join(OBJECTIVES) + " |", "|---|---|" + "---|" * len(OBJECTIVES)]
    for method in METHODS:
        for storage in STORAGES:
            found = [results[Cell(method, storage, objective).name] for objective in OBJECTIVES]
            if all("refused" in one for one in found):
                continue
            told = ["–" if "refused" in one else f"{one['loss_before']:.2f} → {one['loss_after']:.2f}" for one in found]
            lines.append(f"| {method} | {storage} | " + " | ".join(told) + " |")
    return lines


def main() -> None:
    """Parse the command line, run the cells, print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder)
        for cell in cells():
            if arguments.only and cell.name not in arguments.only:
                continue
            refused = problems_of(cell, folder)
            results[cell.name] = {"refused": refused} if refused else run_cell(cell, folder)
            print(cell.name, json.dumps(results[cell.name]), file=sys.stderr, flush=True)
    text = json.dumps({"steps": STEPS, "cells": results}, indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
