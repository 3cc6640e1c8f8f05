"""Arguments of TRL and Unsloth scripts, written as YAML or JSON: those of SFTConfig, DPOConfig, LoraConfig and so on.

Either flat, as TRL's command line takes them, or in sections named for the object they go to.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from engine.memory.recompute import OFFLOAD
from engine.profile.foreign import common, shared
from engine.profile.foreign.draft import (
    Draft,
    Rules,
    elsewhere,
    integer,
    is_off,
    listed,
    names,
    number,
    one_of,
    shown,
    switch,
    text,
    to,
)
from engine.profile.foreign.trl_absent import ABSENT
from engine.profile.foreign.yamltext import Entry

TOOL = "TRL"
_LEARNING_RATES = {"sft": 2e-5, "pretrain": 2e-5, "dpo": 1e-6, "kto": 1e-6, "orpo": 1e-6, "reward": 1e-4}
_ATTENTION = {
    "flash_attention_2": "packed",
    "flash_attention_3": "packed",
    "kernels-community/flash-attn": "packed",
    "kernels-community/flash-attn2": "packed",
    "kernels-community/flash-attn3": "packed",
    "kernels-community/vllm-flash-attn3": "packed",
    "flex_attention": "packed",
    "sdpa": "sdpa",
    "eager": "eager",
}
_DTYPES = {
    "auto": "auto",
    "bfloat16": "bf16",
    "torch.bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "torch.float16": "fp16",
    "half": "fp16",
    "fp16": "fp16",
    "float32": "fp32",
    "torch.float32": "fp32",
    "fp32": "fp32",
}
_RANKS = ("lora_r", "r", "lora_rank", "rank")
_ADAPTERS = (*_RANKS, "lora_alpha", "lora_target_modules", "target_modules")
_COMPARING = ("beta", "desirable_weight", "undesirable_weight")
_BITS = ("load_in_4bit", "load_in_8bit")
_FOUR_BITS = ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "use_bnb_nested_quant")


def decide(draft: Draft) -> None:
    """What is learned: as a section says, else as arguments that only one objective has."""
    if "train.objective" in draft.settings:
        return
    judged = any(key in draft.entries for key in _COMPARING[1:])
    objective = "kto" if judged else "dpo" if "beta" in draft.entries else "sft"
    draft.put("train.objective", objective, f"{TOOL}'s arguments")
    if objective != "sft":
        words = f"taken for {objective.upper()}, as no section says DPOConfig or another (train.objective)"
        draft.note("changed", next(key for key in _COMPARING if key in draft.entries), words)


def finish(draft: Draft) -> None:
    """What several keys decide together, and what the tools do when their arguments are silent."""
    _method(draft)
    _quantization(draft)
    shared.precision(draft, ("fp16", "bf16"))
    shared.schedules(draft, "eval_strategy", "evaluation_strategy")
    _mask(draft)
    for key, value in _defaults(draft).items():
        draft.put_default(key, value)


def is_unsloth(draft: Draft) -> bool:
    """Whether these are the arguments of an Unsloth script, whose defaults are its own."""
    return any(key in draft.entries for key in ("use_gradient_checkpointing", "random_state", "full_finetuning")) or (
        "model_name" in draft.entries and "max_seq_length" in draft.entries
    )


def _method(draft: Draft) -> None:
    asked = draft.value("use_peft")
    given = any(draft.value(key) is not None for key in _ADAPTERS)
    peft = draft.flag("use_peft")
    whole = draft.flag("full_finetuning") or (asked is not None and not peft)
    draft.carry("use_peft", "full_finetuning")
    if given and not whole:
        if draft.value("lora_r") is not None and asked is None:
            draft.note("changed", "lora_r", "adapters learn, though use_peft is not there")
        draft.put("tuning.method", "lora", next(key for key in _ADAPTERS if draft.value(key) is not None))
        return
    draft.put("tuning.method", "lora" if peft and not whole else "full", f"{TOOL}'s default")
    if draft.settings["tuning.method"] == "full":
        for key in [key for key in draft.settings if key.startswith("lora.")]:
            draft.note("not needed", draft.origins[key], "every weight learns")
            del draft.settings[key]


def _quantization(draft: Draft) -> None:
    on = shared.bits(draft, _BITS)
    default = "nf4" if on is None and is_unsloth(draft) and _lora(draft) and "load_in_4bit" not in draft.entries else ""
    method = "int8" if on == "load_in_8bit" else default or ("nf4" if on else "none")
    if method == "nf4" and draft.value("bnb_4bit_quant_type"):
        method = draft.read("bnb_4bit_quant_type", partial(one_of, known={"nf4": "nf4", "fp4": "fp4"}), "nf4")
    draft.put("quantization.method", method, on or f"{'Unsloth' if default else TOOL}'s default")
    if method in ("nf4", "fp4"):
        draft.carry(*_FOUR_BITS)
        return
    draft.settings.pop("quantization.double_quant", None)
    for key in _FOUR_BITS:
        if draft.value(key) is not None:
            draft.note("not needed", key, f"{shown(draft.value(key))}: for 4 bits")


def _lora(draft: Draft) -> bool:
    return bool(draft.settings.get("tuning.method") == "lora")


def _mask(draft: Draft) -> None:
    """TRL learns a conversation's prompts too unless told otherwise, but not those of prompt and completion."""
    told = [key for key in ("assistant_only_loss", "completion_only_loss") if draft.value(key) is not None]
    on = [key for key in told if draft.flag(key)]
    for key in told:
        if key in on:
            draft.put("data.mask", "answers", key)
        elif key in draft.became:
            continue
        elif key == "completion_only_loss" and not on:
            draft.put("data.mask", "all", key)
        else:
            draft.note("not needed", key, "off: see data.mask")
    quiet = draft.settings["train.objective"] == "sft" and not told and "dataset_text_field" not in draft.entries
    if quiet and "data.response_template" not in draft.settings:
        words = "not said: answers alone are learned, where TRL learns a conversation's prompts too (data.mask = 'all')"
        draft.note("changed", "assistant_only_loss", words)


