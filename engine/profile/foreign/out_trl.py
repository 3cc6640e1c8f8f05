"""A profile as the arguments of TRL's command line: `trl sft --config FILE` and its like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.profile.data_files import HUB
from engine.profile.foreign.outgoing import (
    AUTO,
    HUGGING_FACE,
    Lost,
    Outgoing,
    batch,
    lose_words,
    not_elsewhere,
    part_of,
    schedule,
    share,
    told_rows,
    warm_up,
)
from engine.profile.schema import Dataset

_COMMANDS = {"sft": "sft", "pretrain": "sft", "dpo": "dpo", "kto": "kto", "orpo": "orpo", "reward": "reward"}
_LORA = {
    "lora.r": "lora_r",
    "lora.alpha": "lora_alpha",
    "lora.dropout": "lora_dropout",
    "lora.use_rslora": "use_rslora",
    "lora.use_dora": "use_dora",
}
_LOADERS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".tsv": "csv"}


def export(out: Outgoing) -> None:
    """Fill `told` of `out`."""
    out.head.append(f"trl {_COMMANDS[out.values['train.objective']]} --config THIS_FILE")
    _model(out)
    _method(out)
    _data(out)
    batch(out)
    out.same(HUGGING_FACE)
    warm_up(out, ratio="warmup_steps")
    schedule(out)
    out.say("train.report_to", ("report_to", out.values["train.report_to"] or "none"))
    words = {
        True: [("gradient_checkpointing", True)],
        False: [("gradient_checkpointing", False)],
        "offload": [("gradient_checkpointing", True), ("activation_offloading", True)],
    }
    out.words("train.activation_checkpointing", words)
    if out.values["train.kernels"] == "liger":
        out.told["use_liger_kernel"] = True
    out.told["output_dir"] = f"outputs/{out.values['name'] or 'tunedeck'}"


def _model(out: Outgoing) -> None:
    out.say("model.name_or_path", ("model_name_or_path", out.values["model.name_or_path"]))
    out.same({"model.revision": "model_revision", "model.max_length": "max_length"})
    not_elsewhere(out)
    attention = {"packed": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
    out.words("model.attention", {word: [("attn_implementation", theirs)] for word, theirs in attention.items()})
    kinds = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    precise = {"bf16": [("bf16", True)], "fp16": [("fp16", True)], "fp32": [("bf16", False)]}
    out.words("model.dtype", {word: [("dtype", kinds[word]), *precise[word]] for word in kinds})


def _method(out: Outgoing) -> None:
    values, objective = out.values, out.values["train.objective"]
    out.said.add("train.objective")
    if objective not in ("sft",):
        reason = "the command says it" if objective != "pretrain" else "texts are learned as examples, each cut alone"
        out.lose("train.objective", reason)
    if objective in ("dpo", "orpo", "kto"):
        out.say("train.beta", ("beta", values["train.beta"]))
    else:
        out.said.add("train.beta")
    method, bits = values["tuning.method"], values["quantization.method"]
    out.words("tuning.method", {"lora": [("use_peft", True)], "full": [("use_peft", False)]})
    if method != "freeze":
        out.said.add("tuning.trainable_layers")
    four: dict[str, list[tuple[str, Any]]] = {
        word: [("load_in_4bit", True), ("bnb_4bit_quant_type", word)] for word in ("nf4", "fp4")
    }
    out.words("quantization.method", {"none": [], "int8": [("load_in_8bit", True)], **four})
    double = [("use_bnb_nested_quant", values["quantization.double_quant"])] if bits in four else []
    out.say("quantization.double_quant", *double)
    if method not in ("lora", AUTO):
        out.said |= {key for key in values if key.startswith("lora.")}
        return
    out.say("lora.target_modules", ("lora_target_modules", values["lora.target_modules"]))
    out.same(_LORA)
    saved = values["lora.modules_to_save"]
    out.say("lora.modules_to_save", *([("lora_modules_to_save", saved)] if saved else []))


def _data(out: Outgoing) -> None:
    values, data = out.values, out.profile.data
    out.say("data.datasets", ("datasets", [_entry(out, number, entry) for number, entry in enumerate(data.datasets)]))
    layouts = {rows.layout for rows in _rows(out)}
    if layouts == {"text"}:
        columns = {rows.columns.get("text", "text") for rows in _rows(out)}
        if len(columns) == 1:
            out.told["dataset_text_field"] = columns.pop()
    if data.validation_path:
        out.lose("data.validation_path", "rows are held out by share there (test_split_size)")
        out.said |= {"data.validation_fraction", "data.validation_rows", "data.validation_split"}
    else:
        out.say("data.validation_path")
        out.said.add("data.validation_split")
        share(out, "test_split_size")
        if not out.told["test_split_size"]:
            del out.told["test_split_size"]
    template = str(values["data.template"])
    if template.endswith(".jinja"):
        out.say("data.template", ("chat_template_path", template))
    _mask(out, layouts)
    out.same({"data.packing": "packing"})
    sides = {"right": [], "left": [("truncation_mode", "keep_end")]}
    out.words("model.truncation_side", sides)


def _rows(out: Outgoing) -> list[Any]:
    found = [
        out.look(number) or told_rows(out, number, entry, quiet=True)
        for number, entry in enumerate(out.profile.data.datasets)
    ]
    return [rows for rows in found if rows]


def _mask(out: Outgoing, layouts: set[str]) -> None:
    if out.values["train.objective"] != "sft":
        out.said.add("data.mask")
        return
    answers = [("completion_only_loss" if layouts == {"prompt-completion"} else "assistant_only_loss", True)]
    answers = answers if layouts != {"text"} else []
    out.words("data.mask", {"answers": answers, "all": [("completion_only_loss", False)]})


def _entry(out: Outgoing, number: int, entry: Dataset) -> dict[str, Any]:
    """One set: files go through the loader of their kind."""
    place = f"data.datasets.{number}"
    found: dict[str, Any] = {"path": entry.path}
    if entry.path.startswith(HUB):
        found["path"], _, revision = entry.path.removeprefix(HUB).partition("@")
        if revision:
            out.lost.append(Lost(f"{place}.path", entry.path, "the newest state is read there"))
    elif suffix := Path(entry.path).suffix:
        found = {"path": _LOADERS.get(suffix, suffix[1:]), "data_files": entry.path}
    if entry.subset:
        found["name"] = entry.subset
    found |= part_of(out, entry)
    if entry.weight != 1.0:
        out.lost.append(Lost(f"{place}.weight", entry.weight, f"{out.tool} has no such setting"))
    lose_words(out, number, entry, "messages have role and content there: rename them in the rows")
    rows = out.look(number) or told_rows(out, number, entry, quiet=True)
    others = {role: column for role, column in (rows.columns if rows else entry.columns).items() if column != role}
    if others and not (rows and rows.layout == "text"):
        out.lost.append(Lost(f"{place}.columns", others, "columns have fixed names there: rename them in the rows"))
    if rows and rows.layout == "alpaca":
        reason = "rows need messages, or prompt and completion, there"
        out.lost.append(Lost(f"{place}.format", rows.layout, reason))
    return found
