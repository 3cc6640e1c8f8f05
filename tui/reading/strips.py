"""What a run answered to its fixed prompts, ready to draw: for each prompt a strip of answers, the base first.

Read in a thread, sanitised here. Not here: drawing (`tui.answers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from engine.api import runs
from engine.api.runs import Run, Sample, Samples
from engine.text import sanitize

MOST_CHARS = 8000
"""Of one text; the whole is in the run's events."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer; `note` says how long it is. Texts may have lines."""

    step: int
    text: str
    note: str

    @property
    def name(self) -> str:
        """`base`, `step 50`."""
        return f"step {self.step:,}" if self.step else "base"


@dataclass(frozen=True, slots=True)
class Strip:
    """A prompt with its answers, by step."""

    prompt: str
    answers: tuple[Answered, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps at which it was answered."""
        return tuple(answer.step for answer in self.answers)


def make_strips(samples: Samples) -> tuple[Strip, ...]:
    """A strip for each prompt, in the order of the profile."""
    found = []
    for _, group in groupby(samples.all(), key=lambda sample: sample.index):
        answers = list(group)
        before = [None, *answers[:-1]]
        shown = (_answered(sample, last) for sample, last in zip(answers, before, strict=True))
        found.append(Strip(sanitize(answers[-1].prompt, max_chars=MOST_CHARS), tuple(shown)))
    return tuple(found)


def _answered(sample: Sample, before: Sample | None) -> Answered:
    facts = [f"{sample.tokens:,} token{'s' * (sample.tokens != 1)}"] if sample.tokens is not None else []
    facts += [] if sample.ended else ["cut"]
    facts += ["as before"] if before is not None and before.output == sample.output else []
    return Answered(sample.step, sanitize(sample.output, max_chars=MOST_CHARS).strip(), ", ".join(facts))


def read_strips(run: Run) -> tuple[Strip, ...]:
    """The strips of a run that nobody follows, from its events. Raises OSError."""
    return make_strips(runs.read_samples(run.events_path))
