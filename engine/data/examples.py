"""Rows of training data as plain values: messages, examples, and rows that could not be used.

Made by `formats.py`, carried through `split.py`, `mask.py` and `report.py`. Nothing here reads files
or knows tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an answer makes. `arguments` is the JSON text of an object, its keys in the data's order."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is one of ROLES; `train` marks an answer that the loss sees.

    An answer may hold `reasoning` (what it thinks first) and `calls`. A tool's result may say which tool it is from
    (`name`) and which call it answers (`call_id`).
    """

    role: str
    content: str
    train: bool = False
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every piece of text that a template may write of it; the content first."""
        if not (self.reasoning or self.calls or self.name or self.call_id):
            return (self.content,)
        return (
            self.content,
            self.reasoning,
            self.name,
            self.call_id,
            *(text for call in self.calls for text in (call.name, call.arguments, call.id)),
        )


@dataclass(frozen=True, slots=True)
class Example:
    """One usable row. `kind` text = one assistant message without a prompt, trained on whole; pair = two answers to
    compare (`messages` ends with the better one); judged = an answer that is `desirable` or not.

    `row` counts from 1 within its file; `dataset` is the position in `data.datasets`, -1 for the
    validation file.
    """

    messages: tuple[Message, ...]
    row: int
    kind: Literal["chat", "text", "pair", "judged"] = "chat"
    dataset: int = 0
    rejected: tuple[Message, ...] = ()
    """The conversation with the worse answer."""
    desirable: bool = True
    tools: str = ""
    """JSON text of the list of tools that the conversation may call, as OpenAI's function schemas; '' = none."""
    template_arguments: str = ""
    """JSON text of an object: what the row itself hands to the chat template; '' = nothing."""
    as_text: tuple[Message, ...] = field(default=(), compare=False, repr=False)
    """The messages as the row has them, where its tools and calls were read from text (`hermes.py`)."""

    @property
    def characters(self) -> int:
        """Of its messages and tools."""
        return len(self.tools) + sum(len(text) for message in self.messages for text in message.texts)

    @property
    def key(self) -> bytes:
        """Digest of the content: equal for exact duplicates, whatever their file and row."""
        digest = hashlib.blake2b(self.kind.encode(), digest_size=16)
        digest.update(bytes([self.desirable]))
        texts = [self.tools, self.template_arguments] if self.tools or self.template_arguments else []
        for message in (*self.messages, *self.rejected):
            texts += [message.role, *(message.texts if any(message.texts[1:]) else message.texts[:1])]
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.digest()

    @property
    def lesson_key(self) -> bytes:
        """As `key`, and which answers are learned: a conversation may come again to teach another of its answers."""
        trained = bytes(message.train for message in self.messages)
        return hashlib.blake2b(self.key + trained, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: `cause` groups, `detail` says what exactly. `line` where the file has lines."""

    row: int
    cause: str
    detail: str = ""
    line: int | None = None

    def where(self, path: Path) -> str:
        """`file.jsonl, row 7 (line 9)`."""
        line = f" (line {self.line})" if self.line is not None else ""
        return f"{path.name}, row {self.row}{line}"

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}" if self.detail else self.cause


class RowProblem(Exception):
    """Raised where one row cannot be used; caught by whoever collects bad rows."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Examples:
    """What a file gave, or a part of it: usable rows in order, unusable ones with causes, and how it was read."""

    path: Path
    format: str
    why: str
    rows_read: int
    examples: tuple[Example, ...]
    bad: tuple[BadRow, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was left out of usable rows, and of how many."""
    unread: Mapping[tuple[str, str, bool], int] = field(default_factory=dict)
    """Columns and message keys that hold something and nobody reads (`unread.py`), and in how many rows."""
    layouts: Mapping[Any, int] = field(default_factory=dict)
    """Formats with the columns that rows hold (`layouts.py`), and how many rows."""

    @property
    def causes(self) -> dict[str, int]:
        """Bad rows by cause, most frequent first."""
        return dict(Counter(row.cause for row in self.bad).most_common())
