"""Turn one parsed row into a normalized conversation, or raise RowProblem with the cause.

`layouts.py` decides which column has which role; `turns.py` reads messages, `tooling.py` tools and calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.examples import Example, Message, RowProblem
from engine.data.hermes import COMPARED, LEFT, NOTE, from_text, has_calls, has_marks
from engine.data.layouts import ANSWERS, Planned, Planner
from engine.data.own_words import SPOKEN, OwnWords, are_meant, in_usual_words
from engine.data.preference import is_conversation, is_said, label_of, last_answer
from engine.data.rows import MAX_ROW_BYTES, TOO_LONG
from engine.data.structured import EMPTY_WORDS, holds, is_absent, looks_like_turns, parsed, without_nulls, written
from engine.data.tooling import calls_of, known_calls, tools_of
from engine.data.turns import Reading, check_turns, kind_of, read_turns, text_of, tools_in
from engine.data.unread import RowNotes
from engine.profile.tables.data import TEMPLATE_RESERVED

_SURROGATE = re.compile("[\ud800-\udfff]")
_TABLES = ("parquet", "arrow")
_SWITCH_WORDS = frozenset(("on", "off", "yes", "no", "true", "false", "low", "medium", "high"))
"""A `reasoning` column that says how much was thought, not what."""
_PRINTED = ("['", '["', "{'", "[{'", "array(")
TRAILING = "turns after the last answer left out"
UNKNOWN_CALLS = "answers that look like calls stay text: they are no calls of the tools that the row offers"
OWN_SYSTEM = "the system column is not used: the conversation has its own system message"


def to_example(
    value: Any, planner: Planner, row: int, dataset: int, notes: RowNotes, reading: Reading
) -> tuple[Example, Planned]:
    """One parsed row as an Example, and how it was read; `notes` takes what was left out.

    Raises RowProblem when the row cannot be trained on.
    """
    if not isinstance(value, dict):
        raise RowProblem("not an object", f"the row is {kind_of(value)}")
    if reading.kind in _TABLES:
        value = without_nulls(value)
    planned = planner.plan(value, notes)
    line = _Row(planned.fields, planned.columns, notes, reading)
    if reading.kind == "csv" and not reading.values_as_text:
        _empty_words(line)
    if reading.words is not None:
        _own_words(line, reading.words)
    _note_nan(line)
    line.tools = tools_of(line.fields.get("tools"))
    layout = planned.layout.name
    if layout == "text":
        example = Example((_whole_text(line),), row, "text", dataset)
    elif layout in ("preference", "judged"):
        example = _compared(line, layout, row, dataset)
        notes.notes.update([COMPARED] if has_calls((*example.messages, *example.rejected)) else [])
    else:
        example = _chat(line, layout, row, dataset)
    _check_text((*example.messages, *example.rejected))
    arguments = _template_arguments(line)
    _check_unicode(line.tools + arguments, "tools or template arguments")
    if line.tools or arguments:
        example = replace(example, tools=line.tools, template_arguments=arguments)
    return example, planned


@dataclass(slots=True)
class _Row:
    """What a row's columns hold, and the tools that it offers."""

    fields: dict[str, Any]
    columns: Mapping[str, str]
    notes: RowNotes
    reading: Reading
    tools: str = ""

    def name(self, role: str) -> str:
        """The column that plays a role."""
        return self.columns.get(role, role)


def _chat(row: _Row, layout: str, number: int, dataset: int) -> Example:
    """The conversation; calls that its answers write as text are calls where that is certain."""
    messages = _BUILDERS[layout](row)
    if not has_marks(messages):
        return Example(_upto_answer(row, messages), number, "chat", dataset)
    written = _upto_answer(row, messages)
    found = from_text(written, row.tools)
    if found is None:
        row.notes.notes.update([LEFT] if has_calls(messages) else [])
        return Example(written, number, "chat", dataset)
    row.notes.notes.add(NOTE)
    turns, row.tools, in_text = found
    return Example(_upto_answer(row, turns), number, "chat", dataset, as_text=written if in_text else ())


def _upto_answer(row: _Row, messages: list[Message]) -> tuple[Message, ...]:
    """The conversation up to its last answer. Raises RowProblem."""
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=None)
    if last is None:
        raise RowProblem("no assistant turn")
    first = next(message for message in messages if message.role != "system")
    if first.role != "user":
        raise RowProblem("begins with an answer", "there is no prompt before the first assistant turn")
    if not any(message.train for message in messages):
        raise RowProblem("no trained answer", "every assistant turn has train = false")
    if last + 1 < len(messages):
        row.notes.notes.add(TRAILING)
    return tuple(messages[: last + 1])


