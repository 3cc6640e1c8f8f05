"""The chunked loss is the plain loss: value and gradients, frozen and trained heads, soft caps, scales."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from engine.modeling.logits import LogitRule
from engine.modeling.loss import IGNORE, head_loss_sum, label_positions, predicting, shifted, trained_positions

ROWS, HIDDEN, VOCABULARY = 37, 16, 50


def plain(head, hidden, labels, scale, softcap):
    logits = head(hidden).float() * scale
    logits = torch.tanh(logits / softcap) * softcap if softcap else logits
    return F.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("scale", [1.0, 0.0625, 3.3])
@pytest.mark.parametrize("chunk", [1, 8, 37, 1024])
def test_value_and_gradients_equal_the_plain_loss(chunk, scale, softcap, trained, bias):
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, HIDDEN, requires_grad=True)
    labels = torch.randint(0, VOCABULARY, (ROWS,))
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias).requires_grad_(trained)
    wanted = [hidden, head.weight] if trained else [hidden]

    ours = head_loss_sum(head, hidden, labels, chunk, LogitRule(scale, softcap))
    our_grads = torch.autograd.grad(ours * 0.37, wanted)
    theirs = plain(head, hidden, labels, scale, softcap)
    their_grads = torch.autograd.grad(theirs * 0.37, wanted)

    torch.testing.assert_close(ours, theirs)
    for our, their in zip(our_grads, their_grads, strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-5)


def test_bf16_gradients_are_close_to_fp32():
    torch.manual_seed(0)
    hidden = torch.randn(64, HIDDEN)
    labels = torch.randint(0, VOCABULARY, (64,))
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False).requires_grad_(False)
    grads = []
    for dtype in (torch.float32, torch.bfloat16):
        rows = hidden.to(dtype).detach().requires_grad_()
        loss = head_loss_sum(head.to(dtype), rows, labels, 16)
        grads.append(torch.autograd.grad(loss, rows)[0].float())
    assert (grads[0] - grads[1]).norm() / grads[0].norm() < 0.02


def test_masked_rows_cost_nothing_and_shift_is_by_one():
    hidden = torch.arange(8.0).reshape(1, 8, 1)
    labels = torch.tensor([[IGNORE, IGNORE, 7, IGNORE, 9, IGNORE, IGNORE, 3]])
    rows, targets = shifted(hidden, labels)
    assert rows.squeeze(1).tolist() == [1.0, 3.0, 6.0]
    assert targets.tolist() == [7, 9, 3]


def test_positions_from_the_host_are_those_found_among_the_labels():
    hidden = torch.randn(2, 5, 3)
    labels = torch.tensor([[IGNORE, 7, IGNORE, 9, 4], [5, IGNORE, IGNORE, 3, IGNORE]])
    given = {"labels": labels, "trained": torch.tensor([0, 2, 3, 7]), "targets": torch.tensor([7, 9, 4, 3])}
    for ours, theirs in zip(predicting(hidden, given), shifted(hidden, labels), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(label_positions(given), trained_positions(labels))
    assert torch.equal(label_positions({"labels": labels}), trained_positions(labels))


def test_nothing_trained_is_zero_and_still_differentiable():
    hidden = torch.randn(0, HIDDEN, requires_grad=True)
    loss = head_loss_sum(torch.nn.Linear(HIDDEN, 5, bias=False), hidden, torch.zeros(0, dtype=torch.long), 8)
    loss.backward()
    assert loss.item() == 0
