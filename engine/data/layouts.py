"""Which format a row has, and which of its columns plays which role in it: decided by the row itself.

A row's columns decide, so preview, check and training decide alike, whatever row a column begins in, and one file may
hold several formats. `recognise` looks at a file's first columns, to refuse early and in words what has no format;
`convert.py` makes conversations.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.data.examples import RowProblem
from engine.data.files import data_error
from engine.data.structured import holds
from engine.data.unread import CONTEXT, MEDIA, PROMPTS, SWITCHES, RowNotes

ANSWERS = ("output", "response", "answer", "completion", "answers")
_PROMPTS = ("prompt", "question", "query", "instruction")
_MESSAGES = ("messages", "conversations", "conversation")
_INPUT = {"input": ("input", "context")}
_COMMON: dict[str, tuple[str, ...]] = {
    "system": ("system", "system_prompt", "system_message"),
    "tools": ("tools", "functions", "available_tools"),
    "template_arguments": ("chat_template_kwargs", "template_arguments"),
    "enable_thinking": ("enable_thinking",),
}
_ANSWERED = {
    "reasoning": ("reasoning_content", "thinking", "reasoning", "thought"),
    "calls": ("tool_calls", "function_call"),
}
_HISTORY = {"history": ("history",)}
ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "preference": {
        "prompt": (*_PROMPTS, "conversations", "conversation"),
        **_INPUT,
        "chosen": ("chosen",),
        "rejected": ("rejected",),
        **_HISTORY,
        **_COMMON,
    },
    "judged": {
        "prompt": _PROMPTS,
        **_INPUT,
        "completion": ("completion", "response", "answer", "output"),
        "messages": _MESSAGES,
        "label": ("label", "kto_tag"),
        **_HISTORY,
        **_ANSWERED,
        **_COMMON,
    },
    "messages": {"messages": _MESSAGES, **_COMMON},
    "alpaca": {
        "instruction": ("instruction",),
        **_INPUT,
        "output": ANSWERS,
        **_HISTORY,
        **_ANSWERED,
        **_COMMON,
    },
    "prompt-completion": {
        "prompt": ("prompt", "question", "query", "input"),
        **_INPUT,
        "completion": ("completion", "response", "answer", "output", "answers"),
        **_HISTORY,
        **_ANSWERED,
        **_COMMON,
    },
    "text": {"text": ("text",)},
}
"""Per format: role -> column names that `auto` takes for it, in order."""
KNOWN_COLUMNS = frozenset(column for roles in ROLES.values() for names in roles.values() for column in names)
REQUIRED = {
    "preference": ("chosen", "rejected"),
    "judged": ("label",),
    "messages": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
_TURN = frozenset({"role", "from"})
"""Columns of rows that are one turn of a conversation."""
_EXAMPLE = "{ instruction = '…', output = '…' } or { prompt = '…', completion = '…' }"
_EXAMPLES = {
    "preference": "{ prompt = '…', chosen = '…', rejected = '…' }",
    "judged": "{ prompt = '…', completion = '…', label = '…' }",
    "messages": "{ messages = '…' }",
    "text": "{ text = '…' }",
}
"""How the columns of a format are named; of those that are not here, as `_EXAMPLE`."""
_INSTEAD = {"output": "calls", "completion": "calls"}
"""What may stand in place of a required column."""


LEARNED = ("messages", "alpaca", "prompt-completion", "text")
"""Formats that `auto` looks for; those with answers to compare or judge are for the objectives that need them."""
_MOST_PLANS = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """A row format, and the column of each role that rows of it hold."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    how: str = "recognized"
    """How the format was chosen."""

    @property
    def columns(self) -> dict[str, str]:
        """Role -> column."""
        return dict(self.pairs)


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows with certain columns are read in one format. `choices`: roles that several columns could play."""

    layout: Layout
    columns: Mapping[str, str]
    required: tuple[tuple[str, ...], ...]
    """For each role without which there is no row, the columns that may play it."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    media: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """One row's format and what its roles hold."""

    layout: Layout
    columns: Mapping[str, str]
    fields: dict[str, Any]