def _check_text(messages: Sequence[Message]) -> None:
    if sum(len(text) for message in messages for text in message.texts) > MAX_ROW_BYTES:
        raise RowProblem(TOO_LONG, f"more than {MAX_ROW_BYTES} characters")
    for message in messages:
        for text in message.texts:
            _check_unicode(text, f"{message.role} message")


def _check_unicode(text: str, what: str) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise RowProblem("not valid Unicode", f"half a surrogate pair in the {what}")


def _compared(row: _Row, layout: str, number: int, dataset: int) -> Example:
    """A row with two answers, or with one that is judged."""
    if layout == "judged":
        whole = holds(row.fields.get("messages")) and not holds(row.fields.get("completion"))
        messages = _answered(row, "messages" if whole else "completion")
        desirable = label_of(row.fields["label"], row.columns["label"])
        return Example(messages, number, "judged", dataset, desirable=desirable)
    chosen, rejected = (_answered(row, role) for role in ("chosen", "rejected"))
    if chosen == rejected:
        raise RowProblem("both answers are the same")
    return Example(chosen, number, "pair", dataset, rejected=rejected)


def _answered(row: _Row, role: str) -> tuple[Message, ...]:
    """The conversation that ends with the answer in column `role`: given whole, or beside its prompt."""
    answer = _unpacked(row.fields.get(role), row.name(role), must=role == "messages")
    answer = [answer] if isinstance(answer, dict) else answer
    if is_conversation(answer):
        messages = _conversation(row, answer, row.name(role))
        _leave_beside(row, messages)
        return last_answer(messages)
    if not holds(row.fields.get("prompt")) and not holds(row.fields.get("input")):
        raise RowProblem("missing prompt", "neither a prompt column nor one in the conversation")
    return last_answer(_prompt_and_answer(row, "prompt", role, answer))


def _leave_beside(row: _Row, messages: Sequence[Message]) -> None:
    """Note prompt columns that say what a whole conversation beside them does not."""
    roles = [role for role in ("prompt", "input", "history") if holds(row.fields.get(role))]
    row.notes.leave("column", [row.name(role) for role in roles if not is_said(row.fields[role], messages)], None)


def _alpaca(row: _Row) -> list[Message]:
    return _prompt_and_answer(row, "instruction", "output", row.fields.get("output"))


def _prompt_completion(row: _Row) -> list[Message]:
    answer = _unpacked(row.fields.get("completion"), row.name("completion"))
    return _prompt_and_answer(row, "prompt", "completion", answer)


def _prompt_and_answer(row: _Row, asks: str, answers: str, answer: Any) -> list[Message]:
    prompt = _unpacked(row.fields.get(asks), row.name(asks))
    if isinstance(prompt, (list, dict)):
        answer = _unpacked(answer, row.name(answers))
    if row.tools and isinstance(answer, (list, dict)) and (calls := known_calls(answer, row.tools)):
        return [*_before(row, asks), Message("assistant", "", True, _reasoning(row), calls)]
    check_turns(answer, row.name(answers))
    if not isinstance(prompt, (list, dict)) and not isinstance(answer, (list, dict)):
        return [*_before(row, asks), _answer(row, answers, answer)]
    return _headed(row, [*_prompt_turns(row, asks, prompt), *_answer_turns(row, answers, answer)])


def _before(row: _Row, asks: str) -> list[Message]:
    """System message, earlier turns and question, where the prompt is text."""
    prompt = text_of(row.fields.get(asks), row.name(asks), "prompt", row.reading)
    if holds(row.fields.get("input")):
        beside = text_of(row.fields["input"], row.name("input"), "prompt", row.reading)
        prompt = "\n".join(part for part in (prompt, beside) if part.strip())
    if not prompt.strip():
        raise RowProblem("missing prompt", f"'{row.name(asks)}' is empty")
    return [*_system(row), *_history(row), Message("user", prompt)]


