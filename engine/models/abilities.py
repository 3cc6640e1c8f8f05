"""What this engine can do with a model: follows from its family's row. Torch-free.

Not here: the rows (`families.py`), whether a model fits a device (`engine.recommend`).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Abilities:
    """What works for one model."""

    fit: bool
    """Whether its memory is computed."""
    train: bool
    merge: bool
    """Whether a trained adapter can be merged into the weights."""
    gguf: str
    """llama.cpp's name of the architecture that a GGUF file is written for; empty where none is written."""
    kernels: bool
    """Whether the Triton kernels know its family."""


def abilities_of(spec: ModelSpec) -> Abilities:
    """What the row of its family allows."""
    row = spec.traits
    trains = not row.refused
    return Abilities(
        fit=trains,
        train=trains,
        merge=trains,
        gguf=row.gguf.architecture if row.gguf else "",
        kernels=row.kernels is not None,
    )


def describe_abilities(able: Abilities) -> str:
    """`fit, train, merge, GGUF (qwen3)`, with `no …` for what does not work."""
    words = {"fit": able.fit, "train": able.train, "merge": able.merge, "Triton kernels": able.kernels}
    gguf = f"GGUF ({able.gguf})" if able.gguf else "no GGUF"
    return ", ".join([*(word if works else f"no {word}" for word, works in words.items()), gguf])
