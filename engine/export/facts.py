"""What a model card is written from."""

from __future__ import annotations

from dataclasses import dataclass

from engine.evaluate.report import EvaluationReport
from engine.export.report import FormatReport, OllamaReport
from engine.inference.run import OpenedRun

TEXT_LOADER = "AutoModelForCausalLM"
"""transformers' class of models that know text alone."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is written from. `kind` is adapter, merged or how the merged model was quantized.

    `parity` is the entry of this kind in the parity report, `merged` that of the merged model, `report` the evaluation;
    each may be missing.
    """

    kind: str
    trained: OpenedRun
    base: str
    base_on_hub: bool
    dtype: str
    size_bytes: int
    parity: FormatReport | None
    report: EvaluationReport | None
    merged: FormatReport | None = None
    chats: bool = True
    """Whether its tokenizer has a chat template."""
    loader: str = TEXT_LOADER
    """transformers' class that loads it, or the base of an adapter."""
    ollama: OllamaReport | None = None
    """Of the merged model's Modelfile, where one was written."""
