"""Two-layer models of several families, and a batch of packed documents, for comparing fast paths with plain ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data.batch import PackedDataset, collate
from engine.data.pack import Packed
from engine.memory.shape import TrainingShape
from engine.modeling import adapters, forward, load
from engine.models.resolve import resolve_model
from engine.models.spec import ModelSpec
from engine.oracle.build import settings_for
from engine.profile.schema import Profile
from engine.selftest.device.build import random_base
from engine.selftest.kernel_table import VOCABULARY, tiny_spec

_DOCUMENTS = ((24, 40, 32), (57, 39))
_PROMPT = 5
_ADAPTER_STD = 0.02
_RANK = 8


def tiny_model(family: str, dtype: str, device: str, method: str = "lora") -> Any:
    """One that learns as `method` says; adapters are stirred, or most of their gradients would be zero."""
    spec = tiny_spec(family)
    model = random_base(spec, dtype, device)
    model.config.use_cache = False
    return adapted(model, spec, dtype) if method == "lora" else model.train()


def demo_model(quantization: str, dtype: str, device: str) -> Any:
    """The built-in model, loaded as a run loads it."""
    spec = resolve_model("demo")
    settings = _settings(spec, dtype, quantization)
    base = load.load_base(settings, Path(), quantized=True, device=device, warn=lambda code, message: None, packed=True)
    base.config.use_cache = False
    return adapted(base, spec, dtype)


def adapted(base: Any, spec: ModelSpec, dtype: str) -> Any:
    """`base`, frozen, with the same adapters every time."""
    base.requires_grad_(False)
    model = adapters.attach(base, _settings(spec, dtype))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * _ADAPTER_STD)
            if weight.requires_grad:
                weight.data = weight.data.to(load.DTYPES[dtype])
    return model.train()


def _settings(spec: ModelSpec, dtype: str, quantization: str = "none") -> Profile:
    targets = tuple(spec.sizes.linear_shapes)
    shape = TrainingShape(compute_dtype=dtype, quantization=quantization, lora_r=_RANK, lora_targets=targets)
    return settings_for(spec, shape)


def learning_settings(dtype: str, optimizer: str) -> Profile:
    """Of the Llama one, for `build_optimizer`."""
    found = _settings(tiny_spec("llama"), dtype)
    return found.model_copy(update={"train": found.train.model_copy(update={"optim": optimizer})})


def batch(device: str, times: int = 1) -> forward.Batch:
    """Two sequences of several documents each, `times` as many, the first tokens of each document untrained."""
    random, documents = np.random.default_rng(0), _DOCUMENTS * times
    ids = random.integers(5, VOCABULARY, (len(documents), sum(_DOCUMENTS[0]))).astype(np.int32)
    labels = ids.copy()
    for row, lengths in enumerate(documents):
        for start in np.cumsum((0, *lengths[:-1])):
            labels[row, start : start + _PROMPT] = -100
    sizes = [np.array(lengths, dtype=np.int32) for lengths in documents]
    rows = PackedDataset(Packed(ids, labels, sizes, np.zeros(len(ids), dtype=np.int32)))
    found = collate([rows[number] for number in range(len(rows))])
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in found.items()}


def documents(packed: forward.Batch) -> list[forward.Batch]:
    """Each document of a packed batch as a batch of its own."""
    ids, labels, bounds = packed["input_ids"].flatten(), packed["labels"].flatten(), packed["cu_seq_lens"].tolist()
    return [_alone(ids[start:end], labels[start:end]) for start, end in itertools.pairwise(bounds)]


def _alone(ids: torch.Tensor, labels: torch.Tensor) -> forward.Batch:
    length, device = len(ids), ids.device
    return {
        "input_ids": ids[None],
        "labels": labels[None],
        "position_ids": torch.arange(length, device=device)[None],
        "cu_seq_lens": torch.tensor([0, length], dtype=torch.int32, device=device),
        "max_doc_length": length,
    }
