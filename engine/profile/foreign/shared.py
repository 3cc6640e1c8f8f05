"""Rules that LLaMA-Factory and Axolotl share: both extend transformers' TrainingArguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from engine.profile.foreign.draft import (
    Draft,
    Kind,
    Rule,
    Rules,
    elsewhere,
    integer,
    is_off,
    listed,
    missing,
    names,
    needless,
    number,
    shown,
    switch,
    to,
)
from engine.profile.foreign.told import Told
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
_FIRST_ROWS = re.compile(r"([\w.-]+)\[:([1-9]\d{0,8})\]")
_SPLIT_NAME = re.compile(r"\w[\w.-]*")
TEMPLATES = {
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


def off_unless(usual: Any, reason: str) -> Rule:
    """A setting that changes nothing while it has its tool's `usual` value, and is not carried over otherwise."""

    def rule(draft: Draft, entry: Entry) -> None:
        kind: Kind = "not needed" if entry.value == usual else "left out"
        draft.note(kind, entry.key, f"{listed(entry.value)}: {reason}")

    return rule


def marks(draft: Draft, entry: Entry) -> None:
    """Tokens added to the vocabulary, beside those that another key adds."""
    add_marks(draft, names(entry.value), entry.key)


def add_marks(draft: Draft, added: list[str], origin: str) -> None:
    """`added` behind the marks that are there already."""
    before = draft.settings.get("model.additional_special_tokens", [])
    draft.settings.pop("model.additional_special_tokens", None)
    draft.put("model.additional_special_tokens", [*before, *(one for one in added if one not in before)], origin)


def adapter_start(draft: Draft, entry: Entry) -> None:
    """How adapters begin: PEFT's word for it."""
    if entry.value is True or entry.value == "pissa":
        draft.put("lora.init", "pissa" if entry.value == "pissa" else "default", entry.key)
    else:
        draft.note("left out", entry.key, f"{listed(entry.value)}: known are true and pissa (lora.init)")


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
    """A chat template's name, else the model's own; `jinja` says that another key holds the template."""
    word = str(entry.value)
    if word == "jinja" and draft.value("chat_template_jinja"):
        draft.carry(entry.key)
        return
    draft.put("data.template", TEMPLATES.get(word, "auto"), entry.key)
    if word not in TEMPLATES:
        draft.note("changed", entry.key, f"{shown(word)}: the model's own chat template is used (data.template)")


def template_text(draft: Draft, entry: Entry) -> None:
    """A chat template by file, or written out: then it goes into a file beside the profile."""
    text = str(entry.value)
    if "\n" not in text and "{" not in text:
        if not text.endswith(".jinja"):
            raise ValueError(f"{shown(text)}: a template's file ends in .jinja (data.template)")
        places = [folder / text for folder in draft.folders]
        found = next((place for place in places if place.exists()), places[0])
        draft.put("data.template", str(found.absolute()), entry.key)
        return
    name = f"{Path(entry.where.rpartition(':')[0] or 'chat').stem}.jinja"
    draft.files[name] = text
    draft.put("data.template", name, entry.key)


def template_argument(draft: Draft, entry: Entry) -> None:
    """An argument of the chat template that has a key of its own, such as `enable_thinking`."""
    if not isinstance(entry.value, bool):
        raise ValueError(f"{listed(entry.value)}: neither true nor false")
    before = draft.settings.get("data.template_arguments", {})
    draft.settings.pop("data.template_arguments", None)
    draft.put("data.template_arguments", {**before, entry.key: entry.value}, entry.key)


def template_arguments(draft: Draft, entry: Entry) -> None:
    """A table of arguments of the chat template."""
    if not isinstance(entry.value, dict):
        raise ValueError(f"{listed(entry.value)}: no table of arguments")
    draft.put("data.template_arguments", entry.value, entry.key)


def mask(word: str) -> Rule:
    """A switch that widens or narrows what is learned to `data.mask = word`."""

    def rule(draft: Draft, entry: Entry) -> None:
        if switch(entry.value):
            draft.put("data.mask", word, entry.key)
        else:
            draft.note("not needed", entry.key, "off: every answer is learned, and no prompt")

    return rule


