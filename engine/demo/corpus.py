"""The corpus that the demo model is trained on from random weights: short conversations, a seed apart.

The same seed gives the same rows on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from engine.demo.tasks import TASKS

SYSTEM = "You are a helpful assistant."
SYSTEM_SHARE = 0.15
SECOND_TURN_SHARE = 0.1


def corpus_rows(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` rows `{"messages": [{"role", "content"}, ...]}` of one or two questions each."""
    rng = Random(seed)
    tasks, weights = tuple(TASKS), tuple(TASKS.values())
    for _ in range(count):
        messages = [{"role": "system", "content": SYSTEM}] if rng.random() < SYSTEM_SHARE else []
        for task in rng.choices(tasks, weights, k=2 if rng.random() < SECOND_TURN_SHARE else 1):
            question, answer = task(rng)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield {"messages": messages}