def _defaults(draft: Draft) -> dict[str, Any]:
    objective, unsloth = str(draft.settings["train.objective"]), is_unsloth(draft)
    defaults: dict[str, Any] = {
        "model.max_length": 2048 if unsloth else 1024,
        "data.packing": False,
        "train.per_device_train_batch_size": 8,
        "train.gradient_accumulation_steps": 1,
        "train.learning_rate": _LEARNING_RATES.get(objective, 2e-5),
        "train.lr_scheduler_type": "linear",
        "train.num_train_epochs": 3.0,
        "train.weight_decay": 0.0,
        "train.activation_checkpointing": OFFLOAD if unsloth else True,
    }
    if draft.settings.get("train.warmup_steps") is None:
        defaults["train.warmup_ratio"] = 0.0
    if "data.validation_path" not in draft.settings:
        defaults["data.validation_fraction"] = 0.0
    if _lora(draft):
        rank = 16 if unsloth or "use_peft" in draft.entries else 8
        alpha = {True: 16.0}.get(unsloth, 32.0 if "use_peft" in draft.entries else 8.0)
        dropout = 0.05 if "use_peft" in draft.entries else 0.0
        defaults |= {"lora.r": rank, "lora.alpha": alpha, "lora.dropout": dropout}
        if "lora.target_modules" not in draft.settings and not unsloth:
            draft.note("changed", "target_modules", "not said: all linear layers, where PEFT goes by the model's kind")
        defaults["lora.target_modules"] = "all-linear"
    return defaults


def _targets(draft: Draft, entry: Entry) -> None:
    found = names(entry.value)
    if isinstance(entry.value, str) and re.search(r"[*\\|()\[\]]", entry.value):
        raise ValueError(f"{shown(entry.value)}: name the modules one by one")
    draft.put("lora.target_modules", "all-linear" if found == ["all-linear"] else found, entry.key)


def _unsloth_checkpointing(draft: Draft, entry: Entry) -> None:
    word = OFFLOAD if entry.value == "unsloth" else switch(entry.value)
    draft.put("train.activation_checkpointing", word, entry.key)
    draft.carry("gradient_checkpointing")


def _checkpointing(draft: Draft, entry: Entry) -> None:
    if draft.value("use_gradient_checkpointing") is not None:
        draft.note("not needed", entry.key, "use_gradient_checkpointing decides")
    elif draft.value("activation_offloading") is not True or not switch(entry.value):
        draft.put("train.activation_checkpointing", switch(entry.value), entry.key)
    else:
        draft.carry(entry.key)


def _offloading(draft: Draft, entry: Entry) -> None:
    if switch(entry.value):
        draft.put("train.activation_checkpointing", OFFLOAD, entry.key)
    else:
        draft.note("not needed", entry.key, "off")


def _adapter_seed(draft: Draft, entry: Entry) -> None:
    seed = draft.value("seed")
    if seed is not None and seed != entry.value:
        draft.note("left out", entry.key, f"{shown(entry.value)}: seed decides about adapters too (train.seed)")
    else:
        draft.put("train.seed", integer(entry.value), "seed" if seed is not None else entry.key)
        draft.carry(entry.key)


def _mark(value: Any) -> str | list[int]:
    """A mark as text, or as the ids of its tokens."""
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return [int(item) for item in value]
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is neither text nor a list of token ids")
    return value


