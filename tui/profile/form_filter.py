"""The filter of the form: words, and where a value comes from. Pure functions of a setting and what its row shows.

warm ratio         both words are found in name, help, value or source
-lora              this word is not found
is:edited is:auto  what the row says of its value; also is:profile is:default is:problem
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.profile.view import RowState, group_of, label_of

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec

STATES = ("edited", "auto", "profile", "default", "problem")
FILTER_HINT = "words, -word, is:edited is:auto is:profile; esc clears"
FILTER_MORE = "enter keeps the filter, esc clears it; also is:default and is:problem"
NOTHING_FOUND = "no setting matches: other words, or esc to see all of them"
FILTER_HELP = """\
words       all have to be found in a setting's name, help, value or source; -word must not
is:edited   only what was changed and not saved      is:profile   only what the file sets
is:auto     only what the machine chooses            is:default   only what nobody set
is:problem  only what something is wrong with        enter keeps the filter, esc clears it"""
ALIASES = {
    "train.learning_rate": "lr",
    "train.per_device_train_batch_size": "batch size bs",
    "train.total_batch_size": "global batch effective batch",
    "train.gradient_accumulation_steps": "grad accum",
    "train.activation_checkpointing": "gradient checkpointing",
    "quantization.method": "qlora 4bit 8bit load_in_4bit",
    "model.max_length": "sequence length context seq_len",
    "data.datasets.0.path": "dataset",
}
"""What other trainers call a setting."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What was typed, understood."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.words or self.without or self.states or self.problem)


def parse_filter(text: str) -> Filter:
    """A filter from what was typed; what cannot be understood is told in `problem`."""
    words, without, states, problem = [], [], [], ""
    for item in text.lower().split():
        if item.startswith("is:"):
            meant = [state for state in STATES if state.startswith(item[3:])]
            states += meant[:1]
            if not meant:
                problem = f"'{item}' is none of {', '.join(f'is:{state}' for state in STATES)}"
        elif item.startswith("-") and len(item) > 1:
            without.append(item[1:])
        else:
            words.append(item)
    return Filter(tuple(words), tuple(without), tuple(states), problem)


def matches(spec: FieldSpec, state: RowState, asked: Filter) -> bool:
    """Whether a setting is what was asked for."""
    if not all(_is(state, name) for name in asked.states):
        return False
    facts = (spec.key, spec.key.replace("_", " "), label_of(spec), spec.description, group_of(spec))
    text = " ".join((*facts, ALIASES.get(spec.key, ""), state.value, state.source)).lower()
    return all(word in text for word in asked.words) and not any(word in text for word in asked.without)


def _is(state: RowState, name: str) -> bool:
    return bool(state.message) if name == "problem" else state.source.startswith(name)
