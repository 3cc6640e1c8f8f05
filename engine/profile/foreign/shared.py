"""Rules that LLaMA-Factory and Axolotl share: both extend transformers' TrainingArguments."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from engine.profile.foreign.draft import (
    Draft,
    Kind,
    Rule,
    integer,
    is_off,
    listed,
    names,
    number,
    shown,
    switch,
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


def model(draft: Draft, entry: Entry) -> None:
    """The model: a name, or a folder."""
    if not isinstance(entry.value, str):
        raise ValueError(f"{shown(entry.value)}: neither a name nor a folder")
    draft.put("model.name_or_path", model_path(draft, entry.value), entry.key)


def model_path(draft: Draft, text: str) -> str:
    """A model's folder or file as an absolute path, as a profile's paths start elsewhere; a name stays a name."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # a person's folder that is not there
        path = path.expanduser()
    there = [folder / path for folder in draft.folders if text not in ("", "demo") and (folder / path).exists()]
    if not there and text.startswith(("./", "../")):
        there = [folder / path for folder in draft.folders]
    return str(there[0].absolute()) if there else text


def adapter(draft: Draft, entry: Entry) -> None:
    """The adapter that training starts from: one folder."""
    found = names(entry.value)
    if draft.flag("create_new_adapter") or len(found) > 1:
        raise ValueError(f"{shown(entry.value)}: training starts from one adapter and goes on with it (tuning.adapter)")
    if found:
        draft.put("tuning.adapter", adapter_folder(draft, found[0]), entry.key)


def adapter_folder(draft: Draft, text: str) -> str:
    """Where an adapter is, absolute where it is found. Raises ValueError in words for one of the hub."""
    with contextlib.suppress(RuntimeError):  # a person's folder that is not there
        text = str(Path(text).expanduser())
    there = [folder / text for folder in draft.folders if (folder / text).is_dir()]
    if not there and not text.startswith((".", "/", "~")) and text.count("/") == 1 and _HUB_NAME.fullmatch(text):
        raise ValueError(f"{shown(text)}: no such folder; one of the hub must be fetched first (tuning.adapter)")
    return str((there or [folder / text for folder in draft.folders])[0].absolute())


def adapter_decides(draft: Draft) -> None:
    """Rank, scale and targets come from an adapter that training starts from."""
    if "tuning.adapter" not in draft.settings:
        return
    for key in [
        key for key in draft.settings if key.startswith("lora.") and key not in ("lora.plus_ratio", "lora.fused")
    ]:
        if draft.origins[key] in draft.told:
            draft.note("not needed", draft.origins[key], "the adapter that training starts from says it")
        del draft.settings[key]


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
            if draft.settings.pop("data.validation_rows", None) is not None:
                rows = draft.origins["data.validation_rows"]
                draft.note("left out", rows, f"{shown(draft.value(rows))}: {key} says that nothing is evaluated")
            draft.settings.pop("train.eval_steps", None)
        elif str(word) == "steps":
            draft.note("not needed", key, "steps: that is what train.eval_steps counts")
        else:
            draft.settings.pop("train.eval_steps", None)
            draft.note("changed", key, f"{shown(word)}: evaluation is spread over the run (train.eval_steps)")


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
