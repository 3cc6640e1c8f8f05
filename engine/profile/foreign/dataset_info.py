"""LLaMA-Factory's data sets: names in its `dataset_info.json`, or plain paths, as entries of a profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.foreign import shared
from engine.profile.foreign.draft import Draft, names, shown
from engine.profile.tomltext import shown_path

INFO = "dataset_info.json"
MAX_INFO_BYTES = 16 * 1024 * 1024
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
_MESSAGES = {"messages": "messages", "system": "system"}
_USUAL = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
    "messages": "conversations",
}
"""Columns that LLaMA-Factory takes when an entry names none."""
_ROLE_TAGS = {"role_tag": ("from", "role"), "content_tag": ("value", "content")}


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """Training and held-out data of the file as `data.datasets` and `data.validation_path`.

    `folders` are where relative paths may start, first found first. Raises EngineError for a
    `dataset_info.json` that cannot be read.
    """
    entries = [_by_path(draft, "data_path", folders)] if draft.value("data_path") else []
    if draft.value("dataset"):
        info, home = _info(draft, folders, dataset_dir)
        entries += [_by_name(draft, name, info, home) for name in names(draft.value("dataset"))]
    if entries:
        draft.put("data.datasets", entries, "dataset" if draft.value("dataset") else "data_path")
    _held_out(draft, folders, dataset_dir)
    _weights(draft, entries)


def _held_out(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    if draft.value("eval_data_path"):
        path = found_path(str(draft.value("eval_data_path")), folders)
        draft.put("data.validation_path", path, "eval_data_path")
    elif draft.value("eval_dataset"):
        info, home = _info(draft, folders, dataset_dir)
        first, *others = names(draft.value("eval_dataset"))
        draft.put("data.validation_path", _by_name(draft, first, info, home)["path"], "eval_dataset")
        if others:
            draft.note("left out", "eval_dataset", f"{', '.join(map(shown, others))}: one held-out file is used")


def _weights(draft: Draft, entries: Sequence[dict[str, Any]]) -> None:
    weights = draft.value("task_weights")
    if not isinstance(weights, dict):
        return
    task = str(draft.value("task_type", ""))
    for name, weight in weights.items():
        if name == task and entries:
            for entry in entries:
                entry["weight"] = float(weight)
        else:
            message = f"{shown(name)} = {shown(weight)}: no data set here is of this task; add one with this weight"
            draft.note("left out", "task_weights", message)


def found_path(text: str, folders: Sequence[Path]) -> str:
    """The path made absolute: where it exists, else in the first folder."""
    places = [folder / Path(text).expanduser() for folder in folders]
    return str(next((place for place in places if place.exists()), places[0]).absolute())


def _by_path(draft: Draft, key: str, folders: Sequence[Path]) -> dict[str, Any]:
    return {"path": found_path(str(draft.value(key)), folders)}


def _info(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> tuple[dict[str, Any], Path]:
    """The names and the folder that their files are in; nothing where there is no such list."""
    asked = str(draft.value("dataset_dir", "data"))
    places = [dataset_dir] if dataset_dir else [folder / asked for folder in folders]
    home = next((place for place in places if (place / INFO).is_file()), None)
    if home is None:
        looked = ", ".join(shown_path(place) for place in places)
        draft.note("changed", "dataset", f"no {INFO} in {looked}: names were taken for files; see --dataset-dir")
        return {}, places[0]
    return _read_info(home / INFO), home


def _read_info(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_INFO_BYTES:
            raise ValueError("larger than 16 MiB")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        message = f"cannot be read: {shown(error)}"
        raise EngineError(message, code=ExitCode.PROFILE, where=shown_path(path), hint="give --dataset-dir") from None
    if not isinstance(found, dict):
        raise EngineError("is not a list of data sets", code=ExitCode.PROFILE, where=shown_path(path))
    return found


def _by_name(draft: Draft, name: str, info: dict[str, Any], home: Path) -> dict[str, Any]:
    told = info.get(name)
    if not isinstance(told, dict):
        if info:
            draft.note("changed", "dataset", f"{shown(name)} is not in {INFO}: taken for a file")
        return {"path": str((home / name).absolute())}
    file = next((told[key] for key in ("file_name", "hf_hub_url", "ms_hub_url") if key in told), name)
    path = str((home / str(file)).absolute()) if "file_name" in told else shared.hub_path(str(file))
    entry: dict[str, Any] = {"path": path, **_layout(draft, name, told)}
    entry |= shared.split(draft, "dataset", told)
    if told.get("num_samples"):
        entry["max_samples"] = int(told["num_samples"])
    return entry


def _layout(draft: Draft, name: str, told: dict[str, Any]) -> dict[str, Any]:
    """Format and columns of an entry; what the automatic recognition finds anyway is left to it."""
    columns = {str(role): str(column) for role, column in (told.get("columns") or {}).items()}
    lists = told.get("formatting", "alpaca") in ("sharegpt", "openai")
    for media in sorted({"images", "videos", "audios", "tools"} & set(columns)):
        draft.note("left out", "dataset", f"{shown(name)}: column '{media}' is not read")
    for tag, usual in _ROLE_TAGS.items():
        given = (told.get("tags") or {}).get(tag, usual[0])
        if given not in usual:
            draft.note("left out", "dataset", f"{shown(name)}: {tag} = {shown(given)}: known are {', '.join(usual)}")
    roles = _MESSAGES if lists else _ALPACA
    renamed = {ours: columns[theirs] for theirs, ours in roles.items() if theirs in columns}
    odd = {ours: column for ours, column in renamed.items() if column not in (ours, _USUAL.get(ours), "messages")}
    return {"columns": odd} if odd else {}
