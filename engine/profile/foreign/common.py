"""Rules for the keys that all tools have: those of transformers' TrainingArguments."""

from __future__ import annotations

import re

from engine.profile.foreign import shared
from engine.profile.foreign.draft import (
    Draft,
    Rule,
    Rules,
    elsewhere,
    integer,
    missing,
    names,
    needless,
    number,
    shown,
    switch,
    to,
)
from engine.profile.foreign.yamltext import Entry

_REPORTERS = ("tensorboard", "wandb", "mlflow", "trackio")
_BAD_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


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
    "greater_is_better": shared.only(False, "the lowest evaluation loss is the best"),
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
    "dataloader_drop_last": shared.off_unless(False, "every example is seen in each epoch"),
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
    "save_safetensors": shared.off_unless(True, "weights are always safetensors"),
    "eval_on_start": missing("the first evaluation comes by train.eval_steps"),
    "eval_delay": missing("the first evaluation comes by train.eval_steps"),
    "use_cpu": missing("the device is chosen by the command: --device"),
    "length_column_name": needless("lengths are counted"),
    "accelerator_config": missing("one process is used"),
}
