"""What `engine models` shows of a model, as values and as lines.

Read by `engine.cli.models` alone. Not here: finding the model, options and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.models.spec import ModelSpec


def row(spec: ModelSpec, own: set[str]) -> dict[str, Any]:
    """One model of the list; `path` is where its files are on this machine."""
    from engine.models.resolve import cached_snapshot

    path = spec.path or cached_snapshot(spec.name)
    return {
        "name": spec.name,
        "family": spec.family,
        "parameters": spec.sizes.total_parameters,
        "context": spec.max_position_embeddings,
        "licence": spec.licence,
        "gated": spec.gated,
        "use_cases": list(spec.use_cases),
        "own": spec.name in own,
        "path": str(path) if path else None,
    }


def marks(row: dict[str, Any]) -> str:
    """What sets a row apart: yours, on disk, gated."""
    return ", ".join(text for key, text in (("own", "yours"), ("path", "on disk"), ("gated", "gated")) if row[key])


def breakdown(spec: ModelSpec) -> dict[str, int]:
    """Parameters by kind, their sum, the total that is used, and what a token is multiplied with."""

    return {
        "linear": spec.sizes.linear_parameters,
        "experts": spec.sizes.expert_parameters,
        "embeddings": spec.sizes.embedding_parameters,
        "norms": spec.sizes.small_parameters,
        "computed": spec.sizes.computed_parameters,
        "total": spec.sizes.total_parameters,
        "active": spec.sizes.active_parameters,
    }


def facts(spec: ModelSpec, *, own: bool, checked_against: str) -> list[tuple[str, str]]:
    """Label and text of each line of `engine models show`."""
    from engine.models.resolve import describe_parameters

    heads = f"{spec.num_attention_heads} heads of {spec.head_dim}, {spec.num_key_value_heads} for keys and values"
    experts = f", {spec.num_experts} experts, {spec.num_experts_per_token} a token" if spec.num_experts else ""
    window = f", window {spec.sliding_window}" if spec.sliding_window else ""
    tied = "tied" if spec.tie_word_embeddings else "not tied"
    checked = f"shipped list, checked against {checked_against}" if checked_against else "shipped list, not checked"
    listed = "your own list" if own else checked if spec.source == "catalogue" else spec.source
    return [
        ("model", spec.name),
        ("family", spec.family),
        ("licence", (spec.licence or "not known") + (", gated" if spec.gated else "")),
        ("context", f"{spec.max_position_embeddings} tokens{window}"),
        ("layers", f"{spec.num_hidden_layers} of {spec.hidden_size}, feed-forward {spec.intermediate_size}{experts}"),
        ("attention", heads),
        ("vocabulary", f"{spec.vocab_size}, embeddings {tied}"),
        ("weights", spec.weights_dtype),
        ("source", listed),
        ("files", spec.path or "not on this machine"),
        ("parameters", describe_parameters(spec)),
    ]
