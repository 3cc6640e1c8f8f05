"""Which column plays which role, in the words of `data.datasets.columns`; and what rows may call their speakers.

The roles here are those of `engine.data.layouts`, which profiles cannot import.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.profile.foreign.draft import listed, shown
from engine.profile.foreign.told import Told

USUAL_ROLE, USUAL_CONTENT = ("from", "role"), ("value", "content")
SPEAKERS = {
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "chatgpt", "bing", "bard", "model"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "tool_result", "function_response"),
    "call": ("function_call", "tool_call", "tool_calls"),
}
"""What rows may call who speaks: recognised without a word in the profile."""
THOUGHTS = ("reasoning_content", "thinking", "reasoning", "thought")
"""Keys of a message that hold its thoughts."""
LEARNED = ("train", "trainable", "training", "train_on_turn", "weight", "loss", "loss_weight", "loss_scale")
"""Keys of a message that say whether it is learned."""
_COMMON = ("system", "tools")
ROLES: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output", "history", *_COMMON),
    "messages": ("messages", *_COMMON),
    "text": ("text",),
    "preference": ("prompt", "input", "chosen", "rejected", "history", *_COMMON),
    "judged": ("prompt", "input", "completion", "messages", "label", "history", *_COMMON),
}
"""Layout -> roles that a column can be named for."""
_FOUND: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "label": ("label", "kto_tag"),
}
"""Columns that are found for a role without being named."""


def layout_of(objective: str, *, lists: bool) -> str:
    """The layout that an objective's rows have."""
    if objective == "pretrain":
        return "text"
    if objective == "kto":
        return "judged"
    if objective in ("dpo", "orpo", "reward"):
        return "preference"
    return "messages" if lists else "alpaca"


def carry_columns(told: Told, roles: Mapping[str, str], layout: str) -> dict[str, str]:
    """`columns` of a data set from keys of the other tool: `roles` is their key -> our role.

    Columns that are found anyway are left to that. Keys without a column say nothing, and those without a role here
    are listed.
    """
    named = {}
    for key, role in roles.items():
        if key not in told:
            continue
        column = told.look(key)
        if not column:
            told.needless(key, "no column")
        elif role not in ROLES[layout]:
            told.note("left out", key, f"{listed(column)}: this column is not read")
        else:
            told.take(key)
            named[role] = str(column)
    return {role: column for role, column in named.items() if column not in (role, *_FOUND.get(role, ()))}


def carry_speakers(told: Told, name: str, speaker: str, speakers: dict[str, str]) -> None:
    """What rows call a speaker, into `speakers` where it is not recognised anyway."""
    value = told.look(name)
    words = [str(word) for word in value] if isinstance(value, list) else [str(value)]
    odd = [word for word in words if word not in SPEAKERS.get(speaker, ())]
    if speaker in SPEAKERS and (value is None or not odd):
        told.needless(name, "recognised by itself")
        return
    if speaker not in SPEAKERS or isinstance(value, dict):
        told.note("left out", name, f"{listed(value)}: no such role here; known are {', '.join(SPEAKERS)}")
        return
    told.take(name)
    if twice := [word for word in odd if speakers.setdefault(word, speaker) != speaker]:
        told.note("left out", name, f"{', '.join(map(shown, twice))}: another role has this word")


def carry_key(told: Told, name: str, ours: str, usual: tuple[str, ...], keys: dict[str, str]) -> None:
    """The name of a message's own key, into `keys` where it is not one that is read anyway."""
    value = told.look(name)
    if isinstance(value, str) and value and value not in usual:
        keys[ours] = str(told.take(name))
    else:
        told.only(name, usual, f"messages have {' or '.join(map(repr, usual))}")


def own_words(keys: dict[str, str], speakers: dict[str, str]) -> dict[str, dict[str, str]]:
    """`message_keys` and `speakers` of a data set, where there are any."""
    return {name: value for name, value in (("message_keys", keys), ("speakers", speakers)) if value}
