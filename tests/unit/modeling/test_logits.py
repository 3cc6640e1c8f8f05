"""Families that scale their logits: the chunked loss, its gradients and documents are the model's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from engine.errors import EngineError, ExitCode
from engine.modeling import attention, forward
from engine.modeling.logits import PLAIN, LogitRule, rule_of
from engine.train.selfcheck import choose_loss

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SCALED: dict[str, tuple[str, dict[str, Any], LogitRule]] = {
    "cohere": ("Cohere", {"logit_scale": 0.7}, LogitRule(0.7)),
    "cohere2": ("Cohere2", {"logit_scale": 3.0, "sliding_window": 6, "head_dim": 8}, LogitRule(3.0)),
    "granite": ("Granite", {"logits_scaling": 0.1}, LogitRule(10.0)),
    "granitemoe": ("GraniteMoe", {"logits_scaling": 0.5, "num_local_experts": 4}, LogitRule(2.0)),
    # The same key as Granite's, but it multiplies.
    "hyperclovax": ("HyperCLOVAX", {"logits_scaling": 0.3}, LogitRule(0.3)),
}


def tiny(kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    stem, own, _ = SCALED[kind]
    config = getattr(transformers, f"{stem}Config")(**SIZES, **{**own, **options}, attn_implementation=attention.NAME)
    model = getattr(transformers, f"{stem}ForCausalLM")(config).eval()
    with torch.no_grad():
        # Far enough from alike that a wrong scale shows.
        model.get_output_embeddings().weight.mul_(20)
    return model.to(dtype)


def batch() -> dict[str, Any]:
    """Two documents of 14 and 10 tokens, the second with a prompt of 3."""
    ids = torch.randint(5, 90, (1, 24), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[0, [0, *range(14, 17)]] = -100
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.cat([torch.arange(14), torch.arange(10)])[None],
        "cu_seq_lens": torch.tensor([0, 14, 24], dtype=torch.int32),
        "max_doc_length": 14,
    }


def step(model: Any, loss: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss, and the gradient of every weight that gets one."""
    model.zero_grad()
    value = loss(model, batch())
    value.backward()
    return value.detach(), [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.fixture(autouse=True)
def _packed() -> None:
    attention.register()


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
@pytest.mark.parametrize("kind", SCALED)
def test_loss_and_gradients_are_those_of_the_models_own_logits(kind: str, frozen: bool) -> None:
    model = tiny(kind, tie_word_embeddings=not frozen)
    model.get_output_embeddings().weight.requires_grad_(not frozen)
    ours, theirs = step(model, forward.loss_sum), step(model, forward.loss_sum_from_logits)
    torch.testing.assert_close(ours[0], theirs[0], atol=0, rtol=1e-5)
    for our, their in zip(ours[1], theirs[1], strict=True):
        assert float((our - their).norm()) <= 1e-5 * float(their.norm()) + 1e-6


@pytest.mark.parametrize("kind", SCALED)
def test_bf16_is_as_near_to_fp32_as_the_models_own(kind: str) -> None:
    exact = step(tiny(kind), forward.loss_sum_from_logits)
    model = tiny(kind, torch.bfloat16)
    apart = []
    for loss in (forward.loss_sum, forward.loss_sum_from_logits):
        value, gradients = step(model, loss)
        wrong = [float((one.float() - other).norm()) for one, other in zip(gradients, exact[1], strict=True)]
        apart.append((abs(float(value - exact[0])), sum(wrong)))
    (ours, our_gradients), (theirs, their_gradients) = apart
    assert ours <= 2 * theirs + 1e-2 * float(exact[0])
    assert our_gradients <= 1.2 * their_gradients


@pytest.mark.parametrize("kind", SCALED)
def test_documents_add_up_to_the_models_own_loss(kind: str) -> None:
    model = tiny(kind)
    losses, tokens = forward.document_losses(model, batch())
    torch.testing.assert_close(losses.sum(), forward.loss_sum_from_logits(model, batch()), atol=0, rtol=1e-5)
    assert tokens.tolist() == [13, 7]


@pytest.mark.parametrize("kind", SCALED)
def test_no_fallback_any_more(kind: str) -> None:
    assert choose_loss(tiny(kind), batch(), lambda *words: pytest.fail(str(words))) is forward.loss_sum


def test_the_rule_of_each_configuration() -> None:
    for kind, (stem, own, rule) in SCALED.items():
        found = rule_of(getattr(transformers, f"{stem}Config")(**own))
        assert (kind, found.scale, found.softcap) == (kind, pytest.approx(rule.scale), rule.softcap)
    assert rule_of(transformers.FalconH1Config(lm_head_multiplier=0.04)) == LogitRule(0.04)
    assert rule_of(transformers.Gemma2Config()) == LogitRule(softcap=30.0)
    assert rule_of(transformers.LlamaConfig(logits_scaling=8.0)) == PLAIN
    # A checkpoint that also sees keeps the number in its text part.
    both = transformers.AutoConfig.for_model("muse_glimmer")
    text = both.get_text_config()
    assert rule_of(both) == LogitRule(text.output_multiplier, text.final_logit_softcapping)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 1e-320, 10**400, True, "8", None, [8.0]])
def test_what_cannot_scale_is_refused(value: Any) -> None:
    config = transformers.GraniteConfig()
    config.__dict__["logits_scaling"] = value
    with pytest.raises(EngineError, match="cannot scale logits") as caught:
        rule_of(config)
    assert caught.value.code is ExitCode.MODEL
