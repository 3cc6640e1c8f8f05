"""Axolotl's `datasets`, `test_datasets` and `pretraining_dataset` as entries of a profile, read key by key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.profile.data_files import HUB, SUFFIXES, TEXT_SUFFIX
from engine.profile.foreign import shared
from engine.profile.foreign.columns import (
    LEARNED,
    SPEAKERS,
    THOUGHTS,
    USUAL_CONTENT,
    USUAL_ROLE,
    carry_columns,
    carry_key,
    carry_speakers,
    layout_of,
    own_words,
)
from engine.profile.foreign.dataset_info import columns_of_first, found_path, further_rows
from engine.profile.foreign.draft import Draft, is_off, listed, shown
from engine.profile.foreign.told import Told

_FORMATS = {"alpaca": "alpaca", "chat_template": "messages", "completion": "text", "pretrain": "text"}
LOADERS = ("json", "jsonl", "csv", "parquet", "arrow", "text")
_ROLES: dict[str, dict[str, str]] = {
    "alpaca": {},
    "messages": {"field_messages": "messages", "field_system": "system", "field_tools": "tools"},
    "text": {"field": "text", "text_column": "text"},
    "preference": {"field_messages": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"},
    "judged": {},
}
_CUSTOM: dict[str, dict[str, str]] = {
    "alpaca": {
        "field_instruction": "instruction",
        "field_input": "input",
        "field_output": "output",
        "field_system": "system",
    },
    "preference": {
        "field_prompt": "prompt",
        "field_chosen": "chosen",
        "field_rejected": "rejected",
        "field_system": "system",
    },
    "judged": {
        "field_prompt": "prompt",
        "field_completion": "completion",
        "field_label": "label",
        "field_system": "system",
    },
}
"""Layout -> a table under `type` -> the role here."""
_FORMAT_KEYS = (
    "format",
    "no_input_format",
    "system_format",
    "prompt_format",
    "chosen_format",
    "rejected_format",
    "completion_format",
)
_PROPERTIES = {
    "role": USUAL_ROLE,
    "content": USUAL_CONTENT,
    "reasoning_content": THOUGHTS,
    "tool_calls": ("tool_calls", "function_call"),
    "tool_call_id": ("tool_call_id", "call_id"),
    "name": ("name",),
}
"""Parts of a message and the keys that are read for them anyway."""
_KEYS = (
    "path",
    "name",
    "split",
    "type",
    "data_files",
    "ds_type",
    "field",
    "text_column",
    "field_messages",
    "field_system",
    "field_tools",
    "field_chosen",
    "field_rejected",
    "field_human",
    "field_model",
    "field_thinking",
    "template_thinking_key",
    "split_thinking",
    "input_transform",
    "input_format",
    "conversation",
    "message_field_role",
    "message_field_content",
    "message_field_training",
    "message_field_training_detail",
    "message_property_mappings",
    "roles",
    "roles_to_train",
    "train_on_eos",
    "train_on_eot",
    "drop_system_message",
    "chat_template",
    "chat_template_jinja",
    "shards",
    "shards_idx",
    "preprocess_shards",
    "trust_remote_code",
    "revision",
    "skip",
    "step_separator",
    "max_completion_length",
    "train_on_last_step_only",
)
"""Keys of a data set, which say nothing while they are empty."""
_OWN_PROMPT = "rows are rendered with the chat template (data.template)"
_ALL_ROWS = "all rows of a set are read; weight = 0.1 takes a random tenth"


def attach_data(draft: Draft, folders: Sequence[Path], dataset_dir: Path | None) -> None:
    """`datasets` and `test_datasets` as entries of a profile; relative paths start from `folders`."""
    places = [dataset_dir, *folders] if dataset_dir else list(folders)
    key = "pretraining_dataset" if draft.value("pretraining_dataset") else "datasets"
    if key == "pretraining_dataset" and draft.value("datasets"):
        draft.note("left out", "datasets", f"{listed(draft.value('datasets'))}: pretraining_dataset comes first")
    entries = [entry for told in _tables(draft, key) for entry in _dataset(told, places)]
    if entries:
        draft.put("data.datasets", entries, key)
    _held_out(draft, places, entries)


def _tables(draft: Draft, key: str) -> list[Told]:
    value = draft.value(key, [])
    listed_ = value if isinstance(value, list) else [value]
    tables = []
    for number, entry in enumerate(listed_):
        place = f"{key}.{number}" if isinstance(value, list) else key
        if isinstance(entry, dict):
            tables.append(Told(draft, place, entry))
        else:
            draft.carry(place)
            tables.append(Told(draft, f"{place} path", {"path": str(entry)}))
    return tables


def _held_out(draft: Draft, places: Sequence[Path], entries: Sequence[dict[str, Any]]) -> None:
    tables = _tables(draft, "test_datasets")
    if not tables:
        return
    found = [(told, entry) for told in tables for entry in _dataset(told, places)]
    if not found:
        return
    first, *others = found
    path = first[1]["path"]
    draft.put("data.validation_path", path, "test_datasets")
    columns_of_first(draft, first[0].place, first[1], entries)
    if path.startswith(HUB) or Path(path).is_dir():
        draft.put("data.validation_split", first[1].get("split", "train"), "test_datasets")
    draft.settings.pop("data.validation_fraction", None)
    draft.settings.pop("data.validation_rows", None)
    if draft.value("val_set_size"):
        draft.note("left out", "val_set_size", f"{shown(draft.value('val_set_size'))}: test_datasets are held out")
    for told, entry in others:
        value = listed(told.values) if told.values else shown(entry["path"])
        further_rows(draft, told.place, value, entry["path"])


def _dataset(told: Told, places: Sequence[Path]) -> list[dict[str, Any]]:
    """One entry a file."""
    if not told.look("path") and not told.look("data_files"):
        told.draft.note("left out", told.place, f"{listed(told.values)}: neither path nor data_files")
        return []
    told.empty_ones(_KEYS)
    word, layout = _type_word(told), _layout(told)
    compares = layout in ("preference", "judged")
    found: dict[str, Any] = {} if compares or word not in _FORMATS else {"format": _FORMATS[word]}
    if isinstance(told.look("type"), dict):
        columns = _custom_type(told, layout if compares else "alpaca")
    else:
        _named_type(told, word, compares=compares)
        columns = carry_columns(told, _ROLES[layout], layout)
    found |= shared.split(told)
    found |= _messages(told)
    _learned(told)
    _template(told)
    _shares(told)
    columns_table = {"columns": columns} if columns else {}
    return [{"path": path, **found, **columns_table} for path in _paths(told, places)]


def _layout(told: Told) -> str:
    """The layout of a set's rows: by the objective, its type, else by which columns it names."""
    objective, word = str(told.draft.settings.get("train.objective", "sft")), _type_word(told)
    if word in _FORMATS and objective in ("sft", "pretrain"):
        return _FORMATS[word]
    return layout_of(objective, lists=bool(told.look("field_messages")))


