"""Axolotl's training files: which of its keys is which of ours.

Key names are those of its configuration schema; defaults are what it does when a key is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.memory.recompute import OFFLOAD
from engine.profile.data_files import HUB, SUFFIXES
from engine.profile.foreign import shared
from engine.profile.foreign.dataset_info import found_path
from engine.profile.foreign.draft import (
    Draft,
    Rules,
    elsewhere,
    integer,
    missing,
    names,
    needless,
    number,
    one_of,
    shown,
    switch,
    to,
)
from engine.profile.foreign.yamltext import Entry

TOOL = "Axolotl"
_OBJECTIVES = ("dpo", "kto", "orpo")
_ATTENTION = {
    "flash_attention_2": "packed",
    "flash_attention_3": "packed",
    "flex_attention": "packed",
    "xformers": "packed",
    "sdpa": "sdpa",
    "eager": "eager",
}
_FORMATS = {"alpaca": "alpaca", "chat_template": "messages", "completion": "text", "pretrain": "text"}
_SEVERAL = "one GPU is used"
_OWN_KERNELS = "kernels are chosen for the machine (train.kernels); what is learned is the same"
_TRACKING = "runs are kept and compared here; nothing is sent anywhere"
_TRACKING_KEYS = (
    "wandb_project",
    "use_wandb",
    "wandb_entity",
    "wandb_watch",
    "wandb_log_model",
    "wandb_run_id",
    "use_tensorboard",
    "mlflow_tracking_uri",
    "trackio_project_name",
)


def finish(draft: Draft) -> None:
    """What several keys decide together, and what the tool does when its file is silent."""
    _objective(draft)
    _method(draft)
    shared.precision(draft, ("fp16", "float16", "bf16", "bfloat16"))
    shared.schedules(draft, "eval_strategy", "evaluation_strategy")
    for key, value in _defaults(draft).items():
        draft.put_default(key, value)


def _objective(draft: Draft) -> None:
    if draft.value("rl") and draft.value("rl") not in _OBJECTIVES:
        message = f"rl: {shown(draft.value('rl'))} cannot be trained here"
        hint = f"known are {', '.join(_OBJECTIVES)}, or none of them for supervised training"
        raise EngineError(message, code=ExitCode.PROFILE, where=draft.entries["rl"].where, hint=hint)
    if draft.value("reward_model") is True:
        draft.put("train.objective", "reward", "reward_model")
        return
    if draft.value("rl"):
        draft.put("train.objective", str(draft.value("rl")), "rl")
        return
    plain = draft.value("pretraining_dataset") or (_types(draft) <= {"completion", "pretrain"} and _types(draft))
    draft.put("train.objective", "pretrain" if plain else "sft", "datasets")


def _types(draft: Draft) -> set[str]:
    listed = draft.value("datasets", [])
    entries = listed if isinstance(listed, list) else []
    return {str(entry.get("type")).partition(".")[0] for entry in entries if isinstance(entry, dict)}


def _method(draft: Draft) -> None:
    adapter = str(draft.value("adapter", ""))
    if adapter not in ("", "lora", "qlora"):
        where = draft.entries["adapter"].where
        hint = "known are lora, qlora, or empty for every weight"
        raise EngineError(f"adapter: {shown(adapter)} is not here", code=ExitCode.PROFILE, where=where, hint=hint)
    draft.put("tuning.method", "lora" if adapter else "full", "adapter" if adapter else f"{TOOL}'s default")
    bits = next((key for key in ("load_in_4bit", "load_in_8bit") if draft.value(key) is True), None)
    if bits is None and adapter == "qlora":
        bits = "adapter"
    method = "none" if bits is None else "int8" if bits == "load_in_8bit" else "nf4"
    draft.put("quantization.method", method, bits or f"{TOOL}'s default")
    if not adapter:
        for key in [key for key in draft.settings if key.startswith("lora.")]:
            draft.note("not needed", draft.origins[key], "no adapters without 'adapter'")
            del draft.settings[key]


def _defaults(draft: Draft) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "model.max_length": 512,
        "data.packing": False,
        "data.validation_fraction": 0.0,
        "train.per_device_train_batch_size": 1,
        "train.gradient_accumulation_steps": 1,
        "train.lr_scheduler_type": "cosine",
        "train.num_train_epochs": 1.0,
        "train.weight_decay": 0.0,
        "train.activation_checkpointing": False,
    }
    if draft.settings["tuning.method"] == "lora":
        defaults |= {"lora.dropout": 0.0, "lora.alpha": draft.settings.get("lora.r", 16)}
    return defaults


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """`datasets` and `test_datasets` as entries of a profile; relative paths start from `folders`."""
    listed = draft.value("pretraining_dataset") or draft.value("datasets", [])
    listed = listed if isinstance(listed, list) else [listed]
    places = [dataset_dir, *folders] if dataset_dir else list(folders)
    entries = [_dataset(draft, entry, places) for entry in listed]
    if entries:
        draft.put("data.datasets", entries, "datasets")
    held_out = draft.value("test_datasets", [])
    if isinstance(held_out, list) and held_out and isinstance(held_out[0], dict):
        path = _path(held_out[0], places)
        draft.put("data.validation_path", path, "test_datasets")
        if path.startswith(HUB) or Path(path).is_dir():
            part = shared.split(draft, "test_datasets", held_out[0]).get("split", "train")
            draft.put("data.validation_split", part, "test_datasets")
        draft.settings.pop("data.validation_fraction", None)


def _dataset(draft: Draft, entry: Any, places: Sequence[Path]) -> dict[str, Any]:
    told = entry if isinstance(entry, dict) else {"path": str(entry)}
    found: dict[str, Any] = {"path": _path(told, places)}
    kind = told.get("type")
    word = str(kind).partition(".")[0].partition(":")[0] if isinstance(kind, str) else ""
    compares = bool(draft.value("rl"))  # then the objective says which rows it needs
    if word in _FORMATS and not compares:
        found["format"] = _FORMATS[word]
    elif kind is not None and not compares:
        draft.note("changed", "datasets", f"type {shown(kind)}: recognised from the columns instead")
    found |= shared.split(draft, "datasets", told)
    columns = {"messages": told.get("field_messages"), "text": told.get("field")}
    named = {role: str(column) for role, column in columns.items() if column and str(column) != role}
    return {**found, **({"columns": named} if named else {})}


def _path(told: dict[str, Any], places: Sequence[Path]) -> str:
    files = told.get("data_files")
    text = str((files[0] if isinstance(files, list) and files else files) or told.get("path"))
    here = found_path(text, places)
    return here if Path(here).exists() or Path(text).suffix in SUFFIXES else shared.hub_path(text)


def _linear(draft: Draft, entry: Entry) -> None:
    if switch(entry.value):
        draft.put("lora.target_modules", "all-linear", entry.key)


def _checkpointing(draft: Draft, entry: Entry) -> None:
    word = entry.value
    moved = word in ("offload", "offload_disk") or (switch(word) and draft.value("activation_offloading") is True)
    draft.put("train.activation_checkpointing", OFFLOAD if moved else switch(word), entry.key)
    if word == "offload_disk":
        draft.note("changed", entry.key, "inputs wait in main memory, not on disk")


def _offloading(draft: Draft, entry: Entry) -> None:
    if switch(entry.value):
        draft.put("train.activation_checkpointing", OFFLOAD, entry.key)


def _times_an_epoch(draft: Draft, entry: Entry) -> None:
    draft.note("changed", entry.key, f"{shown(entry.value)}: spread over the run (train.eval_steps, train.save_steps)")


def _targets(draft: Draft, entry: Entry) -> None:
    if isinstance(entry.value, str) and not entry.value.replace("_", "").isalnum():
        raise ValueError(f"{shown(entry.value)}: name the modules one by one")
    draft.put("lora.target_modules", names(entry.value), entry.key)


def _special_tokens(draft: Draft, entry: Entry) -> None:
    added = entry.value.get("additional_special_tokens") if isinstance(entry.value, dict) else None
    if added:
        draft.put("model.additional_special_tokens", names(added), entry.key)
    rest = (
        [name for name in entry.value if name != "additional_special_tokens"] if isinstance(entry.value, dict) else []
    )
    if rest:
        draft.note("changed", entry.key, f"{', '.join(map(shown, rest))}: the tokenizer's own are used")


RULES: Rules = {
    **shared.COMMON,
    "base_model": to("model.name_or_path", str),
    "revision_of_model": to("model.revision", str),
    "model_type": needless("read from the model"),
    "tokenizer_type": needless("read from the model"),
    "tokenizer_use_fast": shared.only(True, "only fast tokenizers are used"),
    "sequence_len": to("model.max_length", integer),
    "attn_implementation": to("model.attention", partial(one_of, known=_ATTENTION)),
    "flash_attention": needless("documents are kept apart by the fastest kernel there is"),
    "special_tokens": _special_tokens,
    "tokens": to("model.additional_special_tokens", names),
    "load_in_4bit": elsewhere,
    "load_in_8bit": elsewhere,
    "adapter": elsewhere,
    "lora_model_dir": missing("training goes on from a run: engine runs resume"),
    "lora_r": to("lora.r", integer),
    "lora_target_linear": _linear,
    "lora_target_modules": _targets,
    "lora_modules_to_save": to("lora.modules_to_save", names),
    "peft_use_rslora": to("lora.use_rslora", switch),
    "peft_use_dora": to("lora.use_dora", switch),
    "loraplus_lr_ratio": to("lora.plus_ratio", number),
    "lora_fan_in_fan_out": shared.only(False, "read from the model"),
    "unfrozen_parameters": missing("adapters or every weight learn"),
    "datasets": elsewhere,
    "test_datasets": elsewhere,
    "pretraining_dataset": elsewhere,
    "dataset_prepared_path": needless("prepared data are kept and found again by what made them"),
    "dataset_exact_deduplication": to("data.deduplicate", switch),
    "shuffle_merged_datasets": shared.only(True, "examples are always shuffled by the seed"),
    "val_set_size": to("data.validation_fraction", number),
    "chat_template": shared.template,
    "train_on_inputs": shared.train_on_prompt,
    "eot_tokens": needless("the chat template says where an answer ends"),
    "sample_packing": to("data.packing", switch),
    "eval_sample_packing": needless("held-out rows are packed as the others"),
    "pad_to_sequence_len": needless("every batch has one shape"),
    "micro_batch_size": to("train.per_device_train_batch_size", integer),
    "eval_batch_size": needless("evaluation uses the micro-batch of training"),
    "num_epochs": to("train.num_train_epochs", number),
    "lr_scheduler": to("train.lr_scheduler_type", str),
    "optimizer": shared.optimizer,
    "adam_eps": to("train.adam_epsilon", number),
    "gradient_checkpointing": _checkpointing,
    "activation_offloading": _offloading,
    "evals_per_epoch": _times_an_epoch,
    "saves_per_epoch": _times_an_epoch,
    "eval_strategy": elsewhere,
    "evaluation_strategy": elsewhere,
    "early_stopping_patience": to("train.early_stopping_patience", integer),
    "rl": elsewhere,
    "reward_model": elsewhere,
    "rl_beta": to("train.beta", number),
    "loss_watchdog_threshold": needless("a loss that is no number stops the run by itself"),
    "loss_watchdog_patience": needless("a loss that is no number stops the run by itself"),
    "output_dir": needless("every run has a directory of its own"),
    "strict": needless("profiles are always strict"),
    "debug": needless("see the worker's log"),
    "wandb_name": shared.run_name,
    **{key: needless(_TRACKING) for key in _TRACKING_KEYS},
    **{
        key: needless(_OWN_KERNELS)
        for key in (
            "plugins",
            "liger_rope",
            "liger_rms_norm",
            "liger_glu_activation",
            "liger_layer_norm",
            "liger_fused_linear_cross_entropy",
            "lora_mlp_kernel",
            "lora_qkv_kernel",
            "lora_o_kernel",
            "cut_cross_entropy",
            "use_kernels",
        )
    },
    **{key: missing(_SEVERAL) for key in ("fsdp_version", "dp_shard_size", "context_parallel_size", "ddp")},
}
