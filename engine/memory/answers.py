"""Bytes that generating answers takes beside the weights: the cache of keys and values, logits, one layer at work.

Used by `engine.speed.decode` and by the generation of `engine.evaluate`. Closed form, torch-free.
"""

from __future__ import annotations

from engine.models.parameters import key_width, query_width
from engine.models.spec import ModelSpec

_LOGIT_BYTES = 8
"""fp32 logits of the next token, and the copy that the search for the likeliest works on."""


def cache_bytes(spec: ModelSpec, tokens: int, width: int) -> int:
    """Keys and values over all layers: 2 · layers · key heads · head size · `width` bytes · tokens."""
    return 2 * spec.num_hidden_layers * key_width(spec) * width * tokens


def answer_bytes(spec: ModelSpec, prompt_tokens: int, new_tokens: int, width: int) -> int:
    """One prompt's share of a batch at its worst moment, its answer as long as it may become.

    The cache grows by copying one layer at a time; the prompt passes a layer with its gated product in two halves.
    """
    tokens = prompt_tokens + new_tokens
    grown = cache_bytes(spec, tokens, width) * (spec.num_hidden_layers + 1) // spec.num_hidden_layers
    layer = prompt_tokens * width * (4 * spec.hidden_size + max(3 * spec.intermediate_size, 3 * query_width(spec)))
    return grown + spec.vocab_size * _LOGIT_BYTES + layer


def prompts_at_once(spec: ModelSpec, prompt_tokens: int, new_tokens: int, width: int, free_bytes: int) -> int:
    """How many prompts of that length fit into `free_bytes`; at least one, which is then tried."""
    return max(1, free_bytes // answer_bytes(spec, prompt_tokens, new_tokens, width))
