"""LLaMA-Factory's newer training files (`model`, `peft_config`, `train_dataset`), told by these keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.profile.foreign import llamafactory, shared
from engine.profile.foreign.dataset_info import found_path, further_rows
from engine.profile.foreign.draft import (
    Draft,
    Rules,
    elsewhere,
    integer,
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
from engine.profile.foreign.yamltext import Entry, read_yaml

KEYS = ("model", "model_class", "train_dataset", "peft_config")
"""Keys that only these files have."""
_ONE_GPU = "one GPU is used"
_CONVERTERS = ("alpaca", "sharegpt", "pair")


def decide(draft: Draft) -> None:
    """Preference rows are told by their loss."""
    loss = draft.value("pref_loss")
    objective = {"sigmoid": "dpo", "orpo": "orpo"}.get(str(loss), "sft")
    if loss is not None and objective == "sft":
        draft.note("left out", "pref_loss", f"{shown(loss)}: known are sigmoid and orpo")
        objective = "dpo"
    draft.put("train.objective", objective, "pref_loss" if loss is not None else f"{draft.tool}'s default")


def finish(draft: Draft) -> None:
    """Tables of plugins, and what the tool does when its file is silent."""
    _adapters(draft)
    _bits(draft)
    shared.precision(draft, ("bf16", "fp16"))
    defaults: dict[str, Any] = {
        "model.max_length": 2048,
        "data.packing": False,
        "data.validation_fraction": 0.0,
        "train.per_device_train_batch_size": 1,
        "train.learning_rate": 1e-4,
        "train.num_train_epochs": 3.0,
        "train.weight_decay": 0.0,
        "train.activation_checkpointing": True,
    }
    if "data.validation_path" in draft.settings:
        del defaults["data.validation_fraction"]
    for key, value in defaults.items():
        draft.put_default(key, value)


def _adapters(draft: Draft) -> None:
    table = _table(draft, "peft_config")
    if table is None:
        draft.put("tuning.method", "full", f"{draft.tool}'s default")
        return
    word = str(table.take("name", "lora"))
    method = word if word in ("lora", "freeze") else "lora"
    if word != method:
        table.note("left out", "name", f"{shown(word)}: known are lora and freeze")
    draft.put("tuning.method", method, f"{table.place}.name")
    if method == "freeze":
        draft.put(
            "tuning.trainable_layers", table.read("freeze_trainable_layers", integer, 2), "freeze_trainable_layers"
        )
        table.only("freeze_trainable_modules", ("all",), "the last layers learn whole")
        table.lose("freeze_extra_modules", "only whole layers learn")
        return
    for name, (key, convert) in _LORA.items():
        if table.look(name) is not None:
            value = table.read(name, convert, None)
            if value is not None:
                draft.put(key, value, f"{table.place}.{name}")
    targets = table.read("target_modules", names, ["all"])
    draft.put("lora.target_modules", "all-linear" if targets == ["all"] else targets, f"{table.place}.target_modules")
    folder = table.read("adapter_name_or_path", partial(shared.adapter_folder, draft), "")
    if folder:
        draft.put("tuning.adapter", folder, f"{table.place}.adapter_name_or_path")
    for name in ("export_dir", "export_size", "infer_dtype", "export_hub_model_id"):
        table.lose(name, "of another step than training: engine export")


def _bits(draft: Draft) -> None:
    table = _table(draft, "quant_config")
    bits = table.read("quantization_bit", integer, 0) if table and "quantization_bit" in table else None
    if table is not None:
        table.only("name", ("bnb", "auto"), "known is bitsandbytes")
    known = {None: "none", 8: "int8", 4: "nf4"}
    if table is not None and bits not in known:
        table.note("left out", "quantization_bit", f"{shown(table.look('quantization_bit'))}: known are 4 and 8")
    draft.put("quantization.method", known.get(bits, "none"), "quant_config")


def _table(draft: Draft, key: str) -> Told | None:
    value = draft.value(key)
    return Told(draft, key, value) if isinstance(value, dict) and value else None


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """`train_dataset`: a YAML list of sets, a file, or a set of the hub."""
    places = [dataset_dir, *folders] if dataset_dir else list(folders)
    told = draft.value("train_dataset")
    if told is not None:
        sets = _sets(draft, "train_dataset", places)
        if sets:
            draft.put("data.datasets", sets, "train_dataset")
    if draft.value("eval_dataset") is not None:
        held_out = _sets(draft, "eval_dataset", places)
        if held_out:
            draft.put("data.validation_path", held_out[0]["path"], "eval_dataset")
        for entry in held_out[1:]:
            further_rows(draft, "eval_dataset", shown(entry["path"]), entry["path"])


def _sets(draft: Draft, key: str, places: Sequence[Path]) -> list[dict[str, Any]]:
    text = str(draft.value(key))
    found = found_path(text, places)
    if Path(text).suffix not in (".yaml", ".yml"):
        return [{"path": found if Path(found).exists() else shared.hub_path(text)}]
    try:
        listed_ = read_yaml(Path(found))
    except EngineError as error:
        draft.note("left out", key, f"{shown(text)}: {error.message}; see --dataset-dir")
        return []
    home = [Path(found).parent.parent, Path(found).parent, *places]
    return [entry for one in listed_ for entry in _set(draft, f"{Path(text).name} {one.key}", one, home)]


def _set(draft: Draft, root: str, one: Entry, places: Sequence[Path]) -> list[dict[str, Any]]:
    draft.told[root] = one.value
    if not isinstance(one.value, dict) or not one.value.get("path"):
        draft.note("left out", root, f"{listed(one.value)}: no path")
        return []
    table = Told(draft, root, one.value)
    source, text = str(table.look("source", "hf_hub")), str(table.take("path"))
    table.only("source", ("local", "hf_hub"), "known are local and hf_hub")
    table.only("converter", _CONVERTERS, "recognised from the columns")
    entry: dict[str, Any] = {"path": found_path(text, places) if source == "local" else shared.hub_path(text)}
    entry |= shared.split(table)
    if table.look("size") is not None:
        entry["max_samples"] = table.read("size", integer, None)
    if table.look("weight") is not None:
        entry["weight"] = table.read("weight", number, 1.0)
    table.only("streaming", (False, True), "rows pass through memory in parts")
    return [{name: value for name, value in entry.items() if value is not None}]


def is_newer(entries: Mapping[str, Entry]) -> bool:
    """Whether a file of LLaMA-Factory is one of these."""
    return "model_name_or_path" not in entries and sum(key in entries for key in KEYS) >= 2


_LORA: Mapping[str, tuple[str, Any]] = {
    "r": ("lora.r", integer),
    "lora_alpha": ("lora.alpha", number),
    "lora_dropout": ("lora.dropout", number),
    "use_rslora": ("lora.use_rslora", switch),
    "use_dora": ("lora.use_dora", switch),
    "modules_to_save": ("lora.modules_to_save", names),
}
RULES: Rules = {
    **llamafactory.RULES,
    "model": shared.model,
    "model_class": shared.only("llm", "only language models are trained"),
    "custom_chat_template": shared.template_text,
    "init_config": needless("weights go straight from file to device"),
    "peft_config": elsewhere,
    "quant_config": elsewhere,
    "train_dataset": elsewhere,
    "eval_dataset": elsewhere,
    "kernel_config": needless("kernels are chosen for the machine: train.kernels"),
    "dist_config": missing(_ONE_GPU),
    "optim_config": missing("AdamW is used (train.optim)"),
    "lr_scheduler_config": missing("the schedule is train.lr_scheduler_type"),
    "dp_size": missing(_ONE_GPU),
    "cp_size": shared.off_unless(1, _ONE_GPU),
    "cp_mode": needless(_ONE_GPU),
    "mp_replicate_size": shared.off_unless(1, _ONE_GPU),
    "mp_shard_size": shared.off_unless(1, _ONE_GPU),
    "dist_timeout": needless("for several processes"),
    "micro_batch_size": to("train.per_device_train_batch_size", integer),
    "global_batch_size": to("train.total_batch_size", integer),
    "batching_strategy": needless("sequences have one shape (data.packing)"),
    "batching_workers": needless("batches are prepared beforehand"),
    "enable_activation_checkpointing": to("train.activation_checkpointing", switch),
    "save_epochs": missing("checkpoints go by train.save_steps"),
    "save_ckpt_as_hf": needless("checkpoints have a form of their own; engine export writes models"),
    "sample_backend": needless("of another step than training: engine chat"),
    "use_v1_kernels": needless("kernels are chosen for the machine: train.kernels"),
}
