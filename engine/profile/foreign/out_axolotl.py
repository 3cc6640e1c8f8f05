"""A profile in Axolotl's words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.profile.data_files import HUB
from engine.profile.foreign.columns import SPEAKERS
from engine.profile.foreign.outgoing import (
    AUTO,
    HUGGING_FACE,
    Lost,
    Outgoing,
    Rows,
    Words,
    batch,
    lose_words,
    not_elsewhere,
    part_of,
    schedule,
    share,
    starting,
    told_rows,
    warm_up,
)
from engine.profile.schema import Dataset

_NAMES = {
    "train.per_device_train_batch_size": "micro_batch_size",
    "train.num_train_epochs": "num_epochs",
    "train.lr_scheduler_type": "lr_scheduler",
    "train.optim": "optimizer",
    "name": "wandb_name",
    "model.name_or_path": "base_model",
    "model.revision": "revision_of_model",
    "model.max_length": "sequence_len",
    "data.deduplicate": "dataset_exact_deduplication",
    "data.packing": "sample_packing",
}
_LORA = {
    "lora.r": "lora_r",
    "lora.alpha": "lora_alpha",
    "lora.dropout": "lora_dropout",
    "lora.plus_ratio": "loraplus_lr_ratio",
    "lora.use_rslora": "peft_use_rslora",
    "lora.use_dora": "peft_use_dora",
}
_TEMPLATES = {
    "alpaca": "alpaca",
    "chatml": "chatml",
    "gemma": "gemma",
    "llama3": "llama3",
    "phi3": "phi_3",
    "phi4": "phi_4",
    "qwen": "qwen_25",
    "command-r": "cohere",
}
_RULE = "the objective says which rows are compared"
_ALPACA_PROMPT = "rows are rendered in Alpaca's words there, not with the chat template"


def export(out: Outgoing) -> None:
    """Fill `told` of `out`."""
    out.head.append("axolotl train THIS_FILE")
    _model(out)
    _method(out)
    _data(out)
    batch(out)
    out.same(HUGGING_FACE | {key: name for key, name in _NAMES.items() if key not in out.said})
    if not out.values["name"]:
        out.said.add("name")
    warm_up(out)
    schedule(out)
    patience = out.values["train.early_stopping_patience"]
    if patience is not None and "train.early_stopping_patience" not in out.said:
        out.say("train.early_stopping_patience", ("early_stopping_patience", patience))
    words: Words = {
        True: [("gradient_checkpointing", True)],
        False: [("gradient_checkpointing", False)],
        "offload": [("gradient_checkpointing", "offload")],
    }
    out.words("train.activation_checkpointing", words)
    out.told["output_dir"] = f"outputs/{out.values['name'] or 'tunedeck'}"


def _model(out: Outgoing) -> None:
    not_elsewhere(out)
    attention = {"packed": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
    out.words("model.attention", {word: [("attn_implementation", theirs)] for word, theirs in attention.items()})
    kinds: Words = {AUTO: [("bf16", AUTO)], "bf16": [("bf16", True)], "fp16": [("fp16", True)]}
    out.words("model.dtype", kinds)
    marks = out.values["model.additional_special_tokens"]
    added = [("special_tokens", {"additional_special_tokens": marks})] if marks else []
    out.say("model.additional_special_tokens", *added)


def _method(out: Outgoing) -> None:
    values, objective = out.values, out.values["train.objective"]
    comparing: Words = {
        "dpo": [("rl", "dpo")],
        "kto": [("rl", "kto")],
        "orpo": [("rl", "orpo")],
        "reward": [("reward_model", True)],
    }
    out.words("train.objective", {"sft": [], "pretrain": [], **comparing})
    if objective in ("dpo", "orpo", "kto"):
        out.say("train.beta", ("orpo_alpha" if objective == "orpo" else "rl_beta", values["train.beta"]))
    else:
        out.said.add("train.beta")
    bits, method = values["quantization.method"], values["tuning.method"]
    four = bits in ("nf4", "fp4")
    lora = "qlora" if four else "lora"
    out.words("tuning.method", {"lora": [("adapter", lora)], "full": []})
    if method != "freeze":
        out.said.add("tuning.trainable_layers")
    in_four = [("load_in_4bit", True)]
    quantized: Words = {"none": [], "nf4": in_four, "fp4": in_four, "int8": [("load_in_8bit", True)]}
    out.words("quantization.method", quantized)
    kwargs: dict[str, Any] = {"bnb_4bit_quant_type": "fp4"} if bits == "fp4" else {}
    if four and not values["quantization.double_quant"]:
        kwargs["bnb_4bit_use_double_quant"] = False
    out.say("quantization.double_quant", *([("bnb_config_kwargs", kwargs)] if kwargs else []))
    starting(out, "lora_model_dir")
    if method not in ("lora", AUTO):
        out.said |= {key for key in values if key.startswith("lora.")}
        return
    targets = values["lora.target_modules"]
    linear: tuple[str, Any] = ("lora_target_linear", True)
    out.say("lora.target_modules", linear if targets == "all-linear" else ("lora_target_modules", targets))
    out.same(_LORA)
    saved = values["lora.modules_to_save"]
    out.say("lora.modules_to_save", *([("lora_modules_to_save", saved)] if saved else []))
    out.words("lora.init", {"default": [], "pissa": [("peft_init_lora_weights", "pissa")]})


def _data(out: Outgoing) -> None:
    values, data = out.values, out.profile.data
    out.say("data.datasets", ("datasets", [_entry(out, number, entry) for number, entry in enumerate(data.datasets)]))
    if data.validation_path:
        first = data.datasets[0].model_copy(update={"max_samples": None, "path": data.validation_path})
        part = {"split": data.validation_split} if _has_parts(data.validation_path) else {}
        told = {**_entry(out, 0, first, quiet=True), "split": "train", **part}
        out.say("data.validation_path", ("test_datasets", [told]))
        out.said |= {"data.validation_fraction", "data.validation_rows", "data.validation_split"}
    else:
        out.say("data.validation_path")
        out.said.add("data.validation_split")
        share(out, "val_set_size")
    out.words(
        "data.template",
        {AUTO: [("chat_template", "tokenizer_default")], **_own_template(out)}
        | {ours: [("chat_template", theirs)] for ours, theirs in _TEMPLATES.items()},
    )
    out.say("data.system", *([("default_system_message", values["data.system"])] if values["data.system"] else []))
    out.words("data.mask", {"answers": [], "all": [("train_on_inputs", True)]})
    cut = {"cut": "truncate", "drop": "drop"}
    out.words("data.overlong", {word: [("excess_length_strategy", theirs)] for word, theirs in cut.items()})


def _own_template(out: Outgoing) -> dict[str, list[tuple[str, Any]]]:
    path = str(out.values["data.template"])
    return {path: [("chat_template", "jinja"), ("chat_template_jinja", path)]} if path.endswith(".jinja") else {}


def _has_parts(path: str) -> bool:
    return path.startswith(HUB) or not Path(path).suffix


def _entry(out: Outgoing, number: int, entry: Dataset, *, quiet: bool = False) -> dict[str, Any]:
    """One data set, with its columns where they are known."""
    name, _, revision = entry.path.removeprefix(HUB).partition("@")
    found: dict[str, Any] = {"path": name} if entry.path.startswith(HUB) else {"path": entry.path}
    if not _has_parts(entry.path):
        found["ds_type"] = {"jsonl": "json", "ndjson": "json", "tsv": "csv"}.get(
            Path(entry.path).suffix[1:], Path(entry.path).suffix[1:]
        )
    if revision and entry.path.startswith(HUB):
        found["revision"] = revision
    if entry.subset:
        found["name"] = entry.subset
    found |= part_of(out, entry)
    if entry.weight != 1.0 and not quiet:
        out.lost.append(Lost(f"data.datasets.{number}.weight", entry.weight, f"{out.tool} has no such setting"))
    rows = out.look(number) or told_rows(out, number, entry, quiet=quiet)
    if out.values["train.objective"] == "pretrain" and (rows is None or rows.layout != "text") and not quiet:
        out.lost.append(Lost("train.objective", "pretrain", "rows of plain text alone are read as pre-training there"))
    if (rows is None or rows.layout != "messages") and not quiet:
        lose_words(out, number, entry, "told there for rows of the type chat_template alone")
    if rows is not None and rows.layout == "messages":
        return found | _chat(out, number, entry, rows, quiet=quiet)
    return found | (_type(out, number, rows, quiet=quiet) if rows else {})


def _chat(out: Outgoing, number: int, entry: Dataset, rows: Rows, *, quiet: bool) -> dict[str, Any]:
    """Rows of messages: their columns, the parts of a message, and who speaks."""
    fields = _named(rows, {"messages": "field_messages", "system": "field_system"})
    role, content = rows.message_keys
    others = {ours: theirs for ours, theirs in entry.message_keys.items() if ours not in ("role", "content", "train")}
    found: dict[str, Any] = {"type": "chat_template", **fields}
    found["message_property_mappings"] = {"role": role, "content": content, **others}
    if "train" in entry.message_keys:
        found["message_field_training"] = entry.message_keys["train"]
    if entry.speakers:
        own = {ours: [word for word, its in entry.speakers.items() if its == ours] for ours in SPEAKERS}
        found["roles"] = {ours: [*own[ours], *usual] for ours, usual in SPEAKERS.items() if ours != "call"}
        if own["call"] and not quiet:
            reason = "a message that is a call has no role there"
            out.lost.append(Lost(f"data.datasets.{number}.speakers", own["call"], reason))
    return found


def _type(out: Outgoing, number: int, rows: Rows, *, quiet: bool) -> dict[str, Any]:
    lists = "messages" in rows.columns or rows.layout == "messages"
    if rows.layout == "text":
        if out.values["train.objective"] == "sft" and not quiet:
            reason = "rows of plain text are read as pre-training there"
            out.lost.append(Lost("train.objective", out.values["train.objective"], reason))
        return {"type": "completion", **_named(rows, {"text": "field"})}
    if rows.layout in ("preference", "judged"):
        fields = {role: f"field_{role}" for role in ("prompt", "chosen", "rejected", "completion", "label", "system")}
        if not quiet:
            out.lost.append(Lost(f"data.datasets.{number}.format", rows.layout, f"{_RULE}; its words stand in type"))
        if rows.lists and rows.layout == "preference":
            own = {"prompt": "field_messages", "chosen": "field_chosen", "rejected": "field_rejected"}
            mappings = dict(zip(("role", "content"), rows.message_keys, strict=True))
            return {"type": "chat_template.default", **_named(rows, own), "message_property_mappings": mappings}
        return {} if lists else {"type": _named(rows, fields)}
    if not quiet:
        out.lost.append(Lost(f"data.datasets.{number}.format", rows.layout, _ALPACA_PROMPT))
    if rows.layout == "alpaca" and set(rows.columns.values()) <= {"instruction", "input", "output", *_plain(rows)}:
        return {"type": "alpaca"}
    theirs = {
        "instruction": "field_instruction",
        "input": "field_input",
        "output": "field_output",
        "prompt": "field_instruction",
        "completion": "field_output",
        "system": "field_system",
    }
    return {"type": _named(rows, theirs)}


def _plain(rows: Rows) -> set[str]:
    return {column for role, column in rows.columns.items() if role == column}


def _named(rows: Rows, names: Mapping[str, str]) -> dict[str, str]:
    return {names[role]: column for role, column in rows.columns.items() if role in names}
