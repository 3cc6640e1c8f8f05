"""Unknown keys and words: the name a person most likely meant.

Not here: whether a key is known.
"""

from __future__ import annotations

import difflib
from functools import cache

from engine.profile.fields import canonical, profile_fields

OTHER_TOOLS = {
    "lr": "train.learning_rate",
    "epochs": "train.num_train_epochs",
    "num_epochs": "train.num_train_epochs",
    "batch_size": "train.per_device_train_batch_size",
    "micro_batch_size": "train.per_device_train_batch_size",
    "train_batch_size": "train.total_batch_size",
    "global_batch_size": "train.total_batch_size",
    "grad_accum": "train.gradient_accumulation_steps",
    "gradient_checkpointing": "train.activation_checkpointing",
    "optimizer": "train.optim",
    "scheduler": "train.lr_scheduler_type",
    "lr_scheduler": "train.lr_scheduler_type",
    "steps": "train.max_steps",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target_modules",
    "load_in_4bit": "quantization.method",
    "load_in_8bit": "quantization.method",
    "bits": "quantization.method",
    "cutoff_len": "model.max_length",
    "max_seq_length": "model.max_length",
    "max_seq_len": "model.max_length",
    "sequence_len": "model.max_length",
    "base_model": "model.name_or_path",
    "model_name_or_path": "model.name_or_path",
    "torch_dtype": "model.dtype",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "val_size": "data.validation_fraction",
    "val_set_size": "data.validation_fraction",
    "dataset": "data.datasets.0.path",
    "chat_template": "data.template",
    "attn_implementation": "model.attention",
}
"""What other trainers call our settings."""

OTHER_WORDS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "4bit": "nf4",
    "int4": "nf4",
    "8bit": "int8",
    "qlora": "nf4",
    "adamw": "adamw_torch_fused",
    "gpu": "cuda",
    "sharegpt": "messages",
    "chat": "messages",
    "openai": "messages",
    "flash_attention_2": "packed",
    "false": "none",
}
"""What other trainers call our words."""


@cache
def tables() -> tuple[str, ...]:
    """Dotted names of all tables; an entry of a list of tables is `data.datasets.0`."""
    return tuple(dict.fromkeys(field.key.rpartition(".")[0] for field in profile_fields() if "." in field.key))


def nearest_key(key: str) -> str | None:
    """The known key that an unknown one resembles: other tools' names, this table's, then any table's."""
    known = [field.key for field in profile_fields()]
    table, _, name = canonical(key).rpartition(".")
    lowered = name.lower().replace("-", "_")[:100]
    if lowered in OTHER_TOOLS:
        return OTHER_TOOLS[lowered]
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == table]
    siblings += [] if table else list(tables())
    near = difflib.get_close_matches(lowered, siblings, n=1, cutoff=0.6)
    if near:
        return f"{key.rpartition('.')[0]}.{near[0]}" if table else near[0]
    by_name = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(lowered, list(by_name), n=1, cutoff=0.75)
    return by_name[near[0]] if near else None


def nearest_word(word: str, choices: tuple[str, ...]) -> str | None:
    """The allowed word that `word` stands for or resembles."""
    lowered = word.lower().strip()[:100]
    if OTHER_WORDS.get(lowered) in choices:
        return OTHER_WORDS[lowered]
    near = difflib.get_close_matches(lowered, choices, n=1, cutoff=0.6)
    return near[0] if near else None
