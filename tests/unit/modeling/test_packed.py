"""Packed documents do not see each other, for each attention, and the model computes what it should."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from engine.errors import EngineError
from engine.modeling import attention, checkpointing, forward
from engine.train.selfcheck import choose_loss

attention.register()
SIZES = [10, 3, 19, 1, 31]


def llama(implementation, **more):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        **more,
    )
    return LlamaForCausalLM._from_config(config, attn_implementation=implementation).eval()


def packed_batch(rows=2):
    """`rows` rows of 32 tokens; documents of `SIZES` lie end to end over both."""
    torch.manual_seed(1)
    ids = torch.randint(5, 60, (rows, 32))
    labels = ids.clone().flatten()
    offsets = [0]
    for size in SIZES:
        offsets.append(offsets[-1] + size)
    assert offsets[-1] == rows * 32
    labels[offsets[:-1]] = -100
    return {
        "input_ids": ids,
        "labels": labels.reshape(rows, 32),
        "position_ids": torch.cat([torch.arange(size) for size in SIZES]).reshape(rows, 32),
        "cu_seq_lens": torch.tensor(offsets, dtype=torch.int32),
        "max_doc_length": max(SIZES),
    }


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_packed_hidden_states_equal_those_of_each_document_alone(use_cache):
    model = llama(attention.NAME)
    model.config.use_cache = use_cache
    batch = packed_batch()
    # Documents cross the row's end here: rows are one flat sequence to this attention.
    together = forward.hidden_states(model, batch).flatten(0, 1)
    plain = llama("sdpa")
    bounds = batch["cu_seq_lens"].tolist()
    for start, end in pairwise(bounds):
        alone = plain.model(batch["input_ids"].flatten()[None, start:end]).last_hidden_state[0]
        torch.testing.assert_close(together[start:end], alone, atol=2e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager", attention.NAME])
def test_each_attention_keeps_documents_apart_inside_a_row(implementation):
    model = llama(implementation)
    model.config.use_cache = True
    ids = torch.randint(5, 60, (1, 32), generator=torch.Generator().manual_seed(2))
    batch = {
        "input_ids": ids,
        "labels": ids.clone(),
        "position_ids": torch.cat([torch.arange(12), torch.arange(20)])[None],
        "cu_seq_lens": torch.tensor([0, 12, 32], dtype=torch.int32),
        "max_doc_length": 20,
    }
    before = forward.hidden_states(model, batch)[0, 12:]
    batch["input_ids"] = torch.cat([(ids[:, :12] + 1) % 60, ids[:, 12:]], dim=1)
    after = forward.hidden_states(model, batch)[0, 12:]
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-6)


def assert_packed_equals_alone(kind, config):
    """Hidden states of a document in the middle of a packed batch are those of transformers' eager attention."""
    torch.manual_seed(0)
    ours = kind._from_config(config, attn_implementation=attention.NAME).eval()
    plain = kind._from_config(config, attn_implementation="eager").eval()
    plain.load_state_dict(ours.state_dict())
    batch = packed_batch()
    together = forward.hidden_states(ours, batch).flatten(0, 1)[13:32]
    alone = plain.model(batch["input_ids"].flatten()[None, 13:32]).last_hidden_state[0]
    torch.testing.assert_close(together, alone, atol=3e-6, rtol=1e-5)
    return ours, batch


@torch.no_grad()
def test_sliding_window_counts_tokens_of_the_document():
    config = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=6,
    )
    assert_packed_equals_alone(MistralForCausalLM, config)


@torch.no_grad()
def test_soft_capped_scores_are_capped_here_too():
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=6,
        attn_logit_softcapping=0.05,
        query_pre_attn_scalar=8,
        final_logit_softcapping=3.0,
    )
    ours, batch = assert_packed_equals_alone(Gemma2ForCausalLM, config)
    assert choose_loss(ours, batch, lambda *words: pytest.fail(str(words))) is forward.loss_sum


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("length", [1, 7, 300, 700])
def test_bf16_on_a_processor_is_near_to_fp32_in_value_and_gradient(length, window):
    torch.manual_seed(0)
    exact = [torch.randn(1, heads, length, 16, requires_grad=True) for heads in (6, 2, 2)]
    rounded = [part.detach().bfloat16().requires_grad_() for part in exact]
    outputs, gradients = [], []
    for parts in (exact, rounded):
        out, _ = attention.packed_attention(None, *parts, None, sliding_window=window)
        out.float().square().sum().backward()
        outputs.append(out.float())
        gradients.append([part.grad.float() for part in parts])
    assert (outputs[0] - outputs[1]).norm() / outputs[0].norm() < 0.01
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 0.03 * one.norm() + 1e-3


def test_loss_equals_the_models_own_for_one_document():
    model = llama(attention.NAME)
    ids = torch.randint(5, 60, (1, 24), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[0, :7] = -100
    batch = {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.arange(24)[None],
        "cu_seq_lens": torch.tensor([0, 24], dtype=torch.int32),
        "max_doc_length": 24,
    }
    own = model(ids, labels=labels).loss * 17
    torch.testing.assert_close(forward.loss_sum(model, batch), own, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(forward.loss_sum_from_logits(model, batch), own, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("every", [1, 2])
def test_activation_checkpointing_changes_no_gradient(every):
    grads = []
    for layers in (0, every):
        model = llama(attention.NAME).train()
        checkpointing.enable(model, layers)
        forward.loss_sum(model, packed_batch()).backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_every_n_layers_checkpoints_just_those():
    model = llama(attention.NAME)
    checkpointing.enable(model, 2)
    assert [layer.gradient_checkpointing for layer in model.model.layers] == [True, False, True]


def test_the_self_check_passes_a_sound_model_without_a_word():
    told = []
    assert choose_loss(llama(attention.NAME), packed_batch(), lambda *words: told.append(words)) is forward.loss_sum
    assert told == []


def test_the_self_check_falls_back_loudly_when_the_head_does_more(monkeypatch):
    model = llama(attention.NAME)
    own = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda rows: own(rows) * 0.25)
    told = []
    chosen = choose_loss(model, packed_batch(), lambda code, text: told.append(code))
    assert chosen is forward.loss_sum_from_logits
    assert told == ["loss_fallback"]


def test_a_prompt_longer_than_the_check_still_has_its_answer_checked():
    ids = torch.randint(5, 60, (1, 900), generator=torch.Generator().manual_seed(3))
    labels = torch.full_like(ids, -100)
    labels[0, 880:] = ids[0, 880:]
    batch = {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.arange(900)[None],
        "cu_seq_lens": torch.tensor([0, 900], dtype=torch.int32),
        "max_doc_length": 900,
    }
    assert choose_loss(llama(attention.NAME), batch, lambda *words: pytest.fail(str(words))) is forward.loss_sum


def test_a_packed_attention_that_is_not_the_models_own_stops_the_run(monkeypatch):
    model = llama(attention.NAME)
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", lambda query, key, value, **_: query * 0.5)
    with pytest.raises(EngineError, match="not this model's own"):
        choose_loss(model, packed_batch(), lambda *words: None)
