"""Answers to a run's fixed prompts as lines: the base, the step in the middle, the newest.

Not here: all of them, which `engine runs show --json` prints and the deck shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from engine.runs.samples import Sample, Samples
from engine.text import sanitize

_TEXT_CHARS = 300


def sample_lines(samples: Samples) -> Iterator[str]:
    """For each prompt a line, and below it at most three answers."""
    for _, found in groupby(samples.all(), key=lambda sample: sample.index):
        answers = list(found)
        yield f"prompt   {_short(answers[-1].prompt)}"
        for sample in _chosen(answers):
            who = f"step {sample.step}" if sample.step else "base"
            yield f"  {who:<10} {_short(sample.output) or '(nothing)'}{'' if sample.ended else ' (cut)'}"


def _chosen(answers: list[Sample]) -> list[Sample]:
    places = sorted({0, len(answers) // 2, len(answers) - 1})
    return [answers[place] for place in places]


def _short(text: str) -> str:
    shown = sanitize(text, max_chars=4 * _TEXT_CHARS, single_line=True).strip()
    return shown if len(shown) <= _TEXT_CHARS else f"{shown[:_TEXT_CHARS].rstrip()} …"
