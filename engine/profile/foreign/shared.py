"""Rules that LLaMA-Factory and Axolotl share: both extend transformers' TrainingArguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.profile.foreign.draft import (
    Draft,
    Rule,
    Rules,
    elsewhere,
    integer,
    is_off,
    missing,
    names,
    needless,
    number,
    shown,
    switch,
    to,
)
from engine.profile.foreign.yamltext import Entry

_OPTIMIZERS = {
    "adamw_torch": "adamw_torch",
    "adamw_hf": "adamw_torch",
    "adamw_torch_fused": "adamw_torch_fused",
    "adamw_bnb_8bit": "adamw_bnb_8bit",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "lion_32bit": "lion_32bit",
    "lion_8bit": "lion_8bit",
}
_NEAR_OPTIMIZERS = {
    "adamw_torch_8bit": "adamw_bnb_8bit",
    "paged_adamw_32bit": "adamw_torch",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
    "lion_pytorch": "lion_32bit",
}
_REPORTERS = ("tensorboard", "wandb", "mlflow", "trackio")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_TEMPLATES = {
    "default": "auto",
    "tokenizer_default": "auto",
    "llama2": "llama2",
    "llama3": "llama3",
    "qwen": "qwen",
    "qwen_25": "qwen",
    "phi4": "phi4",
    "phi_4": "phi4",
    "deepseek3": "deepseek",
    "granite3": "granite",
    "openchat": "openchat",
    "cohere": "command-r",
    "solar": "solar",
    "alpaca": "alpaca",
    "chatml": "chatml",
    "vicuna": "vicuna",
    "zephyr": "zephyr",
    "gemma": "gemma",
    "gemma2": "gemma",
    "mistral": "mistral",
    "phi": "phi3",
    "phi_3": "phi3",
    "phi_35": "phi3",
}
_BAD_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def only(allowed: Any, reason: str) -> Rule:
    """A switch with one position here: `allowed` needs nothing, any other is not carried over."""

    def rule(draft: Draft, entry: Entry) -> None:
        same = entry.value == allowed or (is_off(allowed) and is_off(entry.value))
        draft.note("not needed" if same else "left out", entry.key, f"{shown(entry.value)}: {reason}")

    return rule


def optimizer(draft: Draft, entry: Entry) -> None:
    """An optimizer's name; a close relative is taken aloud."""
    word = str(entry.value)
    if word in _NEAR_OPTIMIZERS:
        draft.put("train.optim", _NEAR_OPTIMIZERS[word], entry.key)
        draft.note("changed", entry.key, f"{word} became {_NEAR_OPTIMIZERS[word]}, which has the same update rule")
    elif word in _OPTIMIZERS:
        draft.put("train.optim", _OPTIMIZERS[word], entry.key)
    else:
        raise ValueError(f"{shown(word)}: this optimizer is not here; known are {', '.join(_OPTIMIZERS)}")


def template(draft: Draft, entry: Entry) -> None:
    """A chat template's name, else the model's own."""
    word = str(entry.value)
    draft.put("data.template", _TEMPLATES.get(word, "auto"), entry.key)
    if word not in _TEMPLATES:
        draft.note("changed", entry.key, f"{shown(word)}: the model's own chat template is used (data.template)")


def train_on_prompt(draft: Draft, entry: Entry) -> None:
    """Prompts are learned too when the switch is on."""
    if switch(entry.value):
        draft.put("data.mask", "all", entry.key)


def last_answer_only(draft: Draft, entry: Entry) -> None:
    """Only the last answer of a conversation is learned when the switch is on."""
    if switch(entry.value):
        draft.put("data.mask", "last", entry.key)


def precision(draft: Draft, keys: tuple[str, ...]) -> None:
    """`model.dtype` from switches such as fp16 and bf16; nothing said or 'auto' leaves it to the machine."""
    on = [key for key in keys if draft.value(key) is True]
    if on:
        draft.put("model.dtype", "fp16" if "16" in on[0] and "b" not in on[0] else "bf16", on[0])


def schedules(draft: Draft, *strategy_keys: str) -> None:
    """When to evaluate and save, from the strategies: 'no' drops the steps, 'epoch' is left to us."""
    for key in strategy_keys:
        word = draft.value(key)
        if word is not None and str(word) not in ("steps", "False", "no"):
            draft.settings.pop("train.eval_steps", None)
            draft.note("changed", key, f"{shown(word)}: evaluation is spread over the run (train.eval_steps)")
        elif is_off(word) and word is not None:
            draft.put("data.validation_fraction", 0.0, key)
            draft.settings.pop("train.eval_steps", None)


def _steps(key: str) -> Rule:
    def rule(draft: Draft, entry: Entry) -> None:
        every = number(entry.value)
        if 0 < every < 1:
            raise ValueError(f"{shown(entry.value)}: a share of the run; it is spread by itself")
        draft.put(key, integer(every), entry.key)

    return rule


