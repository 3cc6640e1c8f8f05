"""Axolotl's training files: which of its keys is which of ours.

Key names are those of its configuration schema; defaults are what it does when a key is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.memory.recompute import OFFLOAD
from engine.profile.foreign import common, shared
from engine.profile.foreign.axolotl_absent import ABSENT
from engine.profile.foreign.draft import (
    NOBODY,
    Draft,
    Rule,
    Rules,
    elsewhere,
    integer,
    listed,
    missing,
    names,
    needless,
    number,
    one_of,
    shown,
    switch,
    text,
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


def decide(draft: Draft) -> None:
    """What several keys decide together and data depend on."""
    _objective(draft)


def finish(draft: Draft) -> None:
    """What several keys decide together, and what the tool does when its file is silent."""
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
    if draft.flag("reward_model"):
        draft.put("train.objective", "reward", "reward_model")
        return
    draft.carry("reward_model")
    if draft.value("rl"):
        draft.put("train.objective", str(draft.value("rl")), "rl")
        return
    plain = draft.value("pretraining_dataset") or (_types(draft) <= {"completion", "pretrain"} and _types(draft))
    draft.put("train.objective", "pretrain" if plain else "sft", f"the types of {TOOL}'s data sets")


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
    bits = shared.bits(draft, ("load_in_4bit", "load_in_8bit"))
    if bits is None and adapter == "qlora":
        bits = "adapter"
    method = "none" if bits is None else "int8" if bits == "load_in_8bit" else _four_bits(draft)
    draft.put("quantization.method", method, bits or f"{TOOL}'s default")
    draft.carry("adapter")
    if not adapter:
        for key in [key for key in draft.settings if key.startswith("lora.")]:
            draft.note("not needed", draft.origins[key], "no adapters without 'adapter'")
            del draft.settings[key]


def _four_bits(draft: Draft) -> str:
    kwargs = draft.value("bnb_config_kwargs", {})
    word = kwargs.get("bnb_4bit_quant_type", "nf4") if isinstance(kwargs, dict) else "nf4"
    return "fp4" if word == "fp4" else "nf4"


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


def _linear(draft: Draft, entry: Entry) -> None:
    if not switch(entry.value):
        draft.note("not needed", entry.key, "off")
    elif draft.value("lora_target_modules"):
        draft.note("changed", entry.key, "true: all linear layers, beside those of lora_target_modules")
        draft.put("lora.target_modules", "all-linear", entry.key)
    else:
        draft.put("lora.target_modules", "all-linear", entry.key)


def _checkpointing(draft: Draft, entry: Entry) -> None:
    word = entry.value
    moved = word in ("offload", "offload_disk") or (switch(word) and draft.value("activation_offloading") is True)
    draft.put("train.activation_checkpointing", OFFLOAD if moved else switch(word), entry.key)
    draft.carry("activation_offloading")
    if word == "offload_disk":
        draft.note("changed", entry.key, "inputs wait in main memory, not on disk")


def _offloading(draft: Draft, entry: Entry) -> None:
    if entry.value in ("legacy", "disk", "hidden_states"):
        draft.note("changed", entry.key, f"{shown(entry.value)}: inputs of layers wait in main memory")
    elif not switch(entry.value):
        draft.note("not needed", entry.key, "off")
        return
    if not draft.value("gradient_checkpointing"):
        draft.put("train.activation_checkpointing", OFFLOAD, entry.key)


def _times_an_epoch(draft: Draft, entry: Entry) -> None:
    if entry.key == "evals_per_epoch" and number(entry.value) == 0:
        draft.note("changed", entry.key, "0: held-out rows are evaluated all the same (data.validation_fraction = 0)")
        return
    draft.note("changed", entry.key, f"{shown(entry.value)}: spread over the run (train.eval_steps, train.save_steps)")


def _targets(draft: Draft, entry: Entry) -> None:
    if isinstance(entry.value, str) and not entry.value.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"{shown(entry.value)}: name the modules one by one")
    if draft.value("lora_target_linear") is True:
        draft.note("changed", entry.key, f"{shown(entry.value)}: all linear layers (lora_target_linear), no others")
        return
    found = names(entry.value)
    draft.put("lora.target_modules", "all-linear" if found == ["all-linear"] else found, entry.key)


_SPECIAL = {
    "pad_token": "padding is never learned",
    "bos_token": "the tokenizer's own is used",
    "eos_token": "the tokenizer's own is used",
    "unk_token": "the tokenizer's own is used",
}


def _special_tokens(draft: Draft, entry: Entry) -> None:
    if not isinstance(entry.value, dict):
        raise ValueError(f"{shown(entry.value)}: no table of tokens")
    draft.opened.add(entry.key)
    for name, value in entry.value.items():
        place = f"{entry.key}.{name}"
        if (value is None and name in (*_SPECIAL, "additional_special_tokens")) or name == "pad_token":
            reason = _SPECIAL.get(name, "empty")
            draft.note("not needed", place, f"{shown(value)}: {reason}" if value is not None else "empty")
        elif name == "additional_special_tokens":
            shared.add_marks(draft, names(value), place)
        else:
            draft.note("left out", place, f"{listed(value, name)}: {_SPECIAL.get(name, NOBODY)}")


def _tokens(draft: Draft, entry: Entry) -> None:
    if isinstance(entry.value, dict):
        _special_tokens(draft, entry)
    else:
        shared.marks(draft, entry)


def _pad(draft: Draft, entry: Entry) -> None:
    draft.note("not needed", entry.key, f"{shown(entry.value)}: every batch has one shape")


def _inside(rules: Mapping[str, Rule], reason: str) -> Rule:
    """A table whose keys have rules of their own; the others are listed with the reason."""

    def rule(draft: Draft, entry: Entry) -> None:
        if not isinstance(entry.value, dict):
            raise ValueError(f"{listed(entry.value)}: {reason}")
        draft.opened.add(entry.key)
        for name, value in entry.value.items():
            place = f"{entry.key}.{name}"
            if name in rules:
                rules[name](draft, Entry(place, value, entry.where))
            else:
                draft.note("left out", place, f"{listed(value, name)}: {reason}")

    return rule


def _end_marks(draft: Draft, entry: Entry) -> None:
    draft.note("changed", entry.key, f"{listed(entry.value)}: the chat template says where an answer ends")


def _overlong(draft: Draft, entry: Entry) -> None:
    draft.put("data.overlong", one_of(entry.value, {"drop": "drop", "truncate": "cut"}), entry.key)


def _bit_type(draft: Draft, entry: Entry) -> None:
    if entry.value in ("nf4", "fp4"):
        draft.carry(entry.key)
    else:
        draft.note("left out", entry.key, f"{listed(entry.value)}: known are nf4 and fp4")


_BNB: Rules = {
    "bnb_4bit_use_double_quant": to("quantization.double_quant", switch),
    "bnb_4bit_quant_type": _bit_type,
}
RULES: Rules = {
    **common.COMMON,
    "base_model": shared.model,
    "revision_of_model": to("model.revision", text),
    "model_type": needless("read from the model"),
    "tokenizer_type": needless("read from the model"),
    "tokenizer_use_fast": shared.only(True, "only fast tokenizers are used"),
    "sequence_len": to("model.max_length", integer),
    "attn_implementation": to("model.attention", partial(one_of, known=_ATTENTION)),
    "flash_attention": needless("documents are kept apart by the fastest kernel there is"),
    "special_tokens": _special_tokens,
    "bnb_config_kwargs": _inside(_BNB, "bitsandbytes has its usual settings"),
    "peft": missing("adapters have their usual settings"),
    "tokens": _tokens,
    "load_in_4bit": elsewhere,
    "load_in_8bit": elsewhere,
    "adapter": elsewhere,
    "lora_model_dir": shared.adapter,
    "lora_r": to("lora.r", integer),
    "lora_target_linear": _linear,
    "lora_target_modules": _targets,
    "lora_modules_to_save": to("lora.modules_to_save", names),
    "peft_use_rslora": to("lora.use_rslora", switch),
    "peft_init_lora_weights": shared.adapter_start,
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
    "val_set_size": shared.held_out,
    "chat_template": shared.template,
    "chat_template_jinja": shared.template_text,
    "chat_template_kwargs": shared.template_arguments,
    "default_system_message": to("data.system", text),
    "train_on_inputs": shared.mask("all"),
    "eot_tokens": _end_marks,
    "sample_packing": to("data.packing", switch),
    "eval_sample_packing": needless("held-out rows are packed as the others"),
    "pad_to_sequence_len": _pad,
    "micro_batch_size": to("train.per_device_train_batch_size", integer),
    "eval_batch_size": needless("evaluation uses the micro-batch of training"),
    "num_epochs": to("train.num_train_epochs", number),
    "lr_scheduler": to("train.lr_scheduler_type", text),
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
    "wandb_name": common.run_name,
    "dpo_beta": to("train.beta", number),
    "orpo_alpha": to("train.beta", number),
    "noisy_embedding_alpha": to("train.neftune_noise_alpha", number),
    "eval_max_new_tokens": to("evaluate.max_new_tokens", integer),
    "excess_length_strategy": _overlong,
    "bfloat16": elsewhere,
    "float16": elsewhere,
    **ABSENT,
}