def _type_word(told: Told) -> str:
    kind = told.look("type")
    return kind.partition(".")[0].partition(":")[0] if isinstance(kind, str) else ""


def _named_type(told: Told, word: str, *, compares: bool) -> None:
    kind = told.take("type")
    if kind is None:
        return
    if compares:
        told.note("changed", "type", f"{shown(kind)}: the objective says what is compared; {_OWN_PROMPT}")
    elif word not in _FORMATS:
        told.note("changed", "type", f"{shown(kind)}: recognised from the columns instead; {_OWN_PROMPT}")
    elif word == "alpaca" and told.draft.value("chat_template") is None:
        told.note("changed", "type", f"{shown(kind)}: {_OWN_PROMPT}; data.template = 'alpaca' is nearer to it")
    elif kind not in _FORMATS:
        told.note("changed", "type", f"{shown(kind)}: read as {word}; {_OWN_PROMPT}")


def _custom_type(told: Told, layout: str) -> dict[str, str]:
    inner = told.inner("type")
    if inner is None:
        told.needless("type", "empty")
        return {}
    inner.empty_ones([*_CUSTOM[layout], "system_prompt", *_FORMAT_KEYS])
    if inner.look("system_prompt"):
        _system(inner)
    for key in inner:
        if key in _FORMAT_KEYS:
            inner.lose(key, _OWN_PROMPT)
    return carry_columns(inner, _CUSTOM[layout], layout)


def _system(inner: Told) -> None:
    """`system_prompt` of a set is the system message of all, where no other set says otherwise."""
    text = str(inner.take("system_prompt"))
    before = inner.draft.settings.get("data.system")
    if before not in (None, text):
        inner.note("left out", "system_prompt", f"{shown(text)}: another one is taken; all sets have one (data.system)")
        return
    inner.draft.put("data.system", text, f"{inner.place}.system_prompt")