def _max_steps(draft: Draft, entry: Entry) -> None:
    steps = integer(entry.value)
    if steps > 0:
        draft.put("train.max_steps", steps, entry.key)
    else:
        draft.note("not needed", entry.key, f"{steps}: the epochs decide")


def _warmup_steps(draft: Draft, entry: Entry) -> None:
    steps = number(entry.value)
    key = "train.warmup_ratio" if 0 < steps < 1 else "train.warmup_steps"
    draft.put(key, steps if 0 < steps < 1 else integer(steps), entry.key)


def _best_metric(draft: Draft, entry: Entry) -> None:
    if str(entry.value) not in ("eval_loss", "loss"):
        raise ValueError(f"{shown(entry.value)}: the best model is the one with the lowest evaluation loss")
    draft.note("not needed", entry.key, f"{shown(entry.value)}: that is what decides")


def _save_strategy(draft: Draft, entry: Entry) -> None:
    if str(entry.value) != "steps":
        draft.note("changed", entry.key, f"{shown(entry.value)}: checkpoints go by train.save_steps")


def _report(draft: Draft, entry: Entry) -> None:
    words = [word for word in names(entry.value) if word != "none"]
    here = [word for word in words if word in _REPORTERS]
    if here:
        draft.put("train.report_to", here, entry.key)
    if others := [word for word in words if word not in _REPORTERS]:
        message = f"{', '.join(map(shown, others))}: known are {', '.join(_REPORTERS)}; runs are kept here in any case"
        draft.note("left out", entry.key, message)
    if not words:
        draft.note("not needed", entry.key, "none")


def hub_path(text: str) -> str:
    """`hub:OWNER/NAME` for what looks like one, anything else as it is."""
    return f"hub:{text}" if _HUB_NAME.fullmatch(text) else text


def split(draft: Draft, key: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """`split` and `subset` of an entry; a slice of a split is not carried over."""
    found = {}
    word = str(told.get("split", "train"))
    if not word.isidentifier():
        draft.note("left out", key, f"split {shown(word)}: a part of a split; max_samples takes its first rows")
        word = word.partition("[")[0]
    if word != "train" and word.isidentifier():
        found["split"] = word
    subset = told.get("subset", told.get("name"))
    return {**found, **({"subset": str(subset)} if subset else {})}


def run_name(draft: Draft, entry: Entry) -> None:
    """A run's name, with what names may not hold replaced."""
    name = _BAD_IN_NAMES.sub("-", str(entry.value)).strip(".-_")[:64]
    if name:
        draft.put("name", name, entry.key)


COMMON: Rules = {
    "trust_remote_code": to("model.trust_remote_code", switch),
    "lora_alpha": to("lora.alpha", number),
    "lora_dropout": to("lora.dropout", number),
    "gradient_accumulation_steps": to("train.gradient_accumulation_steps", integer),
    "learning_rate": to("train.learning_rate", number),
    "weight_decay": to("train.weight_decay", number),
    "max_grad_norm": to("train.max_grad_norm", number),
    "adam_beta1": to("train.adam_beta1", number),
    "adam_beta2": to("train.adam_beta2", number),
    "adam_epsilon": to("train.adam_epsilon", number),
    "warmup_ratio": to("train.warmup_ratio", number),
    "warmup_steps": _warmup_steps,
    "max_steps": _max_steps,
    "save_steps": _steps("train.save_steps"),
    "eval_steps": _steps("train.eval_steps"),
    "logging_steps": _steps("train.logging_steps"),
    "save_strategy": _save_strategy,
    "save_total_limit": to("train.save_total_limit", integer),
    "seed": to("train.seed", integer),
    "neftune_noise_alpha": to("train.neftune_noise_alpha", number),
    "dataloader_num_workers": to("train.dataloader_num_workers", integer),
    "dataloader_pin_memory": needless("memory is pinned where there is a GPU"),
    "load_best_model_at_end": to("train.load_best_model_at_end", switch),
    "metric_for_best_model": _best_metric,
    "greater_is_better": only(False, "the lowest evaluation loss is the best"),
    "report_to": _report,
    "streaming": needless("rows pass through memory in parts, however many there are"),
    "run_name": run_name,
    "fp16": elsewhere,
    "bf16": elsewhere,
    "pure_bf16": elsewhere,
    "tf32": missing("products in fp32 keep its accuracy"),
    "torch_compile": to("train.torch_compile", switch),
    "group_by_length": needless("every batch has one shape; data.packing saves the padding"),
    "remove_unused_columns": needless("columns that are not used are not read"),
    "resume_from_checkpoint": missing("training goes on from a run: engine runs resume"),
    "deepspeed": missing("one GPU is used"),
    "fsdp": missing("one GPU is used"),
    "fsdp_config": missing("one GPU is used"),
    "gradient_checkpointing_kwargs": needless("there is one way of checkpointing"),
    "hub_model_id": missing("nothing is pushed by itself: engine export"),
}