def _prompt_turns(row: _Row, asks: str, prompt: Any) -> list[Message]:
    if not isinstance(prompt, (list, dict)):
        return _before(row, asks)[len(_system(row)) :]
    beside = next((role for role in ("input", "history") if holds(row.fields.get(role))), None)
    if beside is not None:
        raise RowProblem("two prompts", f"'{row.name(beside)}' stands beside a conversation in '{row.name(asks)}'")
    turns = _read(row, prompt if isinstance(prompt, list) else [prompt], "user")
    return [replace(message, train=False) for message in turns]


def _answer_turns(row: _Row, answers: str, answer: Any) -> list[Message]:
    if isinstance(answer, (list, dict)):
        return _read(row, answer if isinstance(answer, list) else [answer], "assistant")
    return [_answer(row, answers, answer)]


def _answer(row: _Row, role: str, value: Any) -> Message:
    """The answer of a row without messages, with its thought and its calls."""
    column = row.name(role)
    given = row.fields.get("calls")
    calls = calls_of(given, f"'{row.name('calls')}'", row.tools) if given else ()
    text = text_of(value, column, "answer", row.reading)
    if not calls and row.tools and text.lstrip()[:1] in ("[", "{"):
        calls = known_calls(text, row.tools)
        text = "" if calls else text
        row.notes.notes.update([UNKNOWN_CALLS] if '"arguments"' in text else [])
    if not text.strip() and not calls:
        raise RowProblem("missing answer", _nothing(value, column))
    if row.reading.kind == "csv" and text.startswith(_PRINTED):
        row.notes.notes.add("answers that are a list or an object as Python prints it")
    return Message("assistant", text, True, _reasoning(row), calls)


def _nothing(value: Any, column: str) -> str:
    if value is None:
        return f"no '{column}'"
    return f"'{column}' is empty" if value == value else f"'{column}' is NaN"


def _reasoning(row: _Row) -> str:
    if "reasoning" not in row.fields:
        return ""
    text = text_of(row.fields.get("reasoning"), row.name("reasoning"), "reasoning", row.reading)
    if text.strip().lower() in _SWITCH_WORDS:
        row.notes.leave("column", [row.name("reasoning")], None)
        return ""
    return text if text.strip() else ""


def _history(row: _Row) -> list[Message]:
    value = row.fields.get("history")
    if not holds(value):
        return []
    value, column = _unpacked(value, row.name("history"), must=True), row.name("history")
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return _read(row, value, "")
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise RowProblem("wrong type", f"'{column}' must be a list of [question, answer] pairs")
    turns = []
    for question, answer in value:
        turns.append(Message("user", text_of(question, column, "prompt", row.reading)))
        text = text_of(answer, column, "answer", row.reading)
        if not text.strip():
            raise RowProblem("missing answer", f"'{column}' has a question without an answer")
        turns.append(Message("assistant", text, True))
    return turns


def _messages(row: _Row) -> list[Message]:
    column = row.name("messages")
    items = _unpacked(row.fields.get("messages"), column, must=True)
    if is_absent(items):
        raise RowProblem("missing messages", f"no '{column}'")
    messages = _conversation(row, items, column)
    if messages and messages[-1].role != "assistant":
        _refuse_answer_beside(row, column)
    return messages


def _refuse_answer_beside(row: _Row, column: str) -> None:
    """Messages that end with a question, beside a column with its answer: an earlier answer would be learned alone."""
    beside = next((name for what, name, _ in sorted(row.notes.unread) if what == "column" and name in ANSWERS), None)
    if beside is not None:
        way = f"columns = {{ prompt = '{column}', completion = '{beside}' }} takes it as their answer"
        raise RowProblem("an answer beside the messages", f"they end with a question, and '{beside}' holds more; {way}")


def _conversation(row: _Row, items: Any, column: str) -> list[Message]:
    if not isinstance(items, list):
        raise RowProblem("wrong type", f"'{column}' is {kind_of(items)}, not a list")
    return _headed(row, _read(row, items, ""))


def _headed(row: _Row, messages: list[Message]) -> list[Message]:
    """The messages behind the row's system message, unless they have their own."""
    column = _system(row)
    own = [message for message in messages if message.role == "system" and message.content.strip()]
    if own and column and column[0].content != own[0].content:
        row.notes.notes.add(OWN_SYSTEM)
    kept = [message for message in messages if message.role != "system" or message.content.strip()]
    return kept if own else [*column, *kept]


