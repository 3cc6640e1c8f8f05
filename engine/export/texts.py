"""What an export is compared on: held-out conversations of the run, or a few built-in ones.

Called by `run.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.examples import Example, Message
from engine.errors import EngineError
from engine.evaluate.encode import encode_rows
from engine.evaluate.rows import HeldOut, choose, read_held_out
from engine.evaluate.trained import Trained
from engine.export.parity import ROW_TOKENS, ROWS
from engine.worker_job import Warn

BUILT_IN = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write a haiku about rain.", "Soft rain on the roof,\nthe garden drinks in silence,\nmorning smells of earth."),
    ("请用一句话介绍长城。", "长城是中国古代修建的防御工程。"),
    ("def add(a, b):", "    return a + b"),
)


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids to compare on, a prompt to answer, what ends an answer, and where the texts are from."""

    rows: list[list[int]]
    messages: list[dict[str, str]]
    last_trained: set[int]
    template: str
    source: str


def texts_of(trained: Trained, tokenizer: Any, warn: Warn) -> Texts:
    """Up to four texts of at most 192 tokens, with the run's template."""
    try:
        held_out = read_held_out(trained.run_dir)
    except EngineError as error:
        warn("held_out", f"the export is compared on built-in texts: {error.message}")
        held_out = []
    chosen = choose(held_out, ROWS) or _built_in()
    encoded = encode_rows(chosen, tokenizer, max_length=ROW_TOKENS, room_tokens=2**31)
    # The shortest wanted answer: whether a model stops by itself shows before the limit of new tokens.
    asked = min((row for row in held_out if row.has_prompt), key=lambda row: len(row.reference), default=_built_in()[0])
    return Texts(
        [list(document.ids) for document in encoded.documents],
        [{"role": message.role, "content": message.content} for message in asked.example.messages[:-1]],
        encoded.last_trained,
        tokenizer.chat_template,
        "held-out rows" if held_out else "built-in texts",
    )


def _built_in() -> Sequence[HeldOut]:
    return [
        HeldOut(Example((Message("user", question), Message("assistant", reply, True)), number))
        for number, (question, reply) in enumerate(BUILT_IN, 1)
    ]