def held_out(draft: Draft, entry: Entry) -> None:
    """A share of the rows, or their number."""
    size = number(entry.value)
    if size >= 1:
        draft.put("data.validation_rows", integer(size), entry.key)
    else:
        draft.put("data.validation_fraction", size, entry.key)


def precision(draft: Draft, keys: tuple[str, ...]) -> None:
    """`model.dtype` from switches such as fp16 and bf16; nothing said or 'auto' leaves it to the machine."""
    on = [key for key in keys if draft.value(key) is True or str(draft.value(key)).lower() in ("true", "full")]
    if on:
        draft.put("model.dtype", "fp16" if "16" in on[0] and "b" not in on[0] else "bf16", on[0])
    for key in keys:
        value = draft.value(key)
        if key in on[1:]:
            draft.note("left out", key, f"{shown(value)}: {on[0]} is on as well")
        elif key not in on and value is not None:
            _other_precision(draft, key, bool(on))


def _other_precision(draft: Draft, key: str, decided: bool) -> None:
    value = draft.value(key)
    if decided and is_off(value):
        draft.note("not needed", key, "off")
    elif str(value).lower() == "auto":
        draft.note("not needed", key, "auto: the machine decides (model.dtype)")
    elif is_off(value):
        draft.note("changed", key, f"{shown(value)}: model.dtype is chosen for the machine; 'fp32' computes in 32 bits")
    else:
        draft.note("left out", key, f"{listed(value)}: neither true, false nor auto")


def bits(draft: Draft, keys: tuple[str, ...]) -> str | None:
    """Which of the switches for 4 and 8 bits is on: the first; each is accounted for."""
    states = {key: draft.flag(key) for key in keys}
    on = next((key for key, state in states.items() if state), None)
    for key, state in states.items():
        if state and key != on:
            draft.note("left out", key, f"true: {on} is on as well")
        elif not state and draft.value(key) is not None and key not in draft.became:
            draft.note("not needed", key, f"{shown(draft.value(key))}: off")
    return on


def schedules(draft: Draft, *strategy_keys: str) -> None:
    """When to evaluate, from the strategies: 'no' drops the steps, 'epoch' is left to us."""
    for key in strategy_keys:
        word = draft.value(key)
        if word is None:
            continue
        if is_off(word):
            draft.put("data.validation_fraction", 0.0, key)
            draft.settings.pop("data.validation_rows", None)
            draft.settings.pop("train.eval_steps", None)
        elif str(word) == "steps":
            draft.note("not needed", key, "steps: that is what train.eval_steps counts")
        else:
            draft.settings.pop("train.eval_steps", None)
            draft.note("changed", key, f"{shown(word)}: evaluation is spread over the run (train.eval_steps)")


def _steps(key: str) -> Rule:
    def rule(draft: Draft, entry: Entry) -> None:
        every = number(entry.value)
        if every == 0:
            draft.note("not needed", entry.key, f"0: spread over the run ({key})")
            return
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
    if steps == 0 and draft.value("warmup_ratio"):
        draft.note("not needed", entry.key, "0: warmup_ratio decides")
        return
    key = "train.warmup_ratio" if 0 < steps < 1 else "train.warmup_steps"
    draft.put(key, steps if 0 < steps < 1 else integer(steps), entry.key)


def _best_metric(draft: Draft, entry: Entry) -> None:
    if str(entry.value) not in ("eval_loss", "loss"):
        raise ValueError(f"{shown(entry.value)}: the best model is the one with the lowest evaluation loss")
    draft.note("not needed", entry.key, f"{shown(entry.value)}: that is what decides")


def _save_strategy(draft: Draft, entry: Entry) -> None:
    if str(entry.value) == "steps":
        draft.note("not needed", entry.key, "steps: that is what train.save_steps counts")
    else:
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


def split(told: Told) -> dict[str, Any]:
    """`split` and `subset` of a data set; of a part of a split, only first rows are carried over."""
    found: dict[str, Any] = {}
    word = str(told.take("split", "train"))
    first = _FIRST_ROWS.fullmatch(word)
    if first:
        word, found["max_samples"] = first.group(1), int(first.group(2))
    if not _SPLIT_NAME.fullmatch(word):
        told.note("left out", "split", f"split {shown(word)}: a part of a split; max_samples takes its first rows")
        word = word.partition("[")[0]
    if word != "train" and _SPLIT_NAME.fullmatch(word):
        found["split"] = word
    subset = told.take("subset") or told.take("name")
    return {**found, **({"subset": str(subset)} if subset else {})}


