"""What an export takes on disk, before it is written: each format from the model's shape, and all of them at most."""

from __future__ import annotations

from engine.export.formats import BY_NAME
from engine.runs.record import RunRecord

ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_MARGIN = 1.05
_SMALL_FILES_BYTES = 64 * 1024 * 1024
"""Tokenizer, cards and reports."""


def estimated_bytes(kind: str, record: RunRecord, dtype: str = "") -> float | None:
    """About how large `adapter`, `merged` or a format will be; None when the model's shape is not known.

    Matrices of the layers count in the format's bits, embeddings and head as the exporter stores them. `dtype`: of
    the merged weights, empty = as the run computed.
    """
    own_dtype = record.text("model.dtype") or "bf16"
    if kind == "adapter":
        trained = record.prediction.trainable_parameters
        return trained * _item_bytes(own_dtype) if trained else None
    model = record.model
    if not model.parameters:
        return None
    merged_item = _item_bytes(dtype or own_dtype)
    if kind == "merged":
        return model.parameters * merged_item
    row = BY_NAME[kind]
    edges = (model.vocab_size or 0) * (model.hidden_size or 0) * (1 if model.tie_word_embeddings else 2)
    edge_bits = BY_NAME[row.edges].weight_bits if row.is_gguf else merged_item * 8
    return (edges * edge_bits + max(0, model.parameters - edges) * row.weight_bits) / 8


def needed_bytes(parameters: int, dtype: str, model_files: int, adapter_bytes: int) -> int:
    """The most that an export of `model_files` whole models in `dtype`, and an adapter, takes while it is written.

    Embeddings, head and norms stay as they are: a format is never larger than the merged model.
    """
    models = model_files * parameters * ITEM_BYTES[dtype]
    return int((models + adapter_bytes) * _MARGIN) + _SMALL_FILES_BYTES


def _item_bytes(dtype: str) -> int:
    return ITEM_BYTES.get(dtype, 2)
