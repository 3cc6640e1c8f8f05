"""LLaMA-Factory's data sets: names in its `dataset_info.json`, or plain paths, as entries of a profile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.foreign import shared
from engine.profile.foreign.columns import (
    USUAL_CONTENT,
    USUAL_ROLE,
    carry_columns,
    carry_key,
    carry_speakers,
    layout_of,
    own_words,
)
from engine.profile.foreign.draft import Draft, integer, listed, names, shown
from engine.profile.foreign.told import Told
from engine.profile.tomltext import shown_path

INFO = "dataset_info.json"
MOST_SETS = 16
MAX_INFO_BYTES = 16 * 1024 * 1024
REMOTE, ONLINE = "REMOTE:", "ONLINE"
ROLES = {
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
        "tools": "tools",
    },
    "messages": {"messages": "messages", "system": "system", "tools": "tools"},
    "text": {"prompt": "text"},
    "preference": {
        "prompt": "prompt",
        "messages": "prompt",
        "query": "input",
        "history": "history",
        "chosen": "chosen",
        "rejected": "rejected",
        "system": "system",
        "tools": "tools",
    },
    "judged": {
        "prompt": "prompt",
        "query": "input",
        "history": "history",
        "response": "completion",
        "messages": "messages",
        "kto_tag": "label",
        "system": "system",
        "tools": "tools",
    },
}
"""Layout -> LLaMA-Factory's name of a column -> the role here."""
_SPEAKER_TAGS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
    "observation_tag": "tool",
    "function_tag": "call",
}
_PLACES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name")
"""Where a set is, in the order in which LLaMA-Factory looks."""


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """Training and held-out data of the file as `data.datasets` and `data.validation_path`.

    `folders` are where relative paths may start, first found first. Raises EngineError for a
    `dataset_info.json` that cannot be read.
    """
    entries = [_by_path(draft, "data_path", folders)] if draft.value("data_path") else []
    names_told = draft.read("dataset", names, list[str]())
    lists = _Lists(draft, folders, dataset_dir)
    entries += [_by_name(draft, name, lists, "dataset") for name in names_told]
    if entries:
        draft.put("data.datasets", entries, "dataset" if names_told else "data_path")
        draft.carry("dataset", "data_path")
    _held_out(draft, folders, lists, entries)
    _counts(draft, entries)
    _weights(draft, entries)
    _mixing(draft, entries)