class Planner:
    """Finds the format of each row of a data set; a format for a set of columns is worked out once."""

    def __init__(self, wanted: str, mapping: Mapping[str, str], ignored: Iterable[str] = ()) -> None:
        """`wanted` is the format that profile or objective name, `mapping` the profile's `columns` (role = column)."""
        self.wanted, self.mapping, self.ignored = wanted, mapping, frozenset(ignored)
        self._plans: dict[tuple[str, ...], tuple[Plan, ...]] = {}

    def plan(self, value: Mapping[str, Any], notes: RowNotes) -> Planned:
        """The row's format. Notes the columns that it does not read. Raises RowProblem where it has none."""
        keys = tuple(value)
        plans = self._plans.get(keys)
        if plans is None:
            plans = self._made(keys)
        return _filled(plans[0] if len(plans) == 1 else _fitting(plans, value), value, notes)

    def fits(self, value: Mapping[str, Any]) -> bool:
        """Whether the row's columns make up a format."""
        columns = {str(key) for key in value} - self.ignored
        return any(_plan(self.wanted, name, columns, self.mapping) is not None for name in _names(self.wanted))

    def _made(self, keys: tuple[str, ...]) -> tuple[Plan, ...]:
        columns = {str(key) for key in keys} - self.ignored
        names = _names(self.wanted)
        found = [plan for name in names if (plan := _plan(self.wanted, name, columns, self.mapping)) is not None]
        if not found:
            found = _nearest(self.wanted, columns, self.mapping)
        if len(self._plans) < _MOST_PLANS:
            self._plans[keys] = tuple(found)
        return tuple(found)


def _fitting(plans: Sequence[Plan], value: Mapping[str, Any]) -> Plan:
    """The first format whose needed columns all hold something; plain text only where no other has anything."""
    # Most rows have their first format, and there are many rows.
    for columns in plans[0].required:
        if not holds(value.get(columns[0])):
            break
    else:
        return plans[0]
    begun = False
    for plan in plans:
        held = [any(holds(value.get(column)) for column in columns) for columns in plan.required]
        if all(held) and not (begun and plan.layout.name == "text"):
            return plan
        begun = begun or any(held)
    return plans[0]


def _filled(plan: Plan, value: Mapping[str, Any], notes: RowNotes) -> Planned:
    for column in plan.media:
        if holds(value[column]):
            detail = f"column '{column}'; name it in ignored_columns to train without it"
            raise RowProblem("images, audio and video are not read", detail)
    left = [column for column in plan.unread if holds(value[column])]
    layout, columns = plan.layout, plan.columns
    if plan.choices:
        picked = {}
        for role, candidates in plan.choices.items():
            held = [column for column in candidates if holds(value[column])]
            picked[role] = held[0] if held else candidates[0]
            left += held[1:]
        columns = {**columns, **picked}
        layout = Layout(layout.name, tuple(columns.items()), layout.how)
    if left:
        notes.leave("column", left, _meaningful(layout.name, columns, left, value))
    return Planned(layout, columns, {role: value.get(column) for role, column in columns.items()})


def _meaningful(
    layout: str, columns: Mapping[str, str], left: Iterable[str], value: Mapping[str, Any]
) -> frozenset[str]:
    """Which unread columns matter beside a format: whole conversations and texts mostly hold the others again."""
    if layout != "text":
        return CONTEXT if layout == "messages" else PROMPTS
    text = str(value.get(columns["text"]))
    beside = {name.casefold() for name in left if isinstance(value[name], str) and value[name].strip() not in text}
    return SWITCHES | _TURN | (beside & PROMPTS - {"label"})


def _names(wanted: str) -> tuple[str, ...]:
    return LEARNED if wanted == "auto" else (wanted,)


def _plan(
    wanted: str, name: str, columns: set[str], mapping: Mapping[str, str], *, partly: bool = False
) -> Plan | None:
    if set(mapping) - set(ROLES[name]):
        return None
    taken: dict[str, str] = {}
    choices: dict[str, tuple[str, ...]] = {}
    spent = set(mapping.values())
    for role, candidates in ROLES[name].items():
        if role in mapping:
            taken[role] = mapping[role]
            continue
        found = tuple(column for column in candidates if column in columns and column not in spent)
        if found:
            # Of prompts and questions the first is the prompt; the others may play another role.
            found = found[:1] if role in ("prompt", "messages") else found
            taken[role] = found[0]
            spent.update(found)
            if len(found) > 1:
                choices[role] = found
    missing = [role for role in REQUIRED[name] if role not in taken and _INSTEAD.get(role) not in taken]
    if missing and not partly:
        return None
    return _plan_of(wanted, name, columns, taken, choices)


