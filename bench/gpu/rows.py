"""`python -m bench.gpu.rows FOLDER KIT`: alpaca rows of three kinds, and the tokenizer that counts their tokens.

`short` rows are the kit's `rows.json`, or where it has none made of the repository's own prose with lengths like
Alpaca's. `full` rows are longer than any sequence here, `mixed` ones have 64 to 8,192 tokens, as many short as long
in proportion (log-uniform). The same seed gives the same rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

from bench.gpu.checkpoints import write_tokenizer
from bench.gpu.job import told

ROOT = Path(__file__).resolve().parents[2]
FULL_ROWS, FULL_CHARACTERS = 240, 24_000
MIXED_ROWS, MIXED_TOKENS = 400, (64, 8_000)
SHORT_ROWS = 1_000
SHORT_WORDS, SHORT_SPREAD = 85, 0.9
"""Median and log-scale spread of a made answer's words; Alpaca's answers are about as long."""

Row = dict[str, str]


def prose() -> list[str]:
    """Paragraphs of the documents of this repository and of its texts for evaluation."""
    lines = (ROOT / "engine/evaluate/retention.jsonl").read_text(encoding="utf-8").splitlines()
    found = [str(json.loads(line)["text"]) for line in lines]
    for page in sorted((ROOT / "docs").glob("*.md")):
        parts = page.read_text(encoding="utf-8").split("\n\n")
        found += [" ".join(part.split()) for part in parts if part[:1].isalpha()]
    return found


def made_rows() -> list[Row]:
    """Short rows out of `prose`."""
    words = " ".join(prose()).split()
    chance = random.Random(0)
    rows = []
    for number in range(SHORT_ROWS):
        length = round(min(600, max(5, chance.lognormvariate(math.log(SHORT_WORDS), SHORT_SPREAD))))
        start = chance.randrange(len(words) - length)
        asked = f"Write text {number}: {' '.join(words[start : start + chance.randrange(4, 14)])}"
        rows.append({"instruction": asked, "input": "", "output": " ".join(words[start : start + length])})
    return rows


def joined(texts: list[str], characters: int, start: int) -> str:
    """Texts in turn from number `start` until there are `characters`."""
    parts: list[str] = []
    size = 0
    while size < characters:
        parts.append(texts[(start + len(parts)) % len(texts)])
        size += len(parts[-1]) + 1
    return " ".join(parts)[:characters]


def long_rows(texts: list[str]) -> list[Row]:
    """Rows that fill 2,048 tokens and more."""
    return [
        {"instruction": f"Write part {number}.", "input": "", "output": joined(texts, FULL_CHARACTERS, 7 * number)}
        for number in range(FULL_ROWS)
    ]


def mixed_rows(texts: list[str], tokenizer: Any) -> list[Row]:
    """Rows of log-uniform length in tokens."""
    chance = random.Random(1)
    low, high = map(math.log, MIXED_TOKENS)
    rows = []
    for number in range(MIXED_ROWS):
        tokens = round(math.exp(chance.uniform(low, high)))
        ids = tokenizer.encode(joined(texts, 8 * tokens, 11 * number), add_special_tokens=False)[:tokens]
        rows.append({"instruction": f"Write part {number}.", "input": "", "output": tokenizer.decode(ids)})
    return rows


def main(folder: Path, kit: Path) -> None:
    """Write rows and tokenizer, and tell where the rows come from."""
    from transformers import AutoTokenizer

    given = kit / "rows.json"
    short = json.loads(given.read_text(encoding="utf-8")) if given.exists() else made_rows()
    texts = [row["output"] for row in short if len(row["output"]) > 200]
    write_tokenizer(folder / "tokenizer", [row["instruction"] + row["output"] for row in short], kit / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    kinds = {"short": short, "full": long_rows(texts), "mixed": mixed_rows(texts, tokenizer)}
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for name, rows in kinds.items():
        (folder / "rows" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    source = f"sha256 {hashlib.sha256(given.read_bytes()).hexdigest()[:16]}" if given.exists() else "made"
    told({"rows": source, "counts": {name: len(rows) for name, rows in kinds.items()}})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
