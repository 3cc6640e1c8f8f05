"""The model card: README.md with metadata that the hub accepts, for a merged model or an adapter.

What it says comes from the run's own files; nothing in it names this machine, its user or its paths.
Not here: the sections of the text (`card_sections.py`).
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from engine.export import card_sections as sections
from engine.export.clean import plain, redact
from engine.export.facts import Facts
from engine.inference.run import OpenedRun
from engine.text import sanitize

HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "unlicense"}
    | {"gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4"}
    | {"openrail", "bigscience-openrail-m", "bigcode-openrail-m", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0"}
)
"""Identifiers of hub licences that language models carry; any other goes out as `other` with its name."""

_RESULTS = (
    ("perplexity", "perplexity", "Perplexity"),
    ("rouge", "rougeL", "ROUGE-L"),
    ("bleu", "bleu", "BLEU"),
    ("chrf", "chrf", "chrF"),
    ("exact_match", "exact_match", "Exact match"),
    ("f1", "token_f1", "Token F1"),
)
"""(metric id on the hub, key in the report, name)."""


def card_text(facts: Facts) -> str:
    """The whole README.md. Raises ValueError when its metadata would not read back as written."""
    parts = [
        f"# {title(facts)}",
        sections.summary(facts),
        sections.usage(facts),
        sections.evaluation(facts),
        sections.check(facts),
        sections.training(facts),
        sections.data(facts),
        sections.environment(facts),
    ]
    metadata = metadata_of(facts)
    text = f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"
    if ModelCard(text).data.to_dict() != metadata.to_dict():
        raise ValueError("the metadata of the model card does not survive being read back")
    return text


def title(facts: Facts) -> str:
    """The profile's name, else the base model's."""
    name = facts.trained.settings.name or f"{facts.base.rpartition('/')[2]}-tuned"
    return plain(name, 80)


def metadata_of(facts: Facts) -> ModelCardData:
    """The YAML head. `base_model` only where the hub knows it; data sets never: these were local files."""
    settings = facts.trained.settings
    method = {"lora": "lora", "freeze": "last-layers"}.get(settings.tuning.method, "full-fine-tuning")
    extra: dict[str, Any] = {}
    if facts.base_on_hub:
        extra["base_model_relation"] = "adapter" if facts.kind == "adapter" else "finetune"
    return ModelCardData(
        base_model=facts.base if facts.base_on_hub else None,
        library_name="peft" if facts.kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["tunedeck", method, *(["qlora"] if settings.quantization.method in ("nf4", "fp4") else [])],
        model_name=sanitize(redact(settings.name or f"{facts.base.rpartition('/')[2]}-tuned"), single_line=True),
        eval_results=_results(facts) or None,
        **_licence(facts.trained),
        **extra,
    )


def _licence(trained: OpenedRun) -> dict[str, Any]:
    told = trained.record.model.licence
    known = sanitize(redact(told), max_chars=60, single_line=True)
    if not known:
        return {}
    return {"license": known} if known.lower() in HUB_LICENCES else {"license": "other", "license_name": known}


def _results(facts: Facts) -> list[EvalResult]:
    scores = facts.report.tuned if facts.report else {}
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type="held-out",
            dataset_name="Held-out rows of the training data",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for kind, key, name in _RESULTS
        if (value := scores.get(key)) is not None
    ]
