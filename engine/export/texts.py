"""The texts on which an export is compared: held-out conversations of the run, or a few built-in ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.conversation import Conversation, conversation_of, with_arguments
from engine.data.examples import Example, Message
from engine.errors import EngineError
from engine.inference.encode import EncodedRows, encode_rows
from engine.inference.losses import Encoded
from engine.inference.rows import HeldOut, choose, read_held_out
from engine.inference.run import OpenedRun
from engine.profile.schema import Profile
from engine.runs.job import Warn

PROMPTS = 3
ROWS = 4
ROW_TOKENS = 192
CALIBRATION_ROWS = 64
ANSWER_FACTOR, ANSWER_SPARE_TOKENS = 2, 16
"""An answer may take this many times the tokens of the wanted one, and so many more."""

BUILT_IN = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write a haiku about rain.", "Soft rain on the roof,\nthe garden drinks in silence,\nmorning smells of earth."),
    ("请用一句话介绍长城。", "长城是中国古代修建的防御工程。"),
    ("def add(a, b):", "    return a + b"),
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that a model is asked to go on with, and the most tokens of an answer."""

    conversation: Conversation
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows to compare on, prompts to answer, what ends an answer, and where the texts are from.

    `calibration` are rows that are not compared on, for scales of activations; with few rows, the same ones.
    """

    rows: list[Encoded]
    prompts: list[Prompt]
    last_trained: frozenset[int]
    template: str | None
    source: str
    calibration: list[list[int]]

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of `rows`."""
        return [list(row.ids) for row in self.rows]


def texts_of(trained: OpenedRun, tokenizer: Any, warn: Warn) -> Texts:
    """Up to four texts of at most 192 tokens and three prompts, with the run's template."""
    try:
        held_out = read_held_out(trained.run_dir)
    except EngineError as error:
        warn("held_out", f"the export is compared on built-in texts: {error.message}")
        held_out = []
    chosen = choose(held_out, ROWS) or _built_in()
    encoded = _encoded(chosen, tokenizer, trained.settings)
    others = choose([row for row in held_out if row not in chosen], CALIBRATION_ROWS)
    # The shortest wanted answers: whether a model stops by itself shows before the limit of new tokens.
    asked = sorted((row for row in held_out if row.has_prompt), key=lambda row: len(row.reference))[:PROMPTS]
    most, arguments = trained.settings.evaluate.max_new_tokens, trained.settings.data.template_arguments
    return Texts(
        encoded.documents,
        [_prompt(row, tokenizer, most, arguments) for row in asked or _built_in()[:PROMPTS]],
        encoded.last_trained,
        tokenizer.chat_template,
        "held-out rows" if held_out else "built-in texts",
        [
            list(row.ids)
            for row in (_encoded(others, tokenizer, trained.settings).documents if others else encoded.documents)
        ],
    )


def _encoded(rows: Sequence[HeldOut], tokenizer: Any, settings: Profile) -> EncodedRows:
    return encode_rows(rows, tokenizer, max_length=ROW_TOKENS, room_tokens=2**31, settings=settings)


def _prompt(row: HeldOut, tokenizer: Any, most: int, arguments: Mapping[str, Any]) -> Prompt:
    wanted = len(tokenizer(row.reference, add_special_tokens=False).input_ids)
    return Prompt(
        with_arguments(conversation_of(row.example, row.example.messages[:-1]), arguments),
        min(most, ANSWER_FACTOR * wanted + ANSWER_SPARE_TOKENS),
    )


def _built_in() -> list[HeldOut]:
    return [
        HeldOut(Example((Message("user", question), Message("assistant", reply, True)), number))
        for number, (question, reply) in enumerate(BUILT_IN, 1)
    ]
