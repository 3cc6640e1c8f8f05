"""Time of a micro-batch on a processor, where the work between the products takes as long as they do.

Products at the rate of the model's width, then per token: norms, rotation, gates and adapters in proportion to the
width; attention by the number of scores; the loss by the number of logits; and what eager PyTorch takes to begin. The
figures of the device are measured (`engine.measure.microbench`) or guessed from its cores (`rates.py`).
"""

from __future__ import annotations

from engine.memory.shape import TrainingShape
from engine.models.spec import ModelSpec
from engine.speed.flops import micro_batch_tokens, product_flops, recomputed_share
from engine.speed.measured import DtypeRates

DOCUMENT_TOKENS = 256
"""Typical length of a training example; a packed row has several, which do not see each other."""
_LAYER_SHARE = {"lora": 1.25, "full": 1.0, "freeze": 1.0}
"""A layer of transformers' against the measured stand-in, which has no reshaping and copying but has adapters."""
_RECOMPUTED_SHARE = 0.4
"""Of the forward and backward time, what the forward pass alone takes."""
_SCORE_WIDTH = 64
"""Width of the heads that `score_s` is measured with."""
_FRESH_PAGES = 1.8
"""A logit in tensors so large that malloc gets new memory for each, against the small ones of the measurement."""
_LAUNCH_S = 0.0015


def micro_batch_s(spec: ModelSpec, shape: TrainingShape, rates: DtypeRates) -> float:
    """Seconds of one micro-batch, forward and backward."""
    tokens, layers = micro_batch_tokens(shape), spec.num_hidden_layers
    again = 1 + _RECOMPUTED_SHARE * recomputed_share(spec, shape)
    products_s = product_flops(spec, shape) / rates.flops_at(spec.hidden_size)
    values_s = tokens * spec.hidden_size * rates.value_s * _LAYER_SHARE[shape.method]
    layer_s = values_s + _attention_s(spec, shape, rates) + _LAUNCH_S
    return products_s + layers * layer_s * again + tokens * spec.vocab_size * rates.logit_s * _FRESH_PAGES


def prompt_s(spec: ModelSpec, tokens: int, rates: DtypeRates) -> float:
    """Seconds of a forward pass over one prompt: a third of full training's products, without the head's."""
    shape = TrainingShape(method="full", max_length=tokens, micro_batch=1, checkpoint_every=0, device="cpu")
    head = 6 * tokens * spec.vocab_size * spec.hidden_size
    products_s = (product_flops(spec, shape) - head) / 3 / rates.flops_at(spec.hidden_size)
    rest_s = tokens * spec.hidden_size * rates.value_s + _attention_s(spec, shape, rates)
    return products_s + spec.num_hidden_layers * rest_s * _RECOMPUTED_SHARE


def _attention_s(spec: ModelSpec, shape: TrainingShape, rates: DtypeRates) -> float:
    """One layer: every token of a document against all of it. Half of a score's time grows with the head's width."""
    span = min(shape.max_length, DOCUMENT_TOKENS, spec.sliding_window or shape.max_length)
    scores = micro_batch_tokens(shape) * span * spec.num_attention_heads
    return scores * rates.score_s * (0.5 + 0.5 * spec.head_dim / _SCORE_WIDTH)