def _messages(told: Told) -> dict[str, Any]:
    """How messages and their speakers are called."""
    keys: dict[str, str] = {}
    speakers: dict[str, str] = {}
    carry_key(told, "message_field_role", "role", USUAL_ROLE, keys)
    carry_key(told, "message_field_content", "content", USUAL_CONTENT, keys)
    carry_key(told, "message_field_training", "train", LEARNED, keys)
    carry_key(told, "field_thinking", "reasoning_content", THOUGHTS, keys)
    told.only("template_thinking_key", THOUGHTS, "the chat template reads thoughts by the key that it knows")
    told.only("split_thinking", (False,), "thoughts within an answer's text stay in it")
    mappings = told.inner("message_property_mappings")
    if mappings is not None:
        for name, usual in _PROPERTIES.items():
            carry_key(mappings, name, name, usual, keys)
    roles = told.inner("roles")
    if roles is not None:
        for speaker in roles:
            carry_speakers(roles, speaker, speaker, speakers)
    told.lose("drop_system_message", "system messages stay; leave them out of the rows")
    return own_words(keys, speakers)


def _learned(told: Told) -> None:
    """What the loss sees of a conversation."""
    words = told.look("roles_to_train")
    listed_ = words if isinstance(words, list) else [words]
    roles = told.look("roles")
    aliases = roles.get("assistant") if isinstance(roles, dict) else None
    known = [*SPEAKERS["assistant"], *(map(str, aliases) if isinstance(aliases, list) else [])]
    answers = all(str(word) in known for word in listed_)
    reason = "answers are learned" if answers else "answers alone are learned; data.mask = 'all' learns prompts too"
    told.note("not needed" if answers else "left out", "roles_to_train", f"{shown(words)}: {reason}")
    for key in ("train_on_eos", "train_on_eot"):
        told.only(key, ("turn",), "the end of every learned answer is learned")


def _template(told: Told) -> None:
    word = told.look("chat_template")
    if word is not None and str(word) != "tokenizer_default":
        same = str(word) == str(told.draft.value("chat_template"))
        reason = "as chat_template" if same else "all sets have one chat template (data.template)"
        told.note("not needed" if same else "left out", "chat_template", f"{shown(word)}: {reason}")
    else:
        told.needless("chat_template", "the model's own")
    told.lose("chat_template_jinja", "all sets have one chat template (data.template)")


def _shares(told: Told) -> None:
    told.only("shards", (1,), _ALL_ROWS)
    if is_off(told.look("shards")) or told.look("shards") == 1:
        told.needless("shards_idx", "a detail of shards")
    else:
        told.note("left out", "shards_idx", f"{shown(told.look('shards_idx'))}: {_ALL_ROWS}")
    told.needless("preprocess_shards", "rows pass through memory in parts")
    told.only("trust_remote_code", (False,), "scripts of data sets are not run")
    told.lose("skip", "the first rows are read too")


def _paths(told: Told, places: Sequence[Path]) -> list[str]:
    """The files of a set, or its name on the hub."""
    told.needless("ds_type", "read from the file")
    files = told.look("data_files")
    texts = [str(one) for one in files] if isinstance(files, list) else [str(files)] if files else []
    path = str(told.look("path", ""))
    folder = next((str(place / path) for place in places if path and (place / path).is_dir()), "")
    if texts and (path in LOADERS or not path or folder):
        told.take("data_files")
        if folder:
            told.take("path")
        else:
            told.needless("path", "the kind of file is read from the file")
        _no_revision(told)
        return [found_path(text, [Path(folder), *places] if folder else places) for text in texts]
    if texts:
        told.note("left out", "data_files", f"{shown(files)}: a split of the set is read (split), not single files")
    told.take("path")
    found = found_path(path, places)
    local = Path(found).exists() or Path(path).suffix in (*SUFFIXES, TEXT_SUFFIX)
    if local or shared.hub_path(path) == path:
        _no_revision(told)
        return [found]
    revision = told.take("revision")
    return [shared.hub_path(path) + (f"@{revision}" if revision else "")]


def _no_revision(told: Told) -> None:
    told.lose("revision", "files here have no revisions")