def _read(row: _Row, items: list[Any], default: str) -> list[Message]:
    if (named := tools_in(items)) is not None:
        told = tools_of(named)
        if row.tools and told != row.tools:
            row.notes.leave("message key", ["tools"])
        row.tools = row.tools or told
    return read_turns(items, row.notes, row.reading, row.tools, default)


def _whole_text(row: _Row) -> Message:
    text = text_of(row.fields["text"], row.columns["text"], "text", row.reading)
    if not text.strip():
        raise RowProblem("missing text", f"'{row.columns['text']}' is empty")
    return Message("assistant", text, True)


def _system(row: _Row) -> list[Message]:
    text = text_of(row.fields.get("system"), row.name("system"), "system", row.reading)
    return [Message("system", text)] if text.strip() else []


def _unpacked(value: Any, column: str, *, must: bool = False) -> Any:
    """Messages that a cell holds as text. With `must` any text is meant as a list; else only what looks like messages.

    Raises RowProblem for a text that is meant so and cannot be read: it is never learned as it stands.
    """
    if not isinstance(value, str) or not (must or looks_like_turns(value)):
        return value
    try:
        return parsed(value)
    except ValueError as error:
        if must and value.lstrip()[:1] not in ("[", "{", "("):
            return value
        detail = f"'{column}' looks like a list of messages, but is neither JSON nor Python's writing ({error})"
        raise RowProblem("messages as text cannot be read", detail[:300]) from error


def _empty_words(row: _Row) -> None:
    """Cells that say `nan` or `None` where nothing stands."""
    for role, value in row.fields.items():
        if not (isinstance(value, str) and value.strip() in EMPTY_WORDS):
            continue
        if role in _NEEDED:
            way = "values_as_text = true in its [[data.datasets]] entry takes it as text"
            detail = f"'{row.name(role)}' is {value.strip()!r}, as an empty cell is written; {way}"
            raise RowProblem(_NEEDED[role], detail)
        row.fields[role] = None
        row.notes.notes.add(f"cells of '{row.name(role)}' that are {value.strip()!r} count as empty")


def _note_nan(row: _Row) -> None:
    for role, value in row.fields.items():
        if value.__class__ is float and value != value:
            row.notes.notes.add("NaN counts as empty")
        elif value.__class__ is str and value in EMPTY_WORDS:
            row.notes.notes.add(f"'{row.name(role)}' is the word {value!r}, as pandas writes an empty cell")


def _own_words(row: _Row, words: OwnWords) -> None:
    """Messages in the usual words, where the data set says what they are called."""
    for role in SPOKEN:
        value = row.fields.get(role)
        if isinstance(value, str):
            value = _unpacked(value, row.name(role), must=role == "messages" or are_meant(value, words))
        if isinstance(value, (list, dict)):
            row.fields[role] = in_usual_words(value, words, row.notes)


def _template_arguments(row: _Row) -> str:
    """JSON text of what the row hands to its template."""
    if "template_arguments" not in row.fields and "enable_thinking" not in row.fields:
        return ""
    value = row.fields.get("template_arguments")
    given = _unpacked(value, row.name("template_arguments"), must=True) if holds(value) else {}
    if not isinstance(given, dict):
        raise RowProblem("wrong type", f"'{row.name('template_arguments')}' is {kind_of(given)}, not an object")
    thinking = row.fields.get("enable_thinking")
    if holds(thinking):
        if thinking not in (True, False, "True", "False", "true", "false"):
            raise RowProblem("wrong type", f"'{row.name('enable_thinking')}' is not true or false")
        given = {**given, "enable_thinking": thinking in (True, "True", "true")}
    wrong = next((name for name in given if not str(name).isidentifier() or name in TEMPLATE_RESERVED), None)
    if wrong is not None:
        raise RowProblem("wrong type", f"'{str(wrong)[:40]}' cannot be an argument of a chat template")
    try:
        return written(given) if given else ""
    except ValueError as error:
        raise RowProblem("wrong type", f"'{row.name('template_arguments')}': {error}") from error


_BUILDERS: dict[str, Callable[[_Row], list[Message]]] = {
    "messages": _messages,
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
}
_NEEDED = {
    "output": "missing answer",
    "completion": "missing answer",
    "chosen": "missing answer",
    "rejected": "missing answer",
    "instruction": "missing prompt",
    "prompt": "missing prompt",
    "messages": "missing messages",
    "text": "missing text",
}
"""Roles without which there is no row, and the cause."""
