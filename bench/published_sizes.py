"""Model types at their published size: counted parameters, and what `engine fit` says on one card.

    python -m bench.published_sizes [--only qwen3 …] [--gpu "RTX 4090"] [--output FILE.json]

A type's model is the one of the shipped list whose files' count is known (`PUBLISHED`), else the one nearest to 8
billion parameters. Each is asked for in a process of its own, as a person asks. docs/families.md shows the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.models.catalog import load_catalog
from engine.models.spec import ModelSpec
from engine.text import format_count

RESULTS = Path(__file__).with_name("results") / "published-sizes.json"
MARK = "<!-- table of bench/published_sizes.py -->"
GPU = "RTX 4090"
NEAR = 8e9
"""Parameters of a model that stands for its type where no count was published."""
PUBLISHED = {
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B-Thinking-2507": 30_532_122_624,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-3-270m": 268_098_176,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "allenai/OLMo-1B-hf": 1_176_764_416,
    "allenai/OLMo-2-0425-1B-Instruct": 1_484_916_736,
    "allenai/Olmo-3-1025-7B": 7_298_011_136,
    "allenai/OLMoE-1B-7B-0125-Instruct": 6_919_161_856,
    "ibm-granite/granite-3.3-8b-instruct": 8_170_864_640,
    "ibm-granite/granite-4.0-350m": 352_379_904,
    "LGAI-EXAONE/EXAONE-4.0-32B": 32_003_216_384,
    "stabilityai/stablelm-3b-4e1t": 2_795_443_200,
    "bigcode/starcoder2-7b": 7_173_923_840,
    "microsoft/phi-2": 2_779_683_840,
    "zai-org/glm-4-9b-chat-hf": 9_399_951_360,
}
"""Parameters that the published files hold, as the hub counts them: of text models alone."""


@dataclass(frozen=True)
class Answer:
    """One model type: its model, and what `engine fit` said of it."""

    model: str
    counted: int
    published: int | None
    verdict: str
    """`OK` and the like, or the first line of a refusal."""
    method: str
    gib: float
    seconds: float
    """Of the whole command."""


def representatives() -> dict[str, ModelSpec]:
    """A model of each type in the shipped list."""
    types: dict[str, list[ModelSpec]] = {}
    for spec in load_catalog():
        if spec.source == "catalogue":
            types.setdefault(spec.family, []).append(spec)
    return {name: min(specs, key=_preference) for name, specs in sorted(types.items())}


def _preference(spec: ModelSpec) -> tuple[bool, float]:
    return spec.name not in PUBLISHED, abs(spec.sizes.total_parameters - NEAR)


def ask(spec: ModelSpec, gpu: str) -> Answer:
    """`engine fit MODEL --gpu GPU`, timed."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "engine", "fit", spec.name, "--gpu", gpu, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - began, 2)
    counted, published = spec.sizes.computed_parameters, PUBLISHED.get(spec.name)
    if not result.stdout.strip():
        said: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
        return Answer(spec.name, counted, published, said["message"], "", 0.0, seconds)
    found = json.loads(result.stdout)["models"][0]
    method = found["method"] if found["quantization"] == "none" else f"{found['method']} {found['quantization']}"
    return Answer(
        spec.name, counted, published, found["verdict"], method, round(found["device_bytes"] / 1024**3, 1), seconds
    )


def table(found: dict[str, Any]) -> list[str]:
    """In Markdown: a row a type."""
    columns = ("architecture", "model", "counted", "published", "with", "needs", "fits", "seconds")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|---|---|---|"]
    for name, row in found["types"].items():
        needs = f"{row['gib']} GiB" if row["gib"] else "–"
        cells = (name, row["model"], format_count(row["counted"]), _compared(row), row["method"] or "–", needs)
        lines.append(f"| {' | '.join(cells)} | {row['verdict']} | {row['seconds']} |")
    return lines


def _compared(row: dict[str, Any]) -> str:
    if row["published"] is None:
        return "–"
    return "the same" if row["published"] == row["counted"] else f"{row['counted'] / row['published'] - 1:+.2%}"


def page_text(page: str, results: Path = RESULTS) -> str:
    """docs/families.md with this table made anew. Raises ValueError where a mark is missing."""
    from bench.gpu.page import between_marks

    return between_marks(page, "\n".join(table(json.loads(results.read_text(encoding="utf-8")))), MARK)


def main(arguments: Iterable[str]) -> None:
    """Ask for each type's model, one after the other, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = representatives()
    parser.add_argument("--only", nargs="+", default=[], choices=tuple(known), metavar="TYPE")
    parser.add_argument("--gpu", default=GPU)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args(list(arguments))
    answers = {name: asdict(ask(known[name], asked.gpu)) for name in asked.only or known}
    text = json.dumps({"gpu": asked.gpu, "types": answers}, indent=1) + "\n"
    if asked.output:
        asked.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
