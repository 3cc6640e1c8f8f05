"""Every architecture that people tune, as a tiny random model: what this engine gets right, and what it refuses.

    python -m bench.families [--only qwen3 gemma3 …] [--output FILE.json]

Per architecture: the closed form's parameters against those of transformers' model; its memory against the simulated
step, at a width of 1,024; two steps of LoRA and two of full tuning through the training job itself; whether documents
share a row; whether the saved weights give the same logits; whether the merged export opens in plain transformers; a
GGUF file. A cell that is not "yes" holds the engine's own reason. docs/families.md shows the table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import family_models, short_runs

RESULTS = Path(__file__).with_name("results") / "families-cpu.json"
YES = "yes"
STEPS = 2
LOGIT_BOUND = 2e-4
MEMORY_BOUND = (-0.02, 0.05)
COLUMNS = {
    "parameters": "parameters",
    "memory": "memory",
    "packed": "packed",
    "lora": "LoRA",
    "full": "full",
    "reload": "reload",
    "merged": "merged",
    "gguf": "GGUF",
}


@dataclass
class Family:
    """What was found of one architecture: `yes`, or why not, by column."""

    name: str
    cells: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    """Of transformers' model."""
    memory_error: float | None = None
    """Closed form / simulated - 1, of a LoRA step's allocated peak."""
    losses: dict[str, tuple[float, ...]] = field(default_factory=dict)
    seconds: float = 0.0


def measure(name: str, folder: Path) -> Family:
    """All cells of one architecture, in `folder`."""
    began, found = time.monotonic(), Family(name)
    model = family_models.write_tiny(name, folder / "model")
    _fill(found, "parameters", lambda: _parameters(found, model))
    _fill(found, "memory", lambda: _memory(found))
    for method in ("lora", "full"):
        _fill(found, method, lambda method=method: _train(found, method, folder))  # type: ignore[misc]
    for kind in ("merged", "gguf") if found.losses.get("lora") else ():
        _fill(found, kind, lambda kind=kind: _export(kind, folder))  # type: ignore[misc]
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _fill(found: Family, column: str, ask: Callable[[], str]) -> None:
    """Ask for one cell; an engine's refusal is its reason, anything else a failure that names itself."""
    from engine.errors import EngineError

    try:
        found.cells[column] = ask()
    except EngineError as error:
        found.cells[column] = f"refused: {_without_sizes(error.message)}"
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        found.cells[column] = f"FAILS: {type(error).__name__}: {first[:120]}"


def _without_sizes(message: str) -> str:
    """A reason that holds for every size of an architecture: without this one's count and place."""
    message = re.sub(r" \([^()]*parameters\)| \(/[^()]*config\.json\)", "", message)
    return message.removeprefix("model.name_or_path: ")


def _parameters(found: Family, model: Path) -> str:
    from engine.models.resolve import resolve_model

    found.parameters = _count(family_models.tiny_config(found.name))
    sizes = resolve_model(str(model)).sizes
    counted = sizes.computed_parameters + sizes.tower_parameters
    return YES if counted == found.parameters else f"{counted / found.parameters - 1:+.1%}"


def _count(config: Any) -> int:
    """Parameters of the model as it is loaded, with its head and towers."""
    import torch

    from engine.modeling.wrappers import generating_class

    with torch.device("meta"):
        model = generating_class(config).from_config(config)
    return sum(each.numel() for each in model.parameters())


def _memory(found: Family) -> str:
    from engine.hardware.machine import Gpu
    from engine.memory.shape import TrainingShape
    from engine.memory.terms import estimate_memory
    from engine.models.config import spec_from_config
    from engine.oracle.simulate import simulate

    if found.cells["parameters"].startswith("refused"):
        return found.cells["parameters"]
    gpu = Gpu("NVIDIA A100-SXM4-80GB", compute_capability=(8, 0))
    config = family_models.medium_config(found.name)
    spec = spec_from_config(config.to_dict(), found.name, "config.json", source="directory", path=None)
    shape = TrainingShape(micro_batch=2, max_length=512)
    simulated = simulate(spec, shape, config=config.to_dict(), gpu=gpu)
    found.memory_error = estimate_memory(spec, shape, gpu=gpu).allocated_bytes / simulated.allocated_bytes - 1
    low, high = MEMORY_BOUND
    return YES if low <= found.memory_error <= high else f"{found.memory_error:+.1%}"


