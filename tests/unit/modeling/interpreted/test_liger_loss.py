"""The loss by kernel against the plain one: value and gradients, heads of each kind, soft caps, types."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from engine.memory.shape import KERNEL_CHUNK_TOKENS, LOSS_CHUNK_TOKENS
from engine.modeling import forward, liger
from engine.modeling.logits import PLAIN, LogitRule
from engine.modeling.loss import head_loss_sum, head_token_losses
from tests.unit.modeling.interpreted.models import adapted, batch, step, tiny

ROWS, HIDDEN, VOCABULARY = 13, 16, 50


def problem(dtype: torch.dtype, *, trained: bool = False, bias: bool = False) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A head, hidden states and labels."""
    torch.manual_seed(0)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias).to(dtype).requires_grad_(trained)
    hidden = torch.randn(ROWS, HIDDEN).to(dtype).requires_grad_()
    return head, hidden, torch.randint(0, VOCABULARY, (ROWS,))


def outcome(form: Any, head: Any, hidden: torch.Tensor, labels: torch.Tensor, rule: LogitRule) -> list[torch.Tensor]:
    """Losses, and the gradients of hidden states and head under weights that differ by row, where rows have any."""
    losses = form(head, hidden, labels, 5, rule)
    weighed = losses * (torch.arange(1.0, ROWS + 1) / ROWS if losses.dim() else 0.37)
    wanted = [hidden, *(each for each in head.parameters() if each.requires_grad)]
    return [losses.detach(), *(each.float() for each in torch.autograd.grad(weighed.sum(), wanted))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("rule", [PLAIN, LogitRule(softcap=3.0), LogitRule(0.3), LogitRule(2.5, 3.0)], ids=str)
@pytest.mark.parametrize("form", [head_loss_sum, head_token_losses])
def test_value_and_gradients_equal_the_plain_loss(form: Any, rule: LogitRule, trained: bool, bias: bool) -> None:
    head, hidden, labels = problem(torch.float32, trained=trained, bias=bias)
    plain = outcome(form, head, hidden, labels, rule)
    setattr(head, liger.LOSS_FLAG, True)
    for ours, theirs in zip(outcome(form, head, hidden, labels, rule), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", [PLAIN, LogitRule(0.3)], ids=str)
def test_16_bit_is_as_far_from_fp32_as_plain(rule: LogitRule, dtype: torch.dtype, trained: bool) -> None:
    head, hidden, labels = problem(dtype, trained=trained)
    plain = outcome(head_loss_sum, head, hidden, labels, rule)
    setattr(head, liger.LOSS_FLAG, True)
    bound = outcome(head_loss_sum, head, hidden, labels, rule)
    delattr(head, liger.LOSS_FLAG)
    exact = outcome(head_loss_sum, head.float(), hidden.detach().float().requires_grad_(), labels, rule)
    assert bound[0].dtype == torch.float32
    for ours, theirs, right in zip(bound, plain, exact, strict=True):
        assert float((ours - right).norm()) <= 1.1 * float((theirs - right).norm()) + 1e-4 * float(right.norm())


def test_losses_are_fp32_of_16_bit_logits_and_the_gradient_is_written_over_them() -> None:
    logits = torch.randn(4, VOCABULARY).bfloat16()
    targets = torch.arange(4)
    wanted = F.cross_entropy(logits.float(), targets, reduction="none")
    slope = logits.float().softmax(-1) - F.one_hot(targets, VOCABULARY)
    kept = logits.clone()
    assert torch.allclose(liger.cross_entropy_(logits, targets, 0.0, gradient=False), wanted, atol=1e-5)
    assert torch.equal(logits, kept)
    losses = liger.cross_entropy_(logits, targets, 0.0)
    assert losses.dtype == torch.float32
    assert torch.allclose(losses, wanted, atol=1e-5)
    assert torch.allclose(logits.float(), slope, atol=2e-3, rtol=8e-3)


def test_evaluation_forms_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden, labels = problem(torch.float32)
    setattr(head, liger.LOSS_FLAG, True)
    asked = []
    kernel = liger.cross_entropy_
    monkeypatch.setattr(liger, "cross_entropy_", lambda *each: asked.append(each[-1]) or kernel(*each))
    with torch.no_grad():
        head_loss_sum(head, hidden, labels, 8)
        head_token_losses(head, hidden, labels, 8)
    assert set(asked) == {False}


@pytest.mark.parametrize("tied", [False, True])
def test_whole_models_whose_heads_learn(tied: bool) -> None:
    model = tiny("llama", tie_word_embeddings=tied)
    plain, documents = step(model), forward.document_losses(model, batch())
    liger.bind(model)
    bound = step(model)
    assert plain.apart(bound) < 1e-5
    for ours, theirs in zip(forward.document_losses(model, batch()), documents, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_head_with_an_adapter_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(tiny("llama"), modules_to_save=["lm_head"])
    plain = step(model)
    assert "loss" in liger.bind(model)
    calls = []
    kernel = liger.cross_entropy_
    monkeypatch.setattr(liger, "cross_entropy_", lambda *each: calls.append(1) or kernel(*each))
    assert plain.apart(step(model)) < 1e-5
    assert calls


def test_chunks_have_more_rows_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    rows = []
    monkeypatch.setattr(forward, "head_loss_sum", lambda *each: rows.append(each[3]) or head_loss_sum(*each))
    step(model)
    liger.bind(model)
    step(model)
    assert rows == [LOSS_CHUNK_TOKENS, KERNEL_CHUNK_TOKENS] == [512, 1024]