class _Lists:
    """The names of `dataset_info.json` and the folder of their files, read when a name is first asked for."""

    def __init__(self, draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
        self.draft, self.folders, self.dataset_dir = draft, folders, dataset_dir
        self.asked = str(draft.value("dataset_dir", "data"))
        self._found: tuple[dict[str, Any], Path] | None = None

    @property
    def online(self) -> bool:
        """Whether names are those of sets on the hub."""
        return self.dataset_dir is None and self.asked == ONLINE

    def get(self) -> tuple[dict[str, Any], Path]:
        """The list and its folder; an empty one where there is none."""
        self._found = self._found or _info(self.draft, self.folders, self.dataset_dir, self.asked)
        return self._found


def _held_out(draft: Draft, folders: Sequence[Path], lists: _Lists, entries: Sequence[dict[str, Any]]) -> None:
    if draft.value("eval_data_path"):
        path = found_path(str(draft.value("eval_data_path")), folders)
        draft.put("data.validation_path", path, "eval_data_path")
        return
    if not draft.value("eval_dataset"):
        return
    told = draft.read("eval_dataset", names, list[str]())
    if not told:
        return
    first, *others = told
    entry = _by_name(draft, first, lists, "eval_dataset")
    draft.put("data.validation_path", entry["path"], "eval_dataset")
    columns_of_first(draft, "eval_dataset", entry, entries)
    for name in others:
        path = _by_name(draft, name, lists, "eval_dataset")["path"]
        further_rows(draft, "eval_dataset", shown(name), path)


def further_rows(draft: Draft, key: str, value: str, path: str) -> None:
    """More held-out sets than one: those of files are measured after training."""
    sets = dict(draft.settings.get("evaluate.sets", {}))
    name = Path(path).stem[:100]
    if path.startswith("hub:") or name in sets or len(sets) >= MOST_SETS:
        draft.note("left out", key, f"{value}: one held-out set is used while training")
        return
    draft.settings["evaluate.sets"] = {**sets, name: path}
    draft.origins["evaluate.sets"] = key
    draft.note("changed", key, f"{value}: measured by engine evaluate, not while training (evaluate.sets)")


def columns_of_first(draft: Draft, key: str, held_out: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
    """What held-out rows have of their own, which is read as the first data set's is."""
    same = entries[0] if entries else {}
    for name in ("columns", "format", "subset", "message_keys", "speakers"):
        if held_out.get(name) and held_out.get(name) != same.get(name):
            value = listed(held_out[name])
            draft.note("left out", f"{key} {name}", f"{value}: held-out rows are read as the first data set's")
    if held_out.get("split"):
        draft.put("data.validation_split", held_out["split"], key)
    if held_out.get("max_samples"):
        draft.note("left out", f"{key} max_samples", f"{held_out['max_samples']}: all held-out rows are used")


def _counts(draft: Draft, entries: Sequence[dict[str, Any]]) -> None:
    """`max_samples` counts for each set."""
    told = draft.value("max_samples")
    if told is None:
        return
    most = draft.read("max_samples", integer, 0)
    if not most:
        return
    for entry in entries:
        entry["max_samples"] = min(most, entry.get("max_samples", most))
    draft.carry("max_samples")
    if "data.validation_path" in draft.settings:
        draft.note("changed", "max_samples", f"{most} of each training set; all held-out rows are used")


def _mixing(draft: Draft, entries: Sequence[dict[str, Any]]) -> None:
    word = str(draft.value("mix_strategy", "concat"))
    alone = word == "concat" or len(entries) < 2
    for key in ("mix_strategy", "interleave_probs"):
        if draft.value(key) is not None:
            reason = "sets are put together and shuffled" + ("" if alone else "; a set's weight changes its share")
            draft.note("not needed" if alone else "left out", key, f"{shown(draft.value(key))}: {reason}")


def _weights(draft: Draft, entries: Sequence[dict[str, Any]]) -> None:
    weights = draft.value("task_weights")
    if not isinstance(weights, dict):
        return
    draft.opened.add("task_weights")
    task = str(draft.value("task_type", ""))
    for name, weight in weights.items():
        if name == task and entries:
            for entry in entries:
                entry["weight"] = weight
            draft.carry(f"task_weights.{name}")
        else:
            message = f"{shown(name)} = {shown(weight)}: no data set here is of this task; add one with this weight"
            draft.note("left out", f"task_weights.{name}", message)


def found_path(text: str, folders: Sequence[Path]) -> str:
    """The path made absolute: where it exists, else in the first folder."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # a person's folder that is not there
        path = path.expanduser()
    places = [folder / path for folder in folders]
    return str(next((place for place in places if place.exists()), places[0]).absolute())


def _by_path(draft: Draft, key: str, folders: Sequence[Path]) -> dict[str, Any]:
    return {"path": found_path(str(draft.value(key)), folders)}


def _info(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None, asked: str) -> tuple[dict[str, Any], Path]:
    """The names and the folder that their files are in; nothing where there is no such list."""
    if dataset_dir is None and asked.startswith(REMOTE):
        draft.note("left out", "dataset_dir", f"{shown(asked)}: {INFO} of the hub is not fetched; see --dataset-dir")
        return {}, folders[0]
    places = [dataset_dir] if dataset_dir else [folder / asked for folder in folders]
    home = next((place for place in places if (place / INFO).is_file()), None)
    if dataset_dir is not None and draft.value("dataset_dir") is not None:
        draft.note("changed", "dataset_dir", f"{shown(asked)}: --dataset-dir comes first")
    draft.carry("dataset_dir")
    if home is None:
        looked = ", ".join(dict.fromkeys(shown_path(place) for place in places))
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


def _by_name(draft: Draft, name: str, lists: _Lists, key: str) -> dict[str, Any]:
    if lists.online:
        draft.carry("dataset_dir")
        return {"path": shared.hub_path(name)}
    info, home = lists.get()
    found = info.get(name)
    if not isinstance(found, dict):
        if name in info:
            draft.note("left out", f"{INFO} {name}", f"{listed(found)}: no table of settings; taken for a file")
        elif info:
            draft.note("changed", key, f"{shown(name)} is not in {INFO}: taken for a file")
        return {"path": str((home / name).absolute())}
    root = f"{INFO} {name}"
    draft.told[root] = found
    return _entry(Told(draft, root, found), name, home)


def _entry(told: Told, name: str, home: Path) -> dict[str, Any]:
    told.empty_ones([*_PLACES, "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags"])
    layout = layout_of(str(told.draft.settings.get("train.objective", "sft")), lists=_lists(told))
    entry: dict[str, Any] = {"path": _place(told, name, home), **_columns(told, layout), **shared.split(told)}
    entry |= _tags(told)
    if told.look("num_samples"):
        count = told.read("num_samples", integer, 0)
        entry |= {"max_samples": count} if count else {}
        told.note(
            "changed" if count else "left out",
            "num_samples",
            f"{listed(told.look('num_samples'))}: its first rows, not chosen ones, and none twice",
        )
    ranked = layout == "preference" if told.look("ranking") else layout != "preference"
    told.note(
        "not needed" if ranked else "left out", "ranking", f"{shown(told.look('ranking'))}: the objective decides"
    )
    told.lose("folder", "a folder inside a set of the hub; name its files one by one")
    return entry


def _lists(told: Told) -> bool:
    word = str(told.look("formatting", "alpaca"))
    told.only("formatting", ("alpaca", "sharegpt", "openai"), "recognised from the columns")
    return word in ("sharegpt", "openai")


def _place(told: Told, name: str, home: Path) -> str:
    key = next((key for key in _PLACES if told.look(key)), "")
    file = str(told.take(key, name))
    for other in _PLACES:
        if other != key and other in told:
            told.needless(other, f"{key} comes first")
    if key in ("ms_hub_url", "om_hub_url"):
        told.note("changed", key, f"{shown(file)}: taken for a set of the Hugging Face hub")
    elif key in ("script_url", "cloud_file_name"):
        told.note("left out", key, f"{shown(file)}: put the rows into a file; nothing else is read")
    return shared.hub_path(file) if key.endswith("hub_url") else str((home / file).absolute())


def _columns(told: Told, layout: str) -> dict[str, Any]:
    columns = told.inner("columns")
    if columns is None:
        return {}
    named = carry_columns(columns, ROLES[layout], layout)
    for media in ("images", "videos", "audios"):
        columns.lose(media, "only text is trained here")
    others = {key: role for layout_ in ROLES.values() for key, role in layout_.items() if key not in ROLES[layout]}
    for key in others:
        columns.lose(key, f"a column for rows of another kind than these ({layout})")
    return {"columns": named} if named else {}


def _tags(told: Told) -> dict[str, Any]:
    """What messages call their parts and who speaks."""
    tags = told.inner("tags")
    if tags is None:
        return {}
    keys: dict[str, str] = {}
    speakers: dict[str, str] = {}
    carry_key(tags, "role_tag", "role", USUAL_ROLE, keys)
    carry_key(tags, "content_tag", "content", USUAL_CONTENT, keys)
    for name, speaker in _SPEAKER_TAGS.items():
        carry_speakers(tags, name, speaker, speakers)
    return own_words(keys, speakers)
