"""Which row format a file has, and which column plays which role in it.

`recognise` decides once a file, by the columns of its first rows; `convert.py` applies the decision
to each row.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from engine.data.files import data_error

_ANSWERS = ("output", "response", "answer", "completion")
ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "preference": {
        "prompt": ("prompt", "question", "query", "instruction", "conversations", "conversation"),
        "chosen": ("chosen",),
        "rejected": ("rejected",),
        "system": ("system",),
    },
    "judged": {
        "prompt": ("prompt", "question", "query", "instruction"),
        "completion": ("completion", "response", "answer", "output"),
        "messages": ("messages", "conversations", "conversation"),
        "label": ("label", "kto_tag"),
        "system": ("system",),
    },
    "messages": {"messages": ("messages", "conversations", "conversation"), "system": ("system",)},
    "alpaca": {
        "instruction": ("instruction",),
        "input": ("input", "context"),
        "output": _ANSWERS,
        "system": ("system",),
        "history": ("history",),
    },
    "prompt-completion": {
        "prompt": ("prompt", "question", "query", "input"),
        "completion": ("completion", "response", "answer", "output"),
        "system": ("system",),
    },
    "text": {"text": ("text",)},
}
"""Per format: role -> column names that `auto` takes for it, in order."""
REQUIRED = {
    "preference": ("chosen", "rejected"),
    "judged": ("label",),
    "messages": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}


LEARNED = ("messages", "alpaca", "prompt-completion", "text")
"""Formats that `auto` looks for; those with answers to compare or judge are for the objectives that need them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A recognized row format: role -> column, and why it was taken."""

    name: str
    columns: Mapping[str, str]
    why: str


def recognise(columns: set[str], wanted: str, mapping: Mapping[str, str], where: str) -> Layout:
    """Choose the format of rows with these columns.

    `wanted` is the profile's `format`, `mapping` its `columns` (role = column). Raises
    EngineError(DATA) that lists the columns and how to name them.
    """
    names = LEARNED if wanted == "auto" else (wanted,)
    _check_mapping(columns, names, mapping, where)
    for name in names:
        taken = _match(name, columns, mapping)
        if taken is not None:
            return Layout(name, taken, _reason(name, wanted, taken))
    raise _unknown(columns, wanted, where)


def _match(name: str, columns: set[str], mapping: Mapping[str, str]) -> dict[str, str] | None:
    taken = {}
    for role, candidates in ROLES[name].items():
        found = mapping.get(role) or next((column for column in candidates if column in columns), None)
        if found is not None:
            taken[role] = found
    foreign = set(mapping) - set(ROLES[name])
    return taken if not foreign and all(role in taken for role in REQUIRED[name]) else None


def _reason(name: str, wanted: str, taken: Mapping[str, str]) -> str:
    pairs = ", ".join(column if column == role else f"{role} = '{column}'" for role, column in taken.items())
    how = "recognized" if wanted == "auto" else "for the objective" if wanted not in LEARNED else "named in the profile"
    return f"{name} ({how}): columns {pairs}"


def _check_mapping(columns: set[str], names: tuple[str, ...], mapping: Mapping[str, str], where: str) -> None:
    roles = sorted({role for name in names for role in ROLES[name]})
    for role, column in mapping.items():
        if role not in roles:
            near = difflib.get_close_matches(role, roles, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"roles: {', '.join(roles)}"
            raise data_error(f"data.datasets.columns: unknown role '{role}'", where=where, hint=hint)
        if column not in columns:
            have = ", ".join(sorted(columns)) or "none"
            raise data_error(f"no column '{column}' (for {role})", where=where, hint=f"the rows have: {have}")


def _unknown(columns: set[str], wanted: str, where: str) -> Exception:
    have = ", ".join(sorted(columns)) or "none"
    if {"chosen", "rejected"} <= columns:
        hint = (
            "set train.objective = 'dpo', 'orpo' or 'reward', or learn the better answers:"
            " columns = { completion = 'chosen' }"
        )
        return data_error(f"rows hold preference pairs (columns: {have})", where=where, hint=hint)
    what = "no known row format" if wanted == "auto" else f"these rows are not in the format {wanted}"
    hint = "name them: columns = { instruction = '…', output = '…' } or { prompt = '…', completion = '…' }"
    return data_error(f"{what} (columns: {have})", where=where, hint=hint)
