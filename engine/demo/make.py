"""`python -m engine.demo.make OUT_DIR`: everything the demo model is trained from, the same on every machine.

Writes OUT_DIR/base (configuration and tokenizer, no weights), OUT_DIR/corpus.jsonl (what `profiles/demo-base.toml`
trains it on) and OUT_DIR/dates.{train,test}.jsonl (what the demonstration tunes it on). The weights come from
`engine train profiles/demo-base.toml`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.demo import tokenizer as tok
from engine.demo.corpus import corpus_rows
from engine.demo.dates import iso_rows

CORPUS_SEED, CORPUS_ROWS = 20260301, 120_000
DATES_SEED, TRAIN_ROWS, TEST_ROWS = 8601, 2000, 200
TOKENIZER_ROWS = 20_000

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": tok.VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": tok.MAX_LENGTH_TOKENS,
    "initializer_range": 0.06,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "use_cache": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
}
GENERATION = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": False, "max_new_tokens": 64}


def _texts(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        for message in row["messages"]:
            yield f"{message['role']}\n{message['content']}"


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make(out: Path) -> None:
    """Write model configuration, tokenizer, corpus and tuning data under `out`."""
    base = out / "base"
    base.mkdir(parents=True, exist_ok=True)
    _write_rows(out / "corpus.jsonl", corpus_rows(CORPUS_SEED, CORPUS_ROWS))
    train, test = iso_rows(DATES_SEED, TRAIN_ROWS, TEST_ROWS)
    _write_rows(out / "dates.train.jsonl", train)
    _write_rows(out / "dates.test.jsonl", test)
    tok.write_tokenizer(tok.train_tokenizer(_texts(corpus_rows(CORPUS_SEED, TOKENIZER_ROWS))), base)
    _write_json(base / "config.json", CONFIG)
    _write_json(base / "generation_config.json", GENERATION)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m engine.demo.make OUT_DIR", file=sys.stderr)
        return 2
    make(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