def _length(draft: Draft, entry: Entry) -> None:
    if entry.value is None:
        draft.note("left out", entry.key, "empty: examples of any length; here model.max_length cuts them")
    else:
        draft.put("model.max_length", integer(entry.value), entry.key)


def _loss(draft: Draft, entry: Entry) -> None:
    words = entry.value if isinstance(entry.value, list) else [entry.value]
    if [str(word) for word in words] in (["nll"], ["sigmoid"], ["kto"]):
        draft.note("not needed", entry.key, f"{listed(entry.value)}: the objective's own loss")
    else:
        draft.note("left out", entry.key, f"{listed(entry.value)}: known are nll, sigmoid and kto")


def _full_in_16_bits(draft: Draft, entry: Entry) -> None:
    if is_off(entry.value) or not any(draft.value(key) is True for key in _BITS):
        draft.note("not needed", entry.key, f"{shown(entry.value)}: what is not quantized has 16 bits or more")
        draft.entries.setdefault("load_in_4bit", Entry("load_in_4bit", False, entry.where))
    else:
        draft.note("left out", entry.key, f"{shown(entry.value)}: the model is quantized")


NULL_MATTERS = frozenset({"max_length", "max_grad_norm"})
_LORA_RANK = to("lora.r", integer)
_SAVED = to("lora.modules_to_save", names)
_DTYPE = to("model.dtype", partial(one_of, known=_DTYPES))
RULES: Rules = {
    **common.COMMON,
    **ABSENT,
    "model_name_or_path": shared.model,
    "model_name": shared.model,
    "pretrained_model_name_or_path": shared.model,
    "model": shared.model,
    "model_revision": to("model.revision", text),
    "revision": to("model.revision", text),
    "max_length": _length,
    "max_seq_length": _length,
    "max_seq_len": _length,
    "dtype": _DTYPE,
    "torch_dtype": _DTYPE,
    "attn_implementation": to("model.attention", partial(one_of, known=_ATTENTION)),
    "load_in_4bit": elsewhere,
    "load_in_8bit": elsewhere,
    "load_in_16bit": _full_in_16_bits,
    "full_finetuning": elsewhere,
    "use_peft": elsewhere,
    "bnb_4bit_quant_type": elsewhere,
    "bnb_4bit_use_double_quant": to("quantization.double_quant", switch),
    "use_bnb_nested_quant": to("quantization.double_quant", switch),
    **{key: _LORA_RANK for key in _RANKS},
    "bias": to("lora.bias", text),
    "lora_target_modules": _targets,
    "target_modules": _targets,
    "lora_modules_to_save": _SAVED,
    "modules_to_save": _SAVED,
    "use_rslora": to("lora.use_rslora", switch),
    "use_dora": to("lora.use_dora", switch),
    "init_lora_weights": shared.adapter_start,
    "use_gradient_checkpointing": _unsloth_checkpointing,
    "gradient_checkpointing": _checkpointing,
    "activation_offloading": _offloading,
    "random_state": _adapter_seed,
    **{
        key: elsewhere
        for key in (
            "dataset_name",
            "dataset",
            "dataset_path",
            "train_file",
            "local_dataset",
            "data_files",
            "datasets",
            "dataset_config",
            "dataset_config_name",
            "dataset_train_split",
            "split",
            "dataset_test_split",
            "dataset_text_field",
            "eval_file",
            "validation_file",
        )
    },
    "test_split_size": shared.held_out,
    "assistant_only_loss": elsewhere,
    "completion_only_loss": elsewhere,
    "train_on_completions": shared.mask("answers"),
    "instruction_part": to("data.instruction_template", _mark),
    "instruction_template": to("data.instruction_template", _mark),
    "response_part": to("data.response_template", _mark),
    "response_template": to("data.response_template", _mark),
    "chat_template_path": shared.template_text,
    "chat_template": shared.template_text,
    "chat_template_kwargs": shared.template_arguments,
    "packing": to("data.packing", switch),
    "max_samples": to("data.max_samples", integer),
    "per_device_train_batch_size": to("train.per_device_train_batch_size", integer),
    "batch_size": to("train.per_device_train_batch_size", integer),
    "num_train_epochs": to("train.num_train_epochs", number),
    "num_epochs": to("train.num_train_epochs", number),
    "lr_scheduler_type": to("train.lr_scheduler_type", text),
    "optim": shared.optimizer,
    "early_stopping_patience": to("train.early_stopping_patience", integer),
    "random_seed": to("train.seed", integer),
    "loraplus_lr_ratio": to("lora.plus_ratio", number),
    "beta": to("train.beta", number),
    "loss_type": _loss,
    "truncation_mode": to("model.truncation_side", partial(one_of, known={"keep_start": "right", "keep_end": "left"})),
    "eval_strategy": elsewhere,
    "evaluation_strategy": elsewhere,
}
