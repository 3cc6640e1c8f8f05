"""Answers to a run's fixed prompts, folded from its `sample` events: which prompt, at which step, what was said.

Not here: samples of an evaluation afterwards, which compare two models and have a report of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.jsonvalues import number_in, whole_in
from engine.runs.events import Event, EventReader

MOST_STEPS = 200
"""Steps that are kept: the first, and the newest ones."""
MOST_CHARS = 20_000
"""Of one text; the whole is in the run's events."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. `step` 0 is the base. `ended`: it ended by itself; False = cut at the limit of new tokens."""

    step: int
    index: int
    """The prompt's place in the profile, from 0."""
    prompt: str
    output: str
    tokens: int | None
    seconds: float | None
    ended: bool


def sample_from(event: Mapping[str, Any]) -> Sample | None:
    """The answer that a `sample` event holds; None for one of another kind, or damaged. Texts are not sanitised."""
    step, index = whole_in(event, "step"), whole_in(event, "index")
    if step is None or index is None or step < 0 or index < 0:
        return None
    return Sample(
        step=step,
        index=index,
        prompt=str(event.get("prompt") or "")[:MOST_CHARS],
        output=str(event.get("output") or "")[:MOST_CHARS],
        tokens=whole_in(event, "tokens"),
        seconds=number_in(event, "seconds"),
        ended=event.get("ended") is not False,
    )


@dataclass(slots=True)
class Samples:
    """The answers of a run by step and prompt, steps in order; an answer that is given again replaces the first."""

    by_step: dict[int, dict[int, Sample]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Take one answer."""
        if sample.step not in self.by_step:
            self.by_step[sample.step] = {}
            if len(self.by_step) > MOST_STEPS:
                del self.by_step[list(self.by_step)[1]]
        self.by_step[sample.step][sample.index] = sample

    def cut_after(self, step: int) -> None:
        """Drop answers behind `step`: a resumed run gives them anew."""
        for later in [each for each in self.by_step if each > step]:
            del self.by_step[later]

    def all(self) -> tuple[Sample, ...]:
        """Every answer kept, by prompt and then by step."""
        found = (sample for answers in self.by_step.values() for sample in answers.values())
        return tuple(sorted(found, key=lambda sample: (sample.index, sample.step)))


_KINDS = (b'"type":"sample"', b'"type":"started"')


def read_samples(path: Path) -> Samples:
    """The answers in an event file, of which no other line is parsed. Raises OSError."""
    samples = Samples()
    reader = EventReader(path, pick=lambda lines: [line for line in lines if any(kind in line for kind in _KINDS)])
    while True:
        for event in reader.read():
            apply(samples, event)
        if reader.at_end:
            return samples


def apply(samples: Samples, event: Event) -> None:
    """Take an event that answers a prompt, or begins or resumes the run."""
    if event["type"] == "started":
        resumed = whole_in(event, "resumed_from_step")
        samples.cut_after(-1 if resumed is None else resumed)
    elif event["type"] == "sample" and (sample := sample_from(event)) is not None:
        samples.add(sample)
