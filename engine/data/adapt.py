"""Conversations in the form that a chat template reads, and the refusal of what it would drop.

Keys of thoughts, call arguments as object or text, ids and names of results differ among published templates;
`reads.py` finds out what one asks for. Adapting twice is the same as once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.reads import Reads, as_parts, inlined
from engine.profile.tables.data import TEMPLATE_RESERVED

NO_THOUGHTS = "rows have thoughts that the template has no place for; they are left out"
NO_CONTENT = "answers have text beside their calls, which the template leaves out"
MADE_IDS = "rows got ids of calls in the form that the template demands (nine letters and digits)"
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_PLAIN_KEYS = {"role", "content"}
_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning", "thought")


def adapt(conversation: Conversation, reads: Callable[[], Reads], notes: Counter[str] | None = None) -> Conversation:
    """The conversation as the template reads it. `reads` is asked only where there is more than questions and answers.

    Raises RowProblem for tools, calls, results or a system message that the template would drop. `notes` counts what
    is left out or made.
    """
    turns = [_flat(turn) for turn in conversation.turns]
    taken = TEMPLATE_RESERVED & conversation.arguments.keys()
    if taken:
        names = ", ".join(sorted(taken))
        raise RowProblem("template arguments", f"{names}: these are the renderer's own, not the template's")
    plain = not conversation.tools and all(turn.keys() <= _PLAIN_KEYS and turn["role"] in _PLAIN for turn in turns)
    read = reads()
    if plain and not read.parts:
        return conversation
    _refuse_lost(turns, bool(conversation.tools), read)
    counts: Counter[str] = Counter()
    ids = _Ids(read, counts)
    adapted = [_turn(turn, read, ids, counts) for turn in turns]
    if read.parts:
        adapted = [turn | {"content": as_parts(turn["content"])} for turn in adapted]
    if notes is not None:
        notes.update(dict.fromkeys(+counts, 1))
    return replace(conversation, turns=adapted)


_PLAIN = ("user", "assistant")


def _refuse_lost(turns: Sequence[dict[str, Any]], tools: bool, read: Reads) -> None:
    lost = {
        "its tools": tools and not read.tools,
        "the calls of its answers": not read.calls and any(turn.get("tool_calls") for turn in turns),
        "more than one call of an answer": not read.several_calls
        and any(len(turn.get("tool_calls") or ()) > 1 for turn in turns),
        "the results of its tools": not read.results and any(turn["role"] == "tool" for turn in turns),
        "its system message": not read.system and bool(turns) and _is_system(turns[0]),
    }
    found = [what for what, is_lost in lost.items() if is_lost]
    if found:
        raise RowProblem(
            "lost by the chat template", f"it does not write {', '.join(found)}; choose another data.template"
        )


def _flat(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn whose content is text again, when it was made parts before."""
    if not isinstance(turn["content"], list):
        return turn
    return turn | {"content": "".join(str(part.get("text", "")) for part in turn["content"])}


def _is_system(turn: dict[str, Any]) -> bool:
    return bool(turn["role"] == "system" and (turn["content"] or "").strip())


def _turn(turn: dict[str, Any], read: Reads, ids: _Ids, counts: Counter[str]) -> dict[str, Any]:
    if turn["role"] == "tool" or turn["role"] == read.result_role:
        return _result(turn, read, ids)
    if turn["role"] != "assistant":
        return turn
    made = {key: value for key, value in turn.items() if key not in _THOUGHT_KEYS}
    thought = next((turn[key] for key in _THOUGHT_KEYS if turn.get(key)), "")
    if thought and read.thoughts == "inline":
        made["content"] = inlined(thought, turn["content"] or "")
    elif thought and read.thoughts:
        made[read.thoughts] = thought
    counts[NO_THOUGHTS] += bool(thought and not read.thoughts)
    if turn.get("tool_calls"):
        made["tool_calls"] = [_call(call, read, ids) for call in turn["tool_calls"]]
        counts[NO_CONTENT] += bool((turn["content"] or "").strip() and not read.content_beside_calls)
        if not made["content"]:
            made["content"] = None if read.null_content else ""
    return made


def _call(call: dict[str, Any], read: Reads, ids: _Ids) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if read.arguments_as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    made = {key: value for key, value in call.items() if key != "id"}
    id = ids.of_call(str(call.get("id") or ""), f"{function['name']} {arguments}", function["name"])
    return made | ({"id": id} if id else {}) | {"function": {**function, "arguments": arguments}}


def _result(turn: dict[str, Any], read: Reads, ids: _Ids) -> dict[str, Any]:
    id, name = ids.of_result(str(turn.get("tool_call_id") or ""))
    made = {key: value for key, value in turn.items() if key != "tool_call_id"} | {"role": read.result_role}
    if id:
        made["tool_call_id"] = id
    if read.names_read and name and not turn.get("name"):
        made["name"] = name
    return made


class _Ids:
    """Ids of one conversation's calls, as the template wants them; results without one answer the calls in order."""

    def __init__(self, read: Reads, counts: Counter[str]) -> None:
        self.read, self.counts = read, counts
        self.given: dict[str, tuple[str, str]] = {}
        self.open: list[tuple[str, str]] = []
        self.calls = 0

    def of_call(self, id: str, text: str, name: str) -> str:
        """The id of the next call."""
        self.calls += 1
        made = self._fitted(id, f"{self.calls} {text}")
        if id:
            self.given[id] = made, name
        self.open.append((made, name))
        return made

    def of_result(self, id: str) -> tuple[str, str]:
        """(id, tool) of the call that a result answers."""
        if id in self.given:
            found = self.given[id]
            self.open = [one for one in self.open if one != found]
            return found
        if not id and self.open:
            return self.open.pop(0)
        return self._fitted(id, id), ""

    def _fitted(self, id: str, text: str) -> str:
        if self.read.ids == "none":
            return ""
        if (not id and not self.read.ids_needed) or (id and self.read.ids == "any") or _NINE.fullmatch(id):
            return id
        self.counts[MADE_IDS] += 1
        return hashlib.blake2b((id or text).encode(), digest_size=5).hexdigest()[:9]
