"""What an export takes on disk, before it is written: each format from the model's shape, and all of them at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.export.formats import BY_NAME

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_MARGIN = 1.05
_SMALL_FILES_BYTES = 64 * 1024 * 1024
"""Tokenizer, cards and reports."""
_COARSE_KINDS = ("q4_0", "q5_0", "q5_1")
"""GGUF kinds whose embeddings and head are stored as q8_0."""


def estimated_bytes(kind: str, run_json: Mapping[str, Any], dtype: str = "") -> float | None:
    """About how large `adapter`, `merged` or a format will be; None when the model's shape is not known.

    Matrices of the layers count in the format's bits, embeddings and head as the exporter stores them. `dtype`: of
    the merged weights, empty = as the run computed.
    """
    own_dtype = str(_table(_table(run_json, "settings"), "model").get("dtype") or "bf16")
    if kind == "adapter":
        trained = _number(_table(run_json, "estimate"), "trainable_parameters")
        return trained * _item_bytes(own_dtype) if trained else None
    model = _table(run_json, "model")
    parameters = _number(model, "parameters")
    if not parameters:
        return None
    merged_item = _item_bytes(dtype or own_dtype)
    if kind == "merged":
        return parameters * merged_item
    row = BY_NAME[kind]
    edges = _number(model, "vocab_size") * _number(model, "hidden_size")
    edges *= 1 if model.get("tie_word_embeddings") else 2
    edge_bits = merged_item * 8 if not row.is_gguf else BY_NAME["q8_0" if kind in _COARSE_KINDS else kind].weight_bits
    return (edges * edge_bits + max(0.0, parameters - edges) * row.weight_bits) / 8


def needed_bytes(parameters: int, dtype: str, model_files: int, adapter_bytes: int) -> int:
    """The most that an export of `model_files` whole models in `dtype`, and an adapter, takes while it is written.

    Embeddings, head and norms stay as they are: a format is never larger than the merged model.
    """
    models = model_files * parameters * ITEM_BYTES[dtype]
    return int((models + adapter_bytes) * _MARGIN) + _SMALL_FILES_BYTES


def _item_bytes(dtype: str) -> int:
    return ITEM_BYTES.get(dtype, 2)


def _table(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = holder.get(key)
    return table if isinstance(table, Mapping) else {}


def _number(table: Mapping[str, Any], key: str) -> float:
    """0 where it is missing or no number."""
    number = table.get(key)
    return float(number) if isinstance(number, (int, float)) and not isinstance(number, bool) else 0.0
