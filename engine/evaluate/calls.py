"""Tool calls scored: does the call parse, is it the right tool, are its arguments right.

Asked is every trained answer of a row that calls tools, behind what stands before it. A wanted call is read from what
the template writes for it, with the reader that reads the model's answers, so that both are compared in one form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.asked import tokens_of_conversations
from engine.data.chat import render, trained_template
from engine.data.conversation import Conversation, conversation_of
from engine.data.examples import Example, RowProblem, ToolCall
from engine.inference.answers import Answer
from engine.inference.call_forms import AnswerForm, answer_form, behind
from engine.inference.replies import Reply, read_reply
from engine.inference.rows import HeldOut
from engine.profile.schema import Profile

NAMES = ("calls_parsed", "tools_right", "arguments_right")


@dataclass(frozen=True, slots=True)
class CallQuestion:
    """One answer that calls: its row and turn, the prompt's tokens, and what is wanted, in parts and as text."""

    place: tuple[int, int]
    asked: str
    prompt: tuple[int, ...]
    wanted: Reply
    shown: str
    """What the template writes for it, without the token that ends the answer."""


@dataclass(frozen=True, slots=True)
class CallInputs:
    """Questions in one tokenizer's tokens.

    `too_long`: prompts that leave no room for an answer. `unread`: calls that the template refuses, or writes in a form
    that cannot be read back, so that nothing can be compared with them.
    """

    questions: tuple[CallQuestion, ...]
    form: AnswerForm
    too_long: int
    unread: int


def call_inputs(rows: Sequence[HeldOut], tokenizer: Any, settings: Profile, room_tokens: int) -> CallInputs | None:
    """Every call of the rows as a question; None where no row calls a tool."""
    turns = [(number, at) for number, row in enumerate(rows) for at in _calling(row.example)]
    if not turns:
        return None
    template = trained_template(settings, tokenizer)
    form = answer_form(tokenizer, template)
    whole = [conversation_of(rows[number].example) for number, _ in turns]
    befores = [one.upto(at) for one, (_, at) in zip(whole, turns, strict=True)]
    upto = [one.upto(at + 1) for one, (_, at) in zip(whole, turns, strict=True)]
    prompts = render(tokenizer, template, befores, generation=True)
    tokens = tokens_of_conversations(tokenizer, template, befores)
    ends = render(tokenizer, template, upto, generation=False)
    found: list[CallQuestion] = []
    too_long = unread = 0
    for place, conversation, prompt, end, ids in zip(turns, whole, prompts, ends, tokens, strict=True):
        if isinstance(prompt, RowProblem) or isinstance(end, RowProblem) or isinstance(ids, RowProblem):
            unread += 1
        elif len(ids) > room_tokens:
            too_long += 1
        elif (question := _question(place, conversation, behind(prompt, end), form, tokenizer, ids)) is None:
            unread += 1
        else:
            found.append(question)
    return CallInputs(tuple(found), form, too_long, unread)


def _question(
    place: tuple[int, int], conversation: Conversation, written: str, form: AnswerForm, tokenizer: Any, ids: list[int]
) -> CallQuestion | None:
    """The question whose answer the template writes as `written`; None where not every call in it can be read."""
    wanted = read_reply(written, form)
    if len(wanted.calls) != len(conversation.turns[place[1]]["tool_calls"]):
        return None
    return CallQuestion(place, _asked(conversation, place[1]), tuple(ids), wanted, _without_ends(written, tokenizer))


def _without_ends(written: str, tokenizer: Any) -> str:
    """Without the special tokens behind an answer."""
    text, ends = written.rstrip(), tuple(tokenizer.all_special_tokens)
    while found := next((mark for mark in ends if mark and text.endswith(mark)), ""):
        text = text.removesuffix(found).rstrip()
    return text.strip()


def _calling(example: Example) -> list[int]:
    """Places of the trained answers that call tools."""
    return [at for at, message in enumerate(example.messages) if message.train and message.calls and at > 0]


def _asked(conversation: Conversation, at: int) -> str:
    """What stands right before the answer, for showing."""
    before = [turn for turn in conversation.turns[:at] if turn["role"] != "system"]
    return str(before[-1]["content"]) if before else ""


def call_scores(answers: Sequence[Answer], inputs: CallInputs) -> dict[str, list[float]]:
    """0 or 1 a question and score: the answer's calls parse; they call the wanted tools; with the wanted arguments."""
    replies = [read_reply(answer.written, inputs.form) for answer in answers]
    pairs = list(zip(replies, (question.wanted for question in inputs.questions), strict=True))
    return {
        "calls_parsed": [float(bool(reply.calls) and not reply.problem) for reply, _ in pairs],
        "tools_right": [float(_tools(reply) == _tools(wanted)) for reply, wanted in pairs],
        "arguments_right": [float(_calls(reply) == _calls(wanted)) for reply, wanted in pairs],
    }


def _tools(reply: Reply) -> list[str]:
    return sorted(call.name for call in reply.calls)


def _calls(reply: Reply) -> list[str]:
    """Each call in a form in which equal calls are equal, whatever the order of calls and keys."""
    return sorted(json.dumps([call.name, _value(call)], sort_keys=True) for call in reply.calls)


def _value(call: ToolCall) -> Any:
    return _plain(json.loads(call.arguments))


def _plain(value: Any) -> Any:
    """The same with whole numbers as such: 3.0 asks for what 3 asks for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
