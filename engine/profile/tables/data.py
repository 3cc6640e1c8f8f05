"""Settings of the examples: where they are and how they become tokens."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from engine.profile.tables.base import Name, PathText, Positive, Table, setting

TEMPLATE_RESERVED = frozenset(
    {
        *("conversation", "messages", "chat_template", "tools", "tokenize", "add_generation_prompt"),
        *("continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
        *("return_assistant_tokens_mask", "tokenizer_kwargs"),
    }
)
"""Arguments of `apply_chat_template` that are not a template's own."""


def _as_arguments(given: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(TEMPLATE_RESERVED & given.keys())
    if taken:
        raise ValueError(f"{', '.join(taken)}: Tunedeck hands these over itself; name arguments of the template's own")
    try:
        size = len(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("holds what JSON has no word for: a date, or a number without end") from None
    if size > 65_536:
        raise ValueError(f"has {size:,} characters as JSON; at most 65,536 may be handed over")
    return given


TemplateArguments = Annotated[dict[str, Any], AfterValidator(_as_arguments)]


MESSAGE_KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "train")
SPEAKERS = ("system", "user", "assistant", "tool", "call")


def _as_message_keys(given: dict[str, str]) -> dict[str, str]:
    unknown = [name for name in given if name not in MESSAGE_KEYS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no part of a message; known are {', '.join(MESSAGE_KEYS)}")
    if len(set(given.values())) < len(given):
        raise ValueError("two parts of a message have the same key")
    return given


def _as_speakers(given: dict[str, str]) -> dict[str, str]:
    unknown = sorted({role for role in given.values() if role not in SPEAKERS})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no role; known are {', '.join(SPEAKERS)}")
    return given


TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=10_000_000)]], Field(min_length=1, max_length=200)]


class Dataset(Table):
    """One source of training examples."""

    path: PathText = setting(
        ...,
        "json, jsonl, csv, tsv, parquet, arrow or txt file, a pattern such as 'data/*.jsonl', or a folder of such"
        " files, relative to the profile; 'hub:OWNER/NAME' for a set of the hub, 'demo:NAME' for a built-in one.",
    )
    split: Name = setting("train", "Part of a folder or of a set of the hub.")
    subset: Name | None = setting(None, "Configuration of a set that has several.", advanced=True)
    format: Literal["auto", "alpaca", "messages", "prompt-completion", "text"] = setting(
        "auto", "Row layout; auto recognises it from the columns and says what it took."
    )
    weight: float = setting(
        1.0, "How often its rows are seen in an epoch: 0.3 = a random 30 % of them, 2 = each twice.", gt=0, le=100
    )
    max_samples: Positive | None = setting(None, "Use only its first n examples.", unit="rows", advanced=True)
    columns: dict[Name, Name] = setting(
        {}, "Own column names: role = column, e.g. instruction = 'question'.", advanced=True
    )
    message_keys: Annotated[dict[Name, Name], AfterValidator(_as_message_keys)] = setting(
        {},
        "Own keys of messages: what = key, e.g. role = 'speaker', content = 'text'; also for reasoning_content,"
        " tool_calls, tool_call_id, name and train.",
        advanced=True,
        items="role = 'speaker', content = 'text'",
    )
    speakers: Annotated[dict[Name, Name], AfterValidator(_as_speakers)] = setting(
        {},
        "Own words of messages for who speaks: word = role, e.g. customer = 'user'; roles are system, user, assistant,"
        " tool and call (an answer that is a call).",
        advanced=True,
        items="customer = 'user', clerk = 'assistant'",
    )
    ignored_columns: list[Name] = setting(
        [], "Columns left out on purpose: they are neither read nor told of.", max_length=1000, advanced=True
    )
    values_as_text: bool = setting(
        False,
        "Take numbers, true and false in prompts and answers as text, and cells such as 'nan' or 'None' as words.",
        advanced=True,
    )
    documents: Literal["file", "paragraph", "line"] = setting(
        "file",
        "What one example of a txt file is: all of it, each block between blank lines, or each line.",
        advanced=True,
    )


class Data(Table):
    """Where examples come from and how they become tokens."""

    datasets: list[Dataset] = setting(..., "Files of examples.", min_length=1, max_length=1000)
    template: Name = setting(
        "auto",
        "Chat template: auto = the model's own, else a named one such as chatml, hermes (with tools), llama3, or a file"
        " that ends in .jinja, relative to the profile.",
    )
    template_arguments: TemplateArguments = setting(
        {},
        "Handed to the chat template by name, in training, evaluation and chat, e.g. enable_thinking = false; a row's"
        " own go first.",
        advanced=True,
        items="{ enable_thinking = false }",
    )
    system: str = setting(
        "", "System message put before each conversation that has none.", advanced=True, max_length=8192
    )
    mask: Literal["answers", "last", "all"] = setting(
        "answers", "What the loss sees: every answer, only the last one of a conversation, or prompts too."
    )
    learn: list[Literal["text", "calls", "thoughts", "results"]] = setting(
        ["text", "calls", "thoughts"],
        "Parts of a conversation that the loss sees: the text of answers, their calls, their thoughts, and what tools"
        " answered. The mark that ends an answer goes with its last part.",
        advanced=True,
        min_length=1,
        max_length=4,
    )
    response_template: Annotated[str, Field(min_length=1, max_length=200)] | TokenIds | None = setting(
        None,
        "In plain text rows: the loss sees only what stands behind the last of these marks; behind each one where rows"
        " are written with a chat template, or with instruction_template. Text, or a list of token ids.",
        advanced=True,
    )
    instruction_template: Annotated[str, Field(min_length=1, max_length=200)] | TokenIds | None = setting(
        None,
        "In plain text rows: what begins a question. Every answer between response_template and this is learned.",
        advanced=True,
    )
    marks: Literal["auto", "text", "tokens"] = setting(
        "auto",
        "Special tokens that rows spell out: tokens where a row is already written with a chat template, letters"
        " elsewhere (auto); always letters (text); always tokens (tokens).",
    )
    deduplicate: bool = setting(False, "Leave out exact duplicates of earlier rows; they are counted in any case.")
    packing: bool = setting(True, "Put several short examples into one sequence, kept apart in attention.")
    validation_fraction: float = setting(0.05, "Share of examples held out for evaluation.", ge=0, lt=0.9)
    validation_rows: Positive | None = setting(
        None, "Exactly so many examples are held out; replaces validation_fraction.", unit="rows", advanced=True
    )
    validation_path: PathText | None = setting(None, "File of held-out examples; replaces both.")
    validation_split: Name = setting(
        "validation", "Part of validation_path where that is a folder or a set of the hub.", advanced=True
    )
    max_samples: Positive | None = setting(None, "Use only the first n examples.", unit="rows")
    max_bad_fraction: float = setting(
        0.01, "Refuse to start when more than this share of rows is unusable.", ge=0, le=1, advanced=True
    )
    overlong: Literal["cut", "drop", "split"] = setting(
        "cut",
        "What to do with examples longer than max_length; split = plain text goes on in the next sequence.",
        advanced=True,
    )

    @property
    def holds_out(self) -> bool:
        """Whether there will be examples to evaluate on."""
        return self.validation_path is not None or self.validation_rows is not None or self.validation_fraction > 0
