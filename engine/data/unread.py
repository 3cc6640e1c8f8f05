"""What rows hold and nobody reads: columns, message keys and roles, counted; those that matter told apart.

Readers note here what they leave out; `accounts.py` adds it up and `report.py` tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MEDIA = frozenset(
    {"image", "images", "img", "imgs", "image_url", "image_urls", "image_path", "image_paths", "image_file"}
    | {"audio", "audios", "audio_path", "audio_url", "video", "videos", "video_path", "video_url"}
    | {"pixel_values"}
)
"""Columns and keys without which a row means something else: it is refused where they hold something."""
SWITCHES = frozenset(
    {"train", "trainable", "training", "train_on_turn", "loss", "loss_weight", "loss_scale", "weight"}
    | {"mask", "masked", "loss_mask", "split"}
)
"""Names that say what is learned, wherever they stand."""
CONTEXT = SWITCHES | frozenset(
    {"tools", "functions", "tool_calls", "function_call", "available_tools", "documents", "response_format"}
    | {"reasoning", "reasoning_content", "thinking", "thought", "history", "input", "context", "chosen"}
    | {"rejected", "system", "system_prompt", "system_message", "tool_call_id", "prefix", "kto_tag"}
    | {"chat_template_kwargs"}
)
"""Names that change what a conversation is."""
PROMPTS = CONTEXT | frozenset(
    {"instruction", "prompt", "question", "query", "output", "response", "answer", "answers", "completion"}
    | {"label", "solution", "rationale", "explanation", "cot", "complex_cot", "chain_of_thought", "thoughts"}
)
"""Names that matter beside a prompt and its answer; whole conversations and texts mostly hold the same again."""
MOST_NAMES = 200
_OTHERS = "others"

Place = tuple[str, str, bool]
"""What it is (column, message key), its name, and whether it matters."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that rows hold and nobody reads. `matters`: training on it would have been another training."""

    what: str
    name: str
    rows: int
    matters: bool

    def __str__(self) -> str:
        return f"{self.what} '{self.name}'"


@dataclass(slots=True)
class RowNotes:
    """What a row's readers noted; each thing once a row."""

    notes: set[str] = field(default_factory=set)
    unread: set[Place] = field(default_factory=set)

    def leave(self, what: str, names: Iterable[str], meaningful: frozenset[str] | None = CONTEXT) -> None:
        """Nobody reads these; those in `meaningful` matter, with None all of them."""
        self.unread.update(
            (what, name, meaningful is None or name.split(" ")[0].casefold() in meaningful) for name in names
        )


def added(counts: Counter[Place], more: Mapping[Place, int]) -> None:
    """Add counts of places; beyond MOST_NAMES different ones the rest is counted together."""
    for place, rows in more.items():
        known = place in counts or len(counts) < MOST_NAMES
        counts[place if known else (place[0], _OTHERS, place[2])] += rows


def told(counts: Mapping[Place, int]) -> tuple[Unread, ...]:
    """Those that matter first, then by their rows."""
    found = (Unread(what, name, rows, matters) for (what, name, matters), rows in counts.items())
    return tuple(sorted(found, key=lambda one: (not one.matters, -one.rows, one.name)))


def named(unread: Iterable[Unread]) -> str:
    """`id (20 rows), source (18 rows)`."""
    return ", ".join(
        f"{(one.name or 'a column without a name') if one.what == 'column' else one} ({_rows(one)})" for one in unread
    )


def _rows(one: Unread) -> str:
    return f"{one.rows:,} row{'s' * (one.rows != 1)}"


def warnings_of(path: str, unread: Iterable[Unread]) -> list[str]:
    """One warning for all that matters in a data set, or none."""
    lost = [one for one in unread if one.matters]
    if not lost:
        return []
    shown = ", ".join(f"{one} ({_rows(one)})" for one in lost[:8]) + (", …" if len(lost) > 8 else "")
    way = "give it a role with data.datasets.columns, or name it in ignored_columns"
    return [f"{path}: not read, though it holds something: {shown} - {way}"]
