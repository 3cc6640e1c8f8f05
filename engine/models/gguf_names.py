"""How llama.cpp takes the families whose GGUF files are written: one entry a family, none inherited from another.

What is here was run by llama.cpp itself (`bench/gguf_families.py`); what it would run otherwise than it was trained is
refused by `engine.export.gguf_judges`. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gguf:
    """How llama.cpp takes a family's weights and tokenizer."""

    architecture: str
    """llama.cpp's name."""
    wrapped: str = ""
    """Its name of the same text model inside one that also sees, where that is another."""
    rotates_neighbors: bool = False
    """Whether llama.cpp rotates neighbors, so that rows of the query and key projections change their order."""
    shifts_norms: bool = False
    """Whether 1 is added to the weights of norms."""
    knows_windows: bool = False
    """Whether llama.cpp keeps to the sliding windows of this family."""
    rotates_part: bool = False
    """Whether llama.cpp knows positions on a part of each head."""
    splitter: str = ""
    """llama.cpp's name for how text is split before merging; empty = found by the tokenizer's pattern."""


WRITTEN: dict[str, Gguf] = {
    "apertus": Gguf("apertus"),
    "arcee": Gguf("arcee", rotates_neighbors=True),
    "cohere2": Gguf("cohere2", knows_windows=True, splitter="command-r"),
    "ernie4_5": Gguf("ernie4_5"),
    "exaone4": Gguf("exaone4", knows_windows=True),
    "gemma": Gguf("gemma", shifts_norms=True),
    "gemma2": Gguf("gemma2", shifts_norms=True, knows_windows=True),
    "gemma3_text": Gguf("gemma3", shifts_norms=True, knows_windows=True),
    "glm4": Gguf("glm4", rotates_part=True),
    "granite": Gguf("granite", rotates_neighbors=True),
    "hunyuan_v1_dense": Gguf("hunyuan-dense"),
    "llama": Gguf("llama", rotates_neighbors=True),
    "ministral3": Gguf("mistral3", rotates_neighbors=True),
    "mistral": Gguf("llama", rotates_neighbors=True),
    "mixtral": Gguf("llama", rotates_neighbors=True),
    "nemotron": Gguf("nemotron", shifts_norms=True, rotates_part=True),
    "olmo2": Gguf("olmo2", knows_windows=True),
    "olmo3": Gguf("olmo2", knows_windows=True),
    "olmoe": Gguf("olmoe"),
    "phi3": Gguf("phi3", splitter="dbrx"),
    "qwen2": Gguf("qwen2", wrapped="qwen2vl", splitter="qwen2"),
    "qwen2_moe": Gguf("qwen2moe", splitter="qwen2"),
    "qwen3": Gguf("qwen3", wrapped="qwen3vl", splitter="qwen2"),
    "qwen3_moe": Gguf("qwen3moe", splitter="qwen2"),
    "seed_oss": Gguf("seed_oss"),
    "smollm3": Gguf("smollm3", rotates_neighbors=True),
}
"""By transformers' `model_type` of the text model."""
