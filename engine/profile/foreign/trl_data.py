"""Data of TRL and Unsloth scripts as entries of a profile: one set by name, a file, or TRL's list of sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.profile.data_files import HUB, SUFFIXES, TEXT_SUFFIX
from engine.profile.foreign import shared
from engine.profile.foreign.axolotl_data import LOADERS
from engine.profile.foreign.dataset_info import found_path
from engine.profile.foreign.draft import Draft, is_off, listed, names, shown
from engine.profile.foreign.told import Told

_ONE = ("dataset_name", "dataset", "dataset_path", "train_file", "local_dataset", "data_files")
_HELD_OUT = ("eval_file", "validation_file")
_CONFIG = ("dataset_config", "dataset_config_name")
_SPLIT = ("dataset_train_split", "split")


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """The sets as `data.datasets`; relative paths start from `folders`."""
    places = [dataset_dir, *folders] if dataset_dir else list(folders)
    entries = _mixture(draft, places) or _single(draft, places)
    if entries:
        draft.settings["data.datasets"] = entries
        draft.origins["data.datasets"] = "datasets" if draft.value("datasets") else "dataset_name"
    _held_out(draft, places, entries)


def _mixture(draft: Draft, places: Sequence[Path]) -> list[dict[str, Any]]:
    told = draft.value("datasets")
    if not isinstance(told, list):
        return []
    draft.opened.add("datasets")
    entries: list[dict[str, Any]] = []
    for number, item in enumerate(told):
        table = Told(draft, f"datasets.{number}", item if isinstance(item, dict) else {})
        if not isinstance(item, dict):
            draft.note("left out", f"datasets.{number}", f"{listed(item)}: no table with a path")
        elif table.look("path"):
            entries += _entry(table, places)
    return entries


def _entry(table: Told, places: Sequence[Path]) -> list[dict[str, Any]]:
    """One entry a file."""
    table.empty_ones(("name", "data_dir", "data_files", "split", "columns"))
    table.lose("data_dir", "a folder inside a set; name its files one by one")
    table.needless("columns", "columns that are not used are not read")
    word, files = str(table.take("path")), table.look("data_files")
    paths = [_place(word, places)]
    if files and word in LOADERS:
        table.take("data_files")
        paths = [found_path(str(file), places) for file in (files if isinstance(files, list) else [files])]
    else:
        table.lose("data_files", "a split of the set is read (split), not single files")
    part = shared.split(table)
    return [{"path": path, **part} for path in paths]


def _single(draft: Draft, places: Sequence[Path]) -> list[dict[str, Any]]:
    keys = [key for key in _ONE if draft.value(key) is not None and not is_off(draft.value(key))]
    if not keys:
        return []
    if draft.value("data_files") is not None and str(draft.value(keys[0])) in LOADERS:
        draft.note("not needed", keys[0], f"{shown(draft.value(keys[0]))}: the kind of file is read from the file")
        keys = ["data_files"]
    first, *others = keys
    draft.carry(first)
    for key in others:
        draft.note("left out", key, f"{listed(draft.value(key))}: {first} comes first")
    part = _part(draft)
    paths = draft.read(first, names, list[str]())
    return [{"path": _place(path, places), **part} for path in paths]


def _part(draft: Draft) -> dict[str, Any]:
    """Split, configuration and text column of the one set."""
    names_of = {"split": _first(draft, _SPLIT), "subset": _first(draft, _CONFIG)}
    told = {role: draft.value(key) for role, key in names_of.items() if key}
    draft.told["the data set"] = told
    part = shared.split(Told(draft, "the data set", told))
    draft.carry(*(key for key in names_of.values() if key))
    field = draft.value("dataset_text_field")
    draft.carry("dataset_text_field")
    if field and draft.settings["train.objective"] in ("sft", "pretrain") and str(field) != "messages":
        part["format"] = "text"
        if str(field) != "text":
            part["columns"] = {"text": str(field)}
    return part


def _first(draft: Draft, keys: Sequence[str]) -> str:
    return next((key for key in keys if draft.value(key) is not None), "")


def _held_out(draft: Draft, places: Sequence[Path], entries: Sequence[dict[str, Any]]) -> None:
    file, split = _first(draft, _HELD_OUT), draft.value("dataset_test_split")
    quiet = is_off(draft.value("eval_strategy", draft.value("evaluation_strategy")))
    if file:
        draft.put("data.validation_path", _place(str(draft.value(file)), places), file)
    elif split is not None and not quiet and entries and _has_parts(entries[0]["path"]):
        draft.put("data.validation_path", entries[0]["path"], "dataset_test_split")
        draft.put("data.validation_split", str(split), "dataset_test_split")
    elif split is not None:
        draft.note("not needed" if quiet else "left out", "dataset_test_split", f"{shown(split)}: nothing is held out")


def _has_parts(path: str) -> bool:
    return path.startswith(HUB) or Path(path).is_dir()


def _place(text: str, places: Sequence[Path]) -> str:
    if text.startswith((HUB, "demo:")):
        return text
    here = found_path(text, places)
    local = Path(here).exists() or Path(text).suffix in (*SUFFIXES, TEXT_SUFFIX)
    return here if local else shared.hub_path(text)
