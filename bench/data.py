"""Tokens per second of data preparation, and its memory as the rows become many, in one run.

    python bench/data.py MODEL_DIR ROWS.json [--rows 10000 100000 1000000] [--output FILE.json]

ROWS holds alpaca rows, repeated with a number each up to the counts asked for. Each count is prepared in a process of
its own with an empty cache and then once more with the kept preparation. Beside it stands what the tokenizers library
alone takes for the same rendered texts with character offsets, in one batch of 512 after the other: the machine's
measure. Peak memory is the process's, with its imports; what stands between two counts is what rows cost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

MAX_LENGTH = 512


def write_rows(source: Path, target: Path, count: int) -> None:
    """`count` alpaca rows as JSON lines, none like another."""
    rows = json.loads(source.read_text(encoding="utf-8"))
    with target.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            file.write(json.dumps({**row, "instruction": f"{number}: {row['instruction']}"}) + "\n")


def measure(model_dir: str, data: str) -> dict[str, Any]:
    """One preparation in this process: seconds, tokens, peak memory in MiB."""
    from transformers import AutoTokenizer

    from engine.data.prepare import prepare
    from engine.profile.schema import Profile

    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    tree = {"model": {"name_or_path": model_dir, "max_length": MAX_LENGTH}, "data": {"datasets": [{"path": data}]}}
    began = time.perf_counter()
    report = prepare(Profile.model_validate(tree), tokenizer, Path(data).parent, lambda done, total: None).report
    seconds = time.perf_counter() - began
    tokens = report.train.tokens + (report.validation.tokens if report.validation else 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "kept": report.from_cache,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds),
        "peak_mib": round(peak),
        "packing_efficiency": report.train.packing_efficiency,
    }


def tokenizer_alone(model_dir: str, data: str, count: int = 20_000) -> dict[str, Any]:
    """What the library takes for texts of about the same rows, offsets included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    texts = []
    with open(data, encoding="utf-8") as file:
        for _, line in zip(range(count), file, strict=False):
            row = json.loads(line)
            asked = f"{row['instruction']}\n{row.get('input', '')}"
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
            texts.append(tokenizer.apply_chat_template(turns, tokenize=False))
    began, tokens = time.perf_counter(), 0
    for start in range(0, len(texts), 512):
        found = tokenizer.backend_tokenizer.encode_batch(texts[start : start + 512], add_special_tokens=False)
        tokens += sum(len(encoding.offsets) for encoding in found)
    return {"tokens": tokens, "tokens_per_s": round(tokens / (time.perf_counter() - began))}


def child(arguments: list[str], cache: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(model_dir: str, source: Path, counts: list[int]) -> dict[str, Any]:
    """Every count, cold and kept, and the tokenizer alone before and after."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            data, cache = Path(name) / f"{count}.jsonl", str(Path(name) / f"cache-{count}")
            write_rows(source, data, count)
            alone = child(["alone", model_dir, str(data)], cache)
            cold, kept = (child(["prepare", model_dir, str(data)], cache) for _ in range(2))
            found.append({"rows": count, "tokenizer_alone": alone, "cold": cold, "again": kept})
            print(json.dumps(found[-1]), file=sys.stderr)
    versions = {name: version(name) for name in ("tokenizers", "transformers", "jinja2", "numpy")}
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {"max_length": MAX_LENGTH, "results": found, "versions": versions, "machine": machine}


def main() -> None:
    """Parse the command line, measure, print or write JSON."""
    if sys.argv[1:2] == ["--child"]:
        kind, model_dir, data = sys.argv[2:]
        print(json.dumps((measure if kind == "prepare" else tokenizer_alone)(model_dir, data)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir")
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(compare(arguments.model_dir, arguments.rows_file, arguments.rows), indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
