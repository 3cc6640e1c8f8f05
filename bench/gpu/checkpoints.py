"""`python -m bench.gpu.checkpoints FOLDER MODEL…`: checkpoints of random weights in a catalog entry's shape.

They are made on the card where there is one. The tokenizer is the given one, or byte-level BPE learned from the rows.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from bench.gpu.job import TINY, told

SHARD = "4GB"
_VOCABULARY = 16_000
_MARKS = ("<|start|>", "<|end|>")
_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def configuration(model: str) -> Any:
    """transformers' configuration of a catalog entry, or of `tiny`."""
    from engine.models.catalog import catalog_index
    from engine.oracle.build import config_of_spec, transformers_config

    if model != TINY:
        return transformers_config(config_of_spec(catalog_index()[model]))
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 128_256}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return transformers_config({"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, **sizes, **heads})


def write_tokenizer(folder: Path, texts: list[str], given: Path) -> None:
    """The files of `given` if it is there, else byte-level BPE learned from `texts` with a plain chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    if given.is_dir():
        shutil.copytree(given, folder, dirs_exist_ok=True)
        return
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(texts, vocab_size=_VOCABULARY, special_tokens=list(_MARKS), show_progress=False)
    start, end = _MARKS
    names = {"bos_token": start, "eos_token": end, "pad_token": end}
    made = PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, **names)
    made.chat_template = _TEMPLATE
    made.save_pretrained(folder)


def write_checkpoint(folder: Path, model: str, tokenizer: Path) -> None:
    """Random bf16 weights with a tokenizer, written whole or not at all."""
    from transformers import AutoModelForCausalLM

    beside = folder.with_suffix(".part")
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = AutoModelForCausalLM.from_config(configuration(model), dtype=torch.bfloat16)
    made.save_pretrained(beside, max_shard_size=SHARD)
    shutil.copytree(tokenizer, beside, dirs_exist_ok=True)
    beside.rename(folder)


def main(folder: Path, models: list[str]) -> None:
    """Make those that are not there yet."""
    for model in models:
        if not (folder / "models" / model).is_dir():
            (folder / "models").mkdir(parents=True, exist_ok=True)
            write_checkpoint(folder / "models" / model, model, folder / "tokenizer")
    told({"models": models})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
