"""Turn one parsed row into a normalized conversation, or raise RowProblem with the cause.

`layouts.py` decides which column has which role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.data.examples import Example, Message, RowProblem
from engine.data.layouts import Layout
from engine.data.preference import is_conversation, label_of, last_answer
from engine.data.rows import MAX_ROW_BYTES, TOO_LONG

_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def to_example(value: Any, layout: Layout, row: int, dataset: int) -> tuple[Example, str]:
    """One parsed row as an Example, with a note about what was left out ('' = nothing).

    Raises RowProblem when the row cannot be trained on.
    """
    if not isinstance(value, dict):
        raise RowProblem("not an object", f"the row is {_kind(value)}")
    fields = {role: value.get(column) for role, column in layout.columns.items()}
    if layout.name in ("preference", "judged"):
        return _compared(layout.name, fields, layout.columns, row, dataset), ""
    messages = _BUILDERS[layout.name](fields, layout.columns)
    _check_text(messages)
    if layout.name == "text":
        return Example(tuple(messages), row, "text", dataset), ""
    turns = _without_trailing(messages)
    note = "" if len(turns) == len(messages) else "turns after the last answer left out"
    return Example(tuple(turns), row, "chat", dataset), note


def _check_text(messages: Sequence[Message]) -> None:
    if sum(len(message.content) for message in messages) > MAX_ROW_BYTES:
        raise RowProblem(TOO_LONG, f"more than {MAX_ROW_BYTES} characters")
    for message in messages:
        if not message.content.isascii() and _SURROGATE.search(message.content):
            raise RowProblem("not valid Unicode", f"half a surrogate pair in the {message.role} message")


def _compared(name: str, fields: dict[str, Any], columns: Mapping[str, str], row: int, dataset: int) -> Example:
    """A row with two answers, or with one that is judged."""
    if name == "judged":
        whole = fields.get("messages") if fields.get("completion") is None else None
        messages = _answered(fields, columns, "messages" if whole is not None else "completion")
        _check_text(messages)
        desirable = label_of(fields["label"], columns["label"])
        return Example(messages, row, "judged", dataset, desirable=desirable)
    chosen, rejected = (_answered(fields, columns, role) for role in ("chosen", "rejected"))
    _check_text([*chosen, *rejected])
    if chosen == rejected:
        raise RowProblem("both answers are the same")
    return Example(chosen, row, "pair", dataset, rejected=rejected)


def _answered(fields: dict[str, Any], columns: Mapping[str, str], role: str) -> tuple[Message, ...]:
    """The conversation that ends with the answer in column `role`: given whole, or beside its prompt."""
    answer = _unpacked(fields.get(role))
    answer = [answer] if isinstance(answer, dict) else answer
    if is_conversation(answer):
        return last_answer(_conversation({**fields, "messages": answer}, {**columns, "messages": columns[role]}))
    if role not in columns or fields.get("prompt") is None:
        raise RowProblem("missing prompt", "neither a prompt column nor one in the conversation")
    return last_answer(_prompt_completion({**fields, "completion": answer}, {**columns, "completion": columns[role]}))


def _without_trailing(messages: list[Message]) -> list[Message]:
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=None)
    if last is None:
        raise RowProblem("no assistant turn")
    turns = [message for message in messages if message.role != "system"]
    if turns[0].role == "assistant":
        raise RowProblem("begins with an answer", "there is no prompt before the first assistant turn")
    if not any(message.train for message in messages):
        raise RowProblem("no trained answer", "every assistant turn has train = false")
    return messages[: last + 1]


def _alpaca(fields: dict[str, Any], columns: Mapping[str, str]) -> list[Message]:
    parts = [_text(fields.get(role), columns.get(role, role), "prompt") for role in ("instruction", "input")]
    prompt = "\n".join(part for part in parts if part.strip())
    if not prompt:
        raise RowProblem("missing prompt", f"'{columns['instruction']}' is empty")
    return [
        *_system(fields, columns),
        *_history(fields.get("history")),
        Message("user", prompt),
        Message("assistant", _answer(fields["output"], columns["output"]), True),
    ]


def _history(value: Any) -> list[Message]:
    if value in (None, "", []):
        return []
    value = _unpacked(value)
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise RowProblem("wrong type", "history must be a list of [question, answer] pairs")
    turns = []
    for question, answer in value:
        turns.append(Message("user", _text(question, "history", "prompt")))
        turns.append(Message("assistant", _answer(answer, "history"), True))
    return turns


def _prompt_completion(fields: dict[str, Any], columns: Mapping[str, str]) -> list[Message]:
    prompt, completion = _unpacked(fields["prompt"]), _unpacked(fields["completion"])
    if isinstance(prompt, list) or isinstance(completion, list):
        turns = [*_turns(prompt, trained=False, default="user"), *_turns(completion, trained=True, default="assistant")]
        return [*_system(fields, columns), *turns]
    text = _text(prompt, columns["prompt"], "prompt")
    if not text.strip():
        raise RowProblem("missing prompt", f"'{columns['prompt']}' is empty")
    answer = Message("assistant", _answer(completion, columns["completion"]), True)
    return [*_system(fields, columns), Message("user", text), answer]


def _turns(value: Any, *, trained: bool, default: str) -> list[Message]:
    items = value if isinstance(value, list) else [{"role": default, "content": value}]
    found = [_message(item, position) for position, item in enumerate(items, 1)]
    return [Message(message.role, message.content, message.train and trained) for message in found]


def _conversation(fields: dict[str, Any], columns: Mapping[str, str]) -> list[Message]:
    items = _unpacked(fields["messages"])
    if items is None:
        raise RowProblem("missing messages", f"no '{columns['messages']}'")
    if not isinstance(items, list):
        raise RowProblem("wrong type", f"'{columns['messages']}' is {_kind(items)}, not a list")
    messages = [_message(item, position) for position, item in enumerate(items, 1)]
    own = any(message.role == "system" for message in messages)
    return [
        *([] if own else _system(fields, columns)),
        *(m for m in messages if m.role != "system" or m.content.strip()),
    ]


def _message(item: Any, position: int) -> Message:
    if not isinstance(item, dict):
        raise RowProblem("wrong type", f"message {position} is {_kind(item)}, not an object")
    speaker = item.get("role", item.get("from"))
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise RowProblem("unknown role", f"message {position}: {str(speaker)[:40]!r}")
    if item.get("tool_calls"):
        raise RowProblem("tool calls are not supported", f"message {position}")
    content = _joined_parts(item.get("content", item.get("value")), position)
    if role == "assistant":
        return Message(role, _answer(content, f"message {position}"), _trained(item, position))
    text = _text(content, f"message {position}", "prompt")
    if role == "user" and not text.strip():
        raise RowProblem("missing prompt", f"message {position} is empty")
    return Message(role, text)


def _trained(item: dict[str, Any], position: int) -> bool:
    value = item.get("train", item.get("weight"))
    if value is None or value in (0, 1):
        return value is None or bool(value)
    raise RowProblem("wrong type", f"message {position}: train must be true or false, weight 0 or 1")


def _joined_parts(content: Any, position: int) -> Any:
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise RowProblem("not text", f"message {position} holds images, audio or other parts")
    return "".join(part["text"] for part in content)


def _whole_text(fields: dict[str, Any], columns: Mapping[str, str]) -> list[Message]:
    text = _text(fields["text"], columns["text"], "text")
    if not text.strip():
        raise RowProblem("missing text", f"'{columns['text']}' is empty")
    return [Message("assistant", text, True)]


def _system(fields: dict[str, Any], columns: Mapping[str, str]) -> list[Message]:
    text = _text(fields.get("system"), columns.get("system", "system"), "system")
    return [Message("system", text)] if text.strip() else []


def _text(value: Any, column: str, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowProblem("wrong type", f"{what} in '{column}' is {_kind(value)}, not text")
    return value


def _answer(value: Any, column: str) -> str:
    text = _text(value, column, "answer")
    if not text.strip():
        raise RowProblem("missing answer", f"'{column}' is empty" if value is not None else f"no '{column}'")
    return text


def _unpacked(value: Any) -> Any:
    """A list that a CSV cell or a parquet column holds as JSON text; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[{")):
        return value
    try:
        return json.loads(value)
    except (RecursionError, ValueError):
        return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (str, "text"),
        (dict, "an object"),
        (list, "a list"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")


_BUILDERS: dict[str, Callable[[dict[str, Any], Mapping[str, str]], list[Message]]] = {
    "messages": _conversation,
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "text": _whole_text,
}