def _train(found: Family, method: str, folder: Path) -> str:
    import tomli_w

    from engine.profile.load import load_profile

    path = folder / f"{method}.toml"
    path.write_text(tomli_w.dumps(_settings(method)), encoding="utf-8")
    trained = short_runs.train(load_profile(path), folder / method)
    found.losses[method] = trained.losses
    if method == "lora":
        told = [message for code, message in trained.warnings if "pack" in code]
        found.cells["packed"] = told[0] if told else YES
    off = short_runs.difference(short_runs.reloaded_logits(trained.run_dir), trained.logits)
    same = YES if off <= LOGIT_BOUND * float(trained.logits.abs().max()) else f"logits are off by {off:.1e}"
    if found.cells.get("reload", YES) == YES:
        found.cells["reload"] = same
    return (
        YES if trained.losses[-1] < trained.losses[0] else f"loss {trained.losses[0]:.3f} -> {trained.losses[-1]:.3f}"
    )


def _settings(method: str) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "schema_version": 1,
        "model": {"name_or_path": "model", "max_length": 128, "dtype": "fp32"},
        "tuning": {"method": method},
        "data": {"datasets": [{"path": "rows.jsonl"}], "validation_fraction": 0.2},
        "train": {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3 if method == "full" else 1e-2,
            "lr_scheduler_type": "constant",
            "max_steps": STEPS,
            "eval_steps": STEPS,
            "save_steps": STEPS,
            "load_best_model_at_end": False,
        },
        "launch": {"device": "cpu", "threads": 1},
    }
    return tree | ({"lora": {"r": 8}} if method == "lora" else {})


def _export(kind: str, folder: Path) -> str:
    """The LoRA run merged, and opened by transformers alone; or as a GGUF file, which the engine itself compares."""
    from engine.export import run
    from engine.runs.events import EventWriter
    from engine.runs.job import Job

    job_dir = folder / f"export-{kind}"
    job_dir.mkdir()
    asked: dict[str, Any] = {"run_dir": str(folder / "lora"), "output": str(folder / kind), "merged": True}
    if kind == "gguf":
        asked["gguf"] = ["f16"]
    run.run(Job(job_dir, {**asked, "dtype": "fp32"}, EventWriter(job_dir / "events.jsonl")))
    if kind == "gguf":
        return YES
    off = short_runs.difference(_plain_logits(folder / kind / "merged"), short_runs.reloaded_logits(folder / "lora"))
    return YES if off <= 2e-3 else f"logits are off by {off:.1e}"


def _plain_logits(merged: Path) -> Any:
    import torch
    from transformers import AutoConfig

    from engine.modeling.wrappers import generating_class

    kind = generating_class(AutoConfig.from_pretrained(merged))
    return short_runs.logits_of(kind.from_pretrained(merged, dtype=torch.float32))


def table(families: dict[str, dict[str, Any]]) -> list[str]:
    """In Markdown: a row an architecture; reasons below, numbered."""
    reasons: list[str] = []
    lines = ["| architecture | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, found in families.items():
        cells = [_cell(found["cells"].get(column, "–"), reasons) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]


def _cell(text: str, reasons: list[str]) -> str:
    if len(text) <= 8:
        return text
    if text not in reasons:
        reasons.append(text)
    return f"no ({reasons.index(text) + 1})"


def page_text(page: str, results: Path = RESULTS) -> str:
    """docs/families.md with its table made anew. Raises ValueError where a mark is missing."""
    from bench.gpu.page import between_marks

    families = json.loads(results.read_text(encoding="utf-8"))["families"]
    return between_marks(page, "\n".join(table(families)), "<!-- table of bench/families.py -->")


def main() -> None:
    """Measure, print each family as it is done, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], choices=tuple(family_models.TYPES), metavar="TYPE")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    families = {}
    for name in arguments.only or family_models.TYPES:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder))
            families[name] = asdict(measure(name, Path(folder)))
        print(name, json.dumps(families[name]), file=sys.stderr, flush=True)
    text = json.dumps({"steps": STEPS, "families": families}, indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    else:
        print(text)


def write_rows(folder: Path) -> None:
    from engine.demo.paths import data_file

    lines = data_file("dates.train.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
