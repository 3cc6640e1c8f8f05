"""LLaMA-Factory's training files: which of its keys is which of ours.

Key names and defaults are those of its `hparams` package and of transformers' TrainingArguments, which
it extends. Its data sets are names in a `dataset_info.json`: see `dataset_info.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.foreign import common, shared
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
    one_of,
    shown,
    switch,
    text,
    to,
)
from engine.profile.foreign.llamafactory_absent import ABSENT, TEXT_ONLY
from engine.profile.foreign.yamltext import Entry

TOOL = "LLaMA-Factory"
_STAGES = {"rm": "reward", "sft": "sft", "pt": "pretrain", "dpo": "dpo", "kto": "kto"}
_TASKS = {"instruction_tuning": "sft", "sft": "sft", "continuation": "pretrain", "pretraining": "pretrain"}
_ATTENTION = {"auto": "auto", "fa2": "packed", "flash_attention_2": "packed", "sdpa": "sdpa", "disabled": "eager"}
_FOUR_BITS = ("quantization_method", "quantization_type", "double_quantization", "bnb_4bit_quant_type")
_OWN_DIRECTORY = "every run has a directory of its own"


def decide(draft: Draft) -> None:
    """What several keys decide together and data depend on."""
    _objective(draft)


def finish(draft: Draft) -> None:
    """What several keys decide together, and what the tool does when its file is silent."""
    _method(draft)
    _quantization(draft)
    shared.precision(draft, ("fp16", "bf16", "pure_bf16"))
    shared.schedules(draft, "eval_strategy", "evaluation_strategy")
    for key, value in _defaults(draft).items():
        draft.put_default(key, value)


def _objective(draft: Draft) -> None:
    stage = str(draft.value("stage", "sft"))
    if stage not in _STAGES:
        raise _unknown(draft, "stage", stage, ", ".join(_STAGES))
    loss = str(draft.value("pref_loss", "sigmoid"))
    if stage == "dpo" and loss not in ("sigmoid", "orpo"):
        raise _unknown(draft, "pref_loss", loss, "sigmoid, orpo")
    if "task_type" not in draft.entries or "stage" in draft.entries:
        told = "stage" if "stage" in draft.entries else f"{draft.tool}'s default"
        draft.put("train.objective", "orpo" if stage == "dpo" and loss == "orpo" else _STAGES[stage], told)
    if stage == "dpo":
        draft.carry("pref_loss")
    elif draft.value("pref_loss") is not None:
        draft.note("not needed", "pref_loss", f"{shown(draft.value('pref_loss'))}: for stage: dpo")
    if draft.value("stage") is not None and "stage" not in draft.became:
        draft.note("left out", "stage", f"{shown(stage)}: task_type says what is learned")


def _method(draft: Draft) -> None:
    word = str(draft.value("finetuning_type", "lora"))
    if word not in ("lora", "freeze", "full"):
        raise _unknown(draft, "finetuning_type", word, "lora, freeze, full")
    told = "finetuning_type" if "finetuning_type" in draft.entries else f"{draft.tool}'s default"
    draft.put("tuning.method", word, told)
    if word != "lora":
        for key in [key for key in draft.settings if key.startswith("lora.")]:
            draft.note("not needed", draft.origins[key], f"no adapters with finetuning_type: {word}")
            del draft.settings[key]


def _quantization(draft: Draft) -> None:
    bits = draft.value("quantization_bit")
    kind = str(draft.value("quantization_type", draft.value("bnb_4bit_quant_type", "nf4")))
    library = str(draft.value("quantization_method", "bnb"))
    if bits is None:
        draft.put_default("quantization.method", "none")
        draft.settings.pop("quantization.double_quant", None)
        for key in _FOUR_BITS:
            if draft.value(key) is not None:
                draft.note("not needed", key, f"{shown(draft.value(key))}: no quantization_bit")
        return
    draft.carry("quantization_method", *_FOUR_BITS)
    count = draft.read("quantization_bit", integer, 0)
    if library not in ("bnb", "bitsandbytes") or count not in (4, 8):
        message = f"{shown(bits)} bits by {shown(library)}: only bitsandbytes' 4 and 8"
        draft.note("left out", "quantization_bit", message)
        if draft.value("quantization_method") is not None:
            draft.note("left out", "quantization_method", message)
        return
    method = "int8" if count == 8 else kind if kind in ("nf4", "fp4") else "nf4"
    if count == 4 and kind not in ("nf4", "fp4"):
        key = "quantization_type" if draft.value("quantization_type") is not None else "bnb_4bit_quant_type"
        draft.note("left out", key, f"{shown(kind)}: known are nf4 and fp4")
    draft.put("quantization.method", method, "quantization_bit")
    if method == "int8":
        for key in ("quantization_type", "double_quantization", "bnb_4bit_quant_type"):
            if not is_off(draft.value(key)):
                draft.note("not needed", key, f"{shown(draft.value(key))} is for 4 bits, and quantization_bit is 8")
        draft.settings.pop("quantization.double_quant", None)


def _defaults(draft: Draft) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "model.max_length": 2048,
        "data.packing": draft.settings.get("train.objective") == "pretrain",
        "train.per_device_train_batch_size": 8,
        "train.gradient_accumulation_steps": 1,
        "train.learning_rate": 5e-5,
        "train.lr_scheduler_type": "linear",
        "train.num_train_epochs": 3.0,
        "train.weight_decay": 0.0,
        "train.activation_checkpointing": True,
    }
    if draft.settings.get("train.warmup_steps") is None:
        defaults["train.warmup_ratio"] = 0.0
    if "data.validation_path" not in draft.settings:
        defaults["data.validation_fraction"] = 0.0
    if draft.settings["tuning.method"] == "lora":
        rank = draft.settings.get("lora.r", 8)
        defaults |= {"lora.r": rank, "lora.alpha": 2.0 * rank, "lora.dropout": 0.0, "lora.target_modules": "all-linear"}
    return defaults


def _unknown(draft: Draft, key: str, word: str, known: str) -> EngineError:
    entry = draft.entries[key]
    message = f"{key}: {shown(word)} cannot be trained here"
    return EngineError(message, code=ExitCode.PROFILE, where=entry.where, hint=f"known are {known}")


def _targets(draft: Draft, entry: Entry) -> None:
    found = names(entry.value)
    draft.put("lora.target_modules", "all-linear" if found == ["all"] else found, entry.key)


def _use_lora(draft: Draft, entry: Entry) -> None:
    if "finetuning_type" in draft.entries:
        draft.note("not needed", entry.key, "finetuning_type decides")
    elif not switch(entry.value):
        draft.entries["finetuning_type"] = Entry("finetuning_type", "full", entry.where)
        draft.carry(entry.key)
    else:
        draft.carry(entry.key)


def _frozen_layers(draft: Draft, entry: Entry) -> None:
    if draft.value("finetuning_type", "lora") != "freeze":
        draft.note("not needed", entry.key, "for finetuning_type: freeze")
        return
    layers = integer(entry.value)
    if layers < 1:
        draft.note("left out", entry.key, "only the last layers can learn, not the first ones")
        return
    draft.put("tuning.trainable_layers", layers, entry.key)


def _turned_on(key: str, value: Any) -> Rule:
    """A setting that takes a value here when the switch is on."""

    def rule(draft: Draft, entry: Entry) -> None:
        if switch(entry.value):
            draft.put(key, value, entry.key)
        else:
            draft.note("not needed", entry.key, "off")

    return rule


def _packing(draft: Draft, entry: Entry) -> None:
    """`neat_packing` packs too, and keeps documents apart as is always done here."""
    on = switch(entry.value)
    other = "neat_packing" if entry.key == "packing" else "packing"
    if not on and draft.value(other) is True:
        draft.note("not needed", entry.key, f"off: {other} is on")
    else:
        draft.put("data.packing", on, entry.key)
        if on and entry.key == "packing" and draft.value("neat_packing") is not True:
            draft.note("changed", entry.key, "on: examples of one sequence do not see each other (neat_packing)")


NULL_MATTERS = frozenset({"enable_thinking", "max_grad_norm"})
"""Keys whose null is a value of its own."""

RULES: Rules = {
    **common.COMMON,
    "model_name_or_path": shared.model,
    "model_revision": to("model.revision", text),
    "cutoff_len": to("model.max_length", integer),
    "model_max_length": to("model.max_length", integer),
    "flash_attn": to("model.attention", partial(one_of, known=_ATTENTION)),
    "use_fast_tokenizer": shared.only(True, "only fast tokenizers are used"),
    "resize_vocab": needless("the vocabulary grows with model.additional_special_tokens"),
    "adapter_name_or_path": shared.adapter,
    "rope_scaling": missing("the model's own context is used"),
    "stage": elsewhere,
    "finetuning_type": elsewhere,
    "use_lora": _use_lora,
    "freeze_trainable_layers": _frozen_layers,
    "freeze_trainable_modules": shared.only("all", "the last layers learn whole"),
    "freeze_extra_modules": missing("only whole layers learn"),
    "quantization_bit": elsewhere,
    "quantization_type": elsewhere,
    "quantization_method": elsewhere,
    "double_quantization": to("quantization.double_quant", switch),
    "lora_rank": to("lora.r", integer),
    "lora_target": _targets,
    "lora_target_modules": _targets,
    "additional_target": to("lora.modules_to_save", names),
    "use_rslora": to("lora.use_rslora", switch),
    "use_dora": to("lora.use_dora", switch),
    "pissa_init": _turned_on("lora.init", "pissa"),
    "pissa_iter": needless("a fast decomposition of PEFT's own accuracy is used"),
    "pissa_convert": needless("the saved adapter always stands on the original base"),
    "loraplus_lr_ratio": to("lora.plus_ratio", number),
    "dataset": elsewhere,
    "dataset_dir": elsewhere,
    "eval_dataset": elsewhere,
    "data_path": elsewhere,
    "eval_data_path": elsewhere,
    "val_size": shared.held_out,
    "max_samples": elsewhere,
    "packing": _packing,
    "neat_packing": _packing,
    "mix_strategy": elsewhere,
    "interleave_probs": elsewhere,
    "eval_on_each_dataset": missing("one held-out set is used"),
    "ignore_pad_token_for_loss": shared.off_unless(True, "padding is never learned"),
    "default_system": to("data.system", text),
    "enable_thinking": shared.template_argument,
    "preserve_thinking": shared.off_unless(False, "the chat template decides about thoughts of earlier turns"),
    "tool_format": missing("the chat template writes tools"),
    "split_special_tokens": shared.off_unless(False, "special tokens of the template stay whole"),
    "media_dir": missing(TEXT_ONLY),
    "buffer_size": needless("examples are shuffled whole, not within a buffer"),
    "preprocessing_batch_size": needless("tokenizing uses all processors"),
    "data_shared_file_system": needless("one machine is used"),
    "task_type": to("train.objective", partial(one_of, known=_TASKS)),
    "task_weights": elsewhere,
    "instruction_template": shared.template,
    "response_template": to("data.response_template", text),
    "template": shared.template,
    "train_on_prompt": shared.mask("all"),
    "mask_history": shared.mask("last"),
    "additional_special_tokens": shared.marks,
    "new_special_tokens": shared.marks,
    "add_special_tokens": shared.marks,
    "add_tokens": shared.marks,
    "tokenizer_padding_side": to("model.padding_side", text),
    "tokenizer_truncation_side": to("model.truncation_side", text),
    "per_device_train_batch_size": to("train.per_device_train_batch_size", integer),
    "per_device_eval_batch_size": needless("evaluation uses the micro-batch of training"),
    "num_train_epochs": to("train.num_train_epochs", number),
    "lr_scheduler_type": to("train.lr_scheduler_type", text),
    "gradient_checkpointing": to("train.activation_checkpointing", switch),
    "disable_gradient_checkpointing": to("train.activation_checkpointing", lambda value: not switch(value)),
    "optim": shared.optimizer,
    "pref_beta": to("train.beta", number),
    "pref_loss": elsewhere,
    "pref_ftx": missing("no supervised loss is added to the preference loss"),
    "early_stopping_steps": to("train.early_stopping_patience", integer),
    "eval_strategy": elsewhere,
    "evaluation_strategy": elsewhere,
    "do_train": shared.only(True, "training is what a profile is for"),
    "do_eval": needless("held-out examples are evaluated when there are any"),
    "do_predict": missing("engine evaluate RUN generates and scores"),
    "predict_with_generate": missing("engine evaluate RUN generates and scores"),
    "output_dir": needless(_OWN_DIRECTORY),
    "overwrite_output_dir": needless(_OWN_DIRECTORY),
    "plot_loss": needless("tunedeck shows the curve"),
    "overwrite_cache": needless("prepared data are found again by what made them"),
    "tokenized_path": needless("prepared data are kept and found again by what made them"),
    "preprocessing_num_workers": needless("tokenizing uses all processors"),
    "ddp_timeout": needless("for several processes"),
    "save_only_model": shared.only(False, "checkpoints are always whole, so that a run can go on exactly"),
    "include_num_input_tokens_seen": needless("tokens are always counted"),
    "enable_liger_kernel": needless("kernels are chosen for the machine: train.kernels"),
    "use_unsloth": missing("its kernels are not used"),
    "freeze_vision_tower": needless(TEXT_ONLY),
    "freeze_multi_modal_projector": needless(TEXT_ONLY),
    "freeze_language_model": shared.only(False, TEXT_ONLY),
    "train_from_scratch": _turned_on("model.initialise", "random"),
    "max_new_tokens": to("evaluate.max_new_tokens", integer),
    **ABSENT,
}
