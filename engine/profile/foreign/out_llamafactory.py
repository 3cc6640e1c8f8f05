"""A profile in LLaMA-Factory's words: its YAML, and the `dataset_info.json` that names its data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.profile.data_files import HUB
from engine.profile.foreign.dataset_info import INFO
from engine.profile.foreign.dataset_info import ROLES as THEIR_ROLES
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
    own_word,
    schedule,
    share,
    starting,
    told_rows,
    warm_up,
)
from engine.profile.foreign.shared import TEMPLATES
from engine.profile.schema import Dataset

_STAGES = {"sft": "sft", "pretrain": "pt", "dpo": "dpo", "orpo": "dpo", "kto": "kto", "reward": "rm"}
_NO_LISTS = "told there for lists of messages alone"
_LORA = {
    "lora.r": "lora_rank",
    "lora.alpha": "lora_alpha",
    "lora.dropout": "lora_dropout",
    "lora.plus_ratio": "loraplus_lr_ratio",
    "lora.use_rslora": "use_rslora",
    "lora.use_dora": "use_dora",
}


def export(out: Outgoing) -> None:
    """Fill `told` and `files` of `out`."""
    out.head.append("llamafactory-cli train THIS_FILE")
    _model(out)
    _method(out)
    _data(out)
    batch(out)
    out.same({key: name for key, name in HUGGING_FACE.items() if key != "model.trust_remote_code"})
    warm_up(out)
    schedule(out)
    patience = out.values["train.early_stopping_patience"]
    if patience is not None and "train.early_stopping_patience" not in out.said:
        out.say("train.early_stopping_patience", ("early_stopping_steps", patience))
    out.say("train.report_to", ("report_to", out.values["train.report_to"] or "none"))
    off = [("disable_gradient_checkpointing", True)]
    out.words("train.activation_checkpointing", {True: [], False: off})
    if out.values["train.kernels"] == "liger":
        out.told["enable_liger_kernel"] = True
    out.told["output_dir"] = f"saves/{out.values['name'] or 'tunedeck'}"


def _model(out: Outgoing) -> None:
    out.say("model.name_or_path", ("model_name_or_path", out.values["model.name_or_path"]))
    out.same(
        {
            "model.revision": "model_revision",
            "model.trust_remote_code": "trust_remote_code",
            "model.max_length": "cutoff_len",
        }
    )
    not_elsewhere(out)
    attention = {"packed": "fa2", "sdpa": "sdpa", "eager": "disabled"}
    out.words("model.attention", {word: [("flash_attn", theirs)] for word, theirs in attention.items()})
    out.words("model.dtype", {"bf16": [("bf16", True)], "fp16": [("fp16", True)]})
    out.words("model.initialise", {"pretrained": [], "random": [("train_from_scratch", True)]})
    marks = out.values["model.additional_special_tokens"]
    out.say("model.additional_special_tokens", *([("add_special_tokens", ",".join(marks))] if marks else []))
    if any("," in mark for mark in marks):
        out.lose("model.additional_special_tokens", "marks with a comma cannot be told there")


def _method(out: Outgoing) -> None:
    values, objective = out.values, out.values["train.objective"]
    loss = [("pref_loss", "orpo" if objective == "orpo" else "sigmoid")] if _STAGES[objective] == "dpo" else []
    out.say("train.objective", ("stage", _STAGES[objective]), ("do_train", True), *loss)
    if objective in ("dpo", "orpo", "kto"):
        out.say("train.beta", ("pref_beta", values["train.beta"]))
    else:
        out.said.add("train.beta")
    method = values["tuning.method"]
    out.words("tuning.method", {word: [("finetuning_type", word)] for word in ("lora", "freeze", "full")})
    if method == "freeze":
        out.same({"tuning.trainable_layers": "freeze_trainable_layers"})
    else:
        out.said.add("tuning.trainable_layers")
    bits: Words = {
        "none": [],
        "nf4": [("quantization_bit", 4), ("quantization_type", "nf4")],
        "fp4": [("quantization_bit", 4), ("quantization_type", "fp4")],
        "int8": [("quantization_bit", 8)],
    }
    out.words("quantization.method", bits)
    four = values["quantization.method"] in ("nf4", "fp4")
    double = [("double_quantization", values["quantization.double_quant"])] if four else []
    out.say("quantization.double_quant", *double)
    starting(out, "adapter_name_or_path")
    if method not in ("lora", AUTO):
        out.said |= {key for key in values if key.startswith("lora.")}
        return
    targets = values["lora.target_modules"]
    out.say("lora.target_modules", ("lora_target", "all" if targets == "all-linear" else ",".join(targets)))
    out.same(_LORA)
    saved = values["lora.modules_to_save"]
    out.say("lora.modules_to_save", *([("additional_target", ",".join(saved))] if saved else []))
    out.words("lora.init", {"default": [], "pissa": [("pissa_init", True)]})


def _data(out: Outgoing) -> None:
    values, data = out.values, out.profile.data
    info: dict[str, Any] = {}
    names = [_name(entry.path, info, _entry(out, number, entry)) for number, entry in enumerate(data.datasets)]
    out.say("data.datasets", ("dataset", ",".join(names)), ("dataset_dir", "."))
    _counts(out)
    if data.validation_path:
        entry = _entry(out, 0, data.datasets[0].model_copy(update={"max_samples": None}))
        entry = _place(out, "data.validation_path", data.validation_path, entry)
        if data.validation_path.startswith(HUB):
            entry["split"] = data.validation_split
        out.say("data.validation_path", ("eval_dataset", _name(data.validation_path, info, entry)))
        out.said |= {"data.validation_fraction", "data.validation_rows", "data.validation_split"}
    else:
        out.say("data.validation_path")
        out.said.add("data.validation_split")
        share(out, "val_size")
    known = {ours: theirs for theirs, ours in reversed(TEMPLATES.items()) if ours != AUTO}
    template = values["data.template"]
    if template == AUTO:
        out.said.add("data.template")
    elif template in known:
        out.say("data.template", ("template", known[template]))
    arguments = values["data.template_arguments"]
    if not arguments or set(arguments) == {"enable_thinking"}:
        out.say("data.template_arguments", *arguments.items())
    out.say("data.system", *([("default_system", values["data.system"])] if values["data.system"] else []))
    masks = {"answers": [], "all": [("train_on_prompt", True)], "last": [("mask_history", True)]}
    out.words("data.mask", masks)
    packed = values["data.packing"]
    out.say("data.packing", *([("neat_packing", True)] if packed else [("packing", False)]))
    out.files[INFO] = info


def _name(path: str, info: dict[str, Any], entry: dict[str, Any]) -> str:
    stem = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in Path(path).stem) or "data"
    name = next(word for word in [stem, *(f"{stem}_{number}" for number in range(2, 2000))] if word not in info)
    info[name] = entry
    return name


def _counts(out: Outgoing) -> None:
    """`max_samples` counts for each set there; a number of all sets together is only sayable of one."""
    sets = out.profile.data.datasets
    counts = {entry.max_samples for entry in sets}
    whole = out.profile.data.max_samples
    if whole is not None and len(sets) == 1:
        most = min([whole, *(count for count in counts if count)])
        out.say("data.max_samples", ("max_samples", most))
    elif whole is None:
        out.said.add("data.max_samples")
        if len(counts) == 1 and None not in counts:
            out.told["max_samples"] = counts.pop()


def _entry(out: Outgoing, number: int, entry: Dataset) -> dict[str, Any]:
    """One entry of `dataset_info.json`."""
    found = _place(out, f"data.datasets.{number}.path", entry.path, {})
    if entry.subset:
        found["subset"] = entry.subset
    if entry.split != "train" and (entry.path.startswith(HUB) or not Path(entry.path).suffix):
        found["split"] = entry.split
    same = len({one.max_samples for one in out.profile.data.datasets}) == 1
    if entry.max_samples and not same:
        found["num_samples"] = entry.max_samples
        out.lost.append(
            Lost(f"data.datasets.{number}.max_samples", entry.max_samples, "chosen at random there, not the first ones")
        )
    if entry.weight != 1.0:
        out.lost.append(Lost(f"data.datasets.{number}.weight", entry.weight, f"{out.tool} has no such setting"))
    return found | _layout(out, number, entry)


def _place(out: Outgoing, key: str, path: str, entry: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in entry.items() if name not in ("file_name", "hf_hub_url")}
    if not path.startswith(HUB):
        return {"file_name": path, **others}
    name, _, revision = path.removeprefix(HUB).partition("@")
    if revision:
        out.lost.append(Lost(key, path, "the newest state is read there"))
    return {"hf_hub_url": name, **others}


def _layout(out: Outgoing, number: int, entry: Dataset) -> dict[str, Any]:
    rows = out.look(number) or told_rows(out, number, entry)
    objective = out.values["train.objective"]
    ranked = {"ranking": True} if objective in ("dpo", "orpo", "reward") else {}
    if rows is None:
        lose_words(out, number, entry, _NO_LISTS)
        return ranked
    if rows.layout == "text" and objective == "sft":
        out.lost.append(Lost("train.objective", objective, "plain text is learned by stage pt alone there"))
    layout = {"prompt-completion": "alpaca"}.get(rows.layout, rows.layout)
    lists = rows.lists or layout == "messages" or "messages" in rows.columns
    roles = {ours: theirs for theirs, ours in reversed(THEIR_ROLES[layout].items())}
    if rows.layout == "prompt-completion":
        roles |= {"prompt": "prompt", "completion": "response"}
    named = {roles[role]: column for role, column in rows.columns.items() if role in roles}
    if lists:
        named = {("messages" if theirs == "prompt" else theirs): column for theirs, column in named.items()}
    found: dict[str, Any] = {"formatting": "sharegpt"} if lists else {}
    if lists:
        found["tags"] = _tags(out, number, entry, rows)
    else:
        lose_words(out, number, entry, _NO_LISTS)
    return {**found, **ranked, **({"columns": named} if named else {})}


def _tags(out: Outgoing, number: int, entry: Dataset, rows: Rows) -> dict[str, str]:
    """What messages call their parts and who speaks: one word for each there."""
    (role, content), (user, assistant) = rows.message_keys, rows.speakers
    tags = {"role_tag": role, "content_tag": content, "user_tag": user, "assistant_tag": assistant}
    tags["system_tag"] = own_word(entry, "system")
    for ours, theirs in (("tool", "observation_tag"), ("call", "function_tag")):
        if ours in entry.speakers.values():
            tags[theirs] = own_word(entry, ours)
    more = {word: ours for word, ours in entry.speakers.items() if word not in tags.values()}
    others = {ours: theirs for ours, theirs in entry.message_keys.items() if ours not in ("role", "content")}
    for name, lost in (("speakers", more), ("message_keys", others)):
        if lost:
            out.lost.append(Lost(f"data.datasets.{number}.{name}", lost, "there is no tag for it there"))
    return tags