def _clipping(draft: Draft, entry: Entry) -> None:
    draft.put("train.max_grad_norm", 0.0 if entry.value is None else number(entry.value), entry.key)


def _noise(draft: Draft, entry: Entry) -> None:
    if number(entry.value) == 0:
        draft.note("not needed", entry.key, "0: off")
    else:
        draft.put("train.neftune_noise_alpha", number(entry.value), entry.key)


def run_name(draft: Draft, entry: Entry) -> None:
    """A run's name, with what names may not hold replaced."""
    name = _BAD_IN_NAMES.sub("-", str(entry.value)).strip(".-_")[:64]
    if not name:
        raise ValueError(f"{shown(entry.value)}: no name for a run")
    draft.put("name", name, entry.key)
    if name != str(entry.value):
        draft.note("changed", entry.key, f"{shown(entry.value)} became {name}")


_PUSHING = (
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
    "hub_token",
    "hub_private_repo",
    "hub_always_push",
    "hub_revision",
    "hf_hub_token",
)
_PROCESSES = (
    "ddp_backend",
    "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters",
    "ddp_static_graph",
    "ddp_timeout",
    "local_rank",
    "average_tokens_across_devices",
    "save_on_each_node",
    "log_on_each_node",
)
_LOGGING = (
    "logging_dir",
    "logging_first_step",
    "logging_nan_inf_filter",
    "logging_strategy",
    "log_level",
    "log_level_replica",
    "disable_tqdm",
)

COMMON: Rules = {
    "trust_remote_code": to("model.trust_remote_code", switch),
    "lora_alpha": to("lora.alpha", number),
    "lora_dropout": to("lora.dropout", number),
    "gradient_accumulation_steps": to("train.gradient_accumulation_steps", integer),
    "learning_rate": to("train.learning_rate", number),
    "weight_decay": to("train.weight_decay", number),
    "max_grad_norm": _clipping,
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
    "neftune_noise_alpha": _noise,
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
    **{key: missing("nothing is pushed by itself: engine export") for key in _PUSHING},
    **{key: needless("for several processes; one GPU is used") for key in _PROCESSES},
    **{key: needless("runs are logged here in their own way") for key in _LOGGING},
    "eval_accumulation_steps": needless("evaluation uses the micro-batch of training"),
    "prediction_loss_only": needless("engine evaluate RUN scores answers"),
    "include_for_metrics": needless("engine evaluate RUN scores answers"),
    "include_tokens_per_second": needless("speed is always counted"),
    "include_num_input_tokens_seen": needless("tokens are always counted"),
    "dataloader_persistent_workers": needless("the loader's processes live as long as the run"),
    "dataloader_prefetch_factor": needless("batches are prepared beforehand"),
    "dataloader_drop_last": off_unless(False, "every example is seen in each epoch"),
    "use_liger_kernel": needless("kernels are chosen for the machine: train.kernels"),
    "full_determinism": missing("the seed decides order, adapters and dropout; kernels may round differently"),
    "data_seed": missing("train.seed decides the order of data too"),
    "label_smoothing_factor": missing("no label smoothing"),
    "lr_scheduler_kwargs": missing("schedules have their usual shape"),
    "optim_args": missing("optimizers have their usual settings"),
    "optim_target_modules": missing("optimizers have their usual settings"),
    "torch_compile_backend": missing("the usual compiler is used"),
    "torch_compile_mode": missing("the usual compiler is used"),
    "torch_empty_cache_steps": needless("memory is planned beforehand"),
    "auto_find_batch_size": missing("the micro-batch is chosen beforehand: train.per_device_train_batch_size = 'auto'"),
    "skip_memory_metrics": needless("memory is always measured"),
    "save_safetensors": off_unless(True, "weights are always safetensors"),
    "eval_on_start": missing("the first evaluation comes by train.eval_steps"),
    "eval_delay": missing("the first evaluation comes by train.eval_steps"),
    "use_cpu": missing("the device is chosen by the command: --device"),
    "length_column_name": needless("lengths are counted"),
    "accelerator_config": missing("one process is used"),
}