def _plan_of(
    wanted: str, name: str, columns: set[str], taken: Mapping[str, str], choices: Mapping[str, tuple[str, ...]]
) -> Plan:
    used = {*taken.values(), *(column for found in choices.values() for column in found)}
    rest = columns - used
    media = tuple(sorted(column for column in rest if column.lower() in MEDIA))
    unread = tuple(sorted(rest - set(media)))
    required = tuple(choices.get(role, (taken[role],)) for role in REQUIRED[name] if role in taken)
    pairs = tuple((role, column) for role, column in taken.items() if column in columns)
    return Plan(Layout(name, pairs, _how(wanted)), dict(taken), required, choices, unread, media)


def _nearest(wanted: str, columns: set[str], mapping: Mapping[str, str]) -> list[Plan]:
    """The format that a row with too few columns comes closest to, so that its reader says what is missing."""
    plans = [_plan(wanted, name, columns, mapping, partly=True) for name in _names(wanted)]
    near = [plan for plan in plans if plan and _parts(plan, columns)]
    if not near:
        have = ", ".join(sorted(columns)[:20]) or "none"
        raise RowProblem("no known row format", f"columns: {have}")
    return [max(near, key=lambda plan: _parts(plan, columns))]


def _parts(plan: Plan, columns: set[str]) -> int:
    return sum(any(column in columns for column in found) for found in plan.required)


def told(layouts: Mapping[Layout, int]) -> tuple[str, str]:
    """Name and reason of the formats that rows have, with every column that any of them holds; most frequent first."""
    rows: dict[str, int] = {}
    how = next((layout.how for layout in layouts), "")
    pairs: dict[str, dict[tuple[str, str], None]] = {}
    for layout, count in layouts.items():
        rows[layout.name] = rows.get(layout.name, 0) + count
        pairs.setdefault(layout.name, {}).update(dict.fromkeys(layout.pairs))
    names = sorted(rows, key=lambda name: -rows[name])
    parts = []
    for name in names:
        order = list(ROLES[name])
        ordered = sorted(pairs[name], key=lambda pair: order.index(pair[0]))
        columns = ", ".join(column if column == role else f"{role} = '{column}'" for role, column in ordered)
        of = f" ({rows[name]:,} rows)" if len(names) > 1 else ""
        parts.append(f"{name} ({how}): columns {columns}{of}")
    return " and ".join(names), "; ".join(parts)


def _how(wanted: str) -> str:
    if wanted == "auto":
        return "recognized"
    return "named in the profile" if wanted in LEARNED else "for the objective"


def recognise(columns: set[str], wanted: str, mapping: Mapping[str, str], where: str) -> Layout:
    """The format of rows with these columns. Raises EngineError(DATA) that lists them and how to name them."""
    check_roles(wanted, mapping, where)
    for name in _names(wanted):
        plan = _plan(wanted, name, columns, mapping)
        if plan is not None:
            return plan.layout
    raise _unknown(columns, wanted, where)


def check_roles(wanted: str, mapping: Mapping[str, str], where: str) -> None:
    """Raise EngineError(DATA) for a role in `columns` that the format does not know."""
    roles = sorted({role for name in _names(wanted) for role in ROLES[name]})
    for role in mapping:
        if role not in roles:
            near = difflib.get_close_matches(role, roles, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"roles: {', '.join(roles)}"
            raise data_error(f"data.datasets.columns: unknown role '{role}'", where=where, hint=hint)


def missing_column(columns: set[str], mapping: Mapping[str, str], where: str) -> Exception | None:
    """The error for a column in the profile's `columns` that none of the rows has; None where all are there."""
    for role, column in mapping.items():
        if column not in columns:
            have = ", ".join(sorted(columns)) or "none"
            return data_error(f"no column '{column}' (for {role})", where=where, hint=f"the rows have: {have}")
    return None


def _unknown(columns: set[str], wanted: str, where: str) -> Exception:
    have = ", ".join(sorted(columns)) or "none"
    if {"chosen", "rejected"} <= columns:
        hint = (
            "set train.objective = 'dpo', 'orpo' or 'reward', or learn the better answers:"
            " columns = { completion = 'chosen' }"
        )
        return data_error(f"rows hold preference pairs (columns: {have})", where=where, hint=hint)
    what = "no known row format" if wanted == "auto" else f"these rows are not in the format {wanted}"
    hint = f"name them: columns = {_EXAMPLES.get(wanted, _EXAMPLE)}"
    return data_error(f"{what} (columns: {have})", where=where, hint=hint)
