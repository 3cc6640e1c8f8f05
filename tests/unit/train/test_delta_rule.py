"""Packed documents in linear attention, with stand-ins for the GPU kernels that keep them apart.

The stand-ins take what flash-linear-attention and causal-conv1d take: the rule wants one row with offsets, the
convolution a number for each document. They compute each document by transformers' own operators.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

from engine.data.alone import AloneDataset
from engine.data.batch import PackedDataset, collate
from engine.modeling import delta_rule, forward
from engine.models import packing
from engine.train.layouts import arrange
from tests.unit.train.conftest import make_settings
from tests.unit.train.test_layouts import DOCUMENTS, delta_net, packed, prepared

OWN_RULE = inspect.unwrap(modeling.torch_chunk_gated_delta_rule)
OWN_CONVOLUTION = inspect.unwrap(modeling.causal_conv1d_fn)


def rule(query: Any, key: Any, value: Any, *, g: Any, beta: Any, cu_seqlens: Any = None, **named: Any) -> Any:
    parts = (query, key, value, g, beta)
    if cu_seqlens is None:
        return OWN_RULE(*parts[:3], g=g, beta=beta, use_qk_l2norm_in_kernel=True)
    if query.shape[0] != 1:
        raise ValueError(f"The batch size is expected to be 1 rather than {query.shape[0]} when using `cu_seqlens`.")
    sizes = cu_seqlens.diff().tolist()
    documents = zip(*(part.split(sizes, dim=1) for part in parts), strict=True)
    found = [OWN_RULE(q, k, v, g=d, beta=b, use_qk_l2norm_in_kernel=True)[0] for q, k, v, d, b in documents]
    return torch.cat(found, dim=1), None


def convolution(
    states: torch.Tensor, weight: Any, bias: Any = None, activation: Any = None, seq_idx: Any = None, **_: Any
) -> torch.Tensor:
    if seq_idx is None:
        return OWN_CONVOLUTION(states, weight, bias, activation)
    assert seq_idx.shape == (states.shape[0], states.shape[2])
    rows = []
    for row, numbers in zip(states, seq_idx, strict=True):
        sizes = numbers.unique_consecutive(return_counts=True)[1].tolist()
        rows.append(torch.cat([OWN_CONVOLUTION(each[None], weight, bias, activation)[0]
                               for each in row.split(sizes, dim=1)], dim=1))  # fmt: skip
    return torch.stack(rows)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries, as far as anything here can tell."""
    monkeypatch.setattr(packing, "is_installed", lambda module: True)
    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", rule)
    monkeypatch.setattr(modeling, "causal_conv1d_fn", convolution)


def found_with(told: list[tuple[str, str]]) -> tuple[Any, Any]:
    model = delta_net()
    return model, arrange(model, make_settings(device="cuda"), prepared(), lambda *words: told.append(words))


@torch.no_grad()
def test_packed_documents_score_as_each_alone(kernels: None) -> None:
    told: list[tuple[str, str]] = []
    model, found = found_with(told)
    assert type(found.train) is PackedDataset
    assert found.as_predicted
    assert not told
    together = forward.loss_sum(model, collate([found.train[row] for row in range(len(DOCUMENTS))]))
    alone = AloneDataset(packed())
    each = sum(forward.loss_sum(model, collate([alone[number]])) for number in range(len(alone)))
    assert float(together) == pytest.approx(float(each), rel=1e-5)
    logits = forward.loss_sum_from_logits(model, collate([found.train[row] for row in range(len(DOCUMENTS))]))
    assert float(logits) == pytest.approx(float(together), rel=1e-5)


@pytest.mark.parametrize("lost", ["seq_idx", "cu_seq_lens_q"])
def test_either_argument_that_is_lost_is_found_as_a_leak(
    lost: str, kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = forward._inputs
    monkeypatch.setattr(
        forward, "_inputs", lambda *parts: {key: value for key, value in whole(*parts).items() if key != lost}
    )
    told: list[tuple[str, str]] = []
    _, found = found_with(told)
    assert type(found.train) is AloneDataset
    [(code, text)] = told
    assert code == "packing_leaks"
    assert "packed documents see each other in this model (document 2 changed with documents 1 and 3" in text


def test_a_processor_gets_transformers_own_operators_where_kernels_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers binds a library once, for every device; its kernels do not run on a processor."""
    bound = modeling.use_kernel_func_from_hub_with_fallback("sqrt", "math")(OWN_CONVOLUTION)
    monkeypatch.setattr(modeling, "causal_conv1d_fn", bound)
    rule_before = modeling.torch_chunk_gated_delta_rule
    delta_rule.use_plain_operators(delta_net())
    assert modeling.causal_conv1d_fn is OWN_CONVOLUTION
    # Where nothing is installed, transformers' guard against packed documents stays.
    assert modeling.torch_chunk_gated_delta_rule is rule_before
