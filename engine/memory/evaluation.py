"""What evaluating and answering take on the device after training, in closed form. Torch-free.

It describes `evaluate.perplexity` (batches of padded rows, logits a bounded number at a time) and `evaluate.generate`
(a batch of prompts, fewer where memory is short, and a key-value cache that grows by copies). Not here: validation
during training, which takes less than a step: the same shape without gradients; merging, which happens in main memory
(`needs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.hardware.machine import Gpu
from engine.memory import device, latent_attention, linear_attention
from engine.memory.linear_attention import answer_state_bytes, attending_layers
from engine.memory.reserve import reserve_bytes
from engine.memory.resident import compute_width, largest_matrix_bytes, states, tower_bytes, weight_bytes
from engine.memory.shape import MIB, TrainingShape, learns_whole
from engine.models.spec import ModelSpec

BATCH_SIZE, NEW_TOKENS = 8, 128
"""`evaluate.batch_size` and `evaluate.max_new_tokens` when nothing else is said."""
_SCORED_TOKENS = {"cpu": 4096, "cuda": 16384}
_LOGITS_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Bytes on the device. `cache_bytes`: the keys and values of all prompts and answers of a batch."""

    scoring_bytes: int
    answering_bytes: int
    cache_bytes: int

    @property
    def device_bytes(self) -> int:
        """The wider of both."""
        return max(self.scoring_bytes, self.answering_bytes)


def evaluation_of(
    spec: ModelSpec,
    shape: TrainingShape,
    gpu: Gpu | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    new_tokens: int = NEW_TOKENS,
) -> Evaluation:
    """Evaluating what `shape` trained: rows of `max_length` tokens, prompts as long, `new_tokens` after them."""
    length = min(shape.max_length, spec.max_position_embeddings)
    rows = max(1, _SCORED_TOKENS[shape.device] // length)
    width = compute_width(shape)
    cache = cache_bytes(spec, batch_size * (length + new_tokens), width)
    scoring = max(forward_bytes(spec, shape, rows, length), _head_bytes(spec, shape, rows * length))
    # Each layer's cache is copied to grow; the first pass takes all prompts at once.
    growing = cache + cache // spec.num_hidden_layers
    first = cache_bytes(spec, batch_size * length, width) + forward_bytes(spec, shape, batch_size, length)
    states_of_all = batch_size * answer_state_bytes(spec)
    return Evaluation(
        scoring_bytes=_on_device(spec, shape, gpu, (rows, length), scoring),
        answering_bytes=_on_device(spec, shape, gpu, (batch_size, length), states_of_all + max(first, growing)),
        cache_bytes=cache + states_of_all,
    )


def forward_bytes(spec: ModelSpec, shape: TrainingShape, rows: int, length: int) -> int:
    """One pass without gradients over `rows` padded rows, without logits: the widest moment of a layer."""
    width, tokens, hidden = compute_width(shape), rows * length, spec.hidden_size
    inner = spec.intermediate_size * (spec.num_experts_per_token if spec.num_experts else 1)
    matrix = 0 if shape.quantization == "none" or learns_whole(shape) else largest_matrix_bytes(spec, width)
    product = 6 if shape.quantization == "int8" and not learns_whole(shape) else 0
    # Two of gate, its activation, up and their product, beside them the third or a dequantized matrix. A fused
    # projection stays whole under its halves.
    held = 3 if spec.fuses_gate else 2
    feed_forward = held * width * tokens * inner + max((width + product) * tokens * inner, matrix)
    # Embeddings, the residual stream before and after attention, and a norm's output, all the way through.
    around = 4 * width * hidden + 2 * width * spec.head_dim + 16
    mixing = max(_attention_bytes(spec, width, rows, length), tokens * linear_attention.forward_bytes(spec, width))
    return tokens * around + max(feed_forward, mixing) + rows * length * length


def _attention_bytes(spec: ModelSpec, width: int, rows: int, length: int) -> int:
    """Queries, keys and values with copies for every query head, the output, and the mask in numbers."""
    tokens, query, key = rows * length, spec.sizes.query_width, spec.sizes.key_width
    squares = tokens * length * (10 * spec.num_attention_heads if spec.traits.soft_caps else width)
    return tokens * width * (2 * key + 4 * query) + squares


def _head_bytes(spec: ModelSpec, shape: TrainingShape, tokens: int) -> int:
    """Final hidden states, those that are scored, and one chunk of fp32 logits with their log-probabilities."""
    logits = min(_LOGITS_BYTES, 4 * tokens * spec.vocab_size) * (3 if spec.has_capped_logits else 2)
    return 2 * tokens * spec.hidden_size * compute_width(shape) + logits


def _on_device(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None, batch: tuple[int, int], dynamic: int) -> int:
    quantization = "none" if learns_whole(shape) else shape.quantization
    stored = (quantization, shape.double_quant, compute_width(shape))
    static = weight_bytes(spec, *stored) + tower_bytes(spec, *stored)
    if shape.method == "lora":
        static += states(spec, shape).weights_bytes
    passed = replace(shape, method="lora", modules_to_save=(), micro_batch=batch[0], max_length=batch[1])
    reserve = reserve_bytes(spec, passed, gpu, static, dynamic)
    workspace = device.cublas_bytes(gpu, shape.device) // 2
    return static + dynamic + reserve + workspace + device.context_bytes(gpu, shape.device)


_LOGIT_BYTES = 8
"""fp32 logits of the next token, and the copy that the search for the likeliest works on."""


def cache_bytes(spec: ModelSpec, tokens: int, width: int) -> int:
    """Keys and values over all layers that attend: 2 · layers · key heads · head size · `width` bytes · tokens.

    Of latent attention the narrow vector that both come from, and the rotated part of keys.
    """
    latent = latent_attention.of_spec(spec)
    features = latent.key_rank + latent.rotated if latent else 2 * spec.sizes.key_width
    return attending_layers(spec) * features * width * tokens


def answer_bytes(spec: ModelSpec, prompt_tokens: int, new_tokens: int, width: int) -> int:
    """One prompt's share of a batch at its worst moment, its answer as long as it may become.

    The cache grows by copying one layer at a time; the prompt passes a layer with its gated product in two halves.
    """
    tokens = prompt_tokens + new_tokens
    grown = cache_bytes(spec, tokens, width) * (spec.num_hidden_layers + 1) // spec.num_hidden_layers
    layer = prompt_tokens * width * (4 * spec.hidden_size + max(3 * spec.intermediate_size, 3 * spec.sizes.query_width))
    scan = prompt_tokens * (4 * width * spec.hidden_size + linear_attention.forward_bytes(spec, width))
    return grown + spec.vocab_size * _LOGIT_BYTES + max(layer, scan) + answer_state_bytes(spec)


def prompts_at_once(spec: ModelSpec, prompt_tokens: int, new_tokens: int, width: int, free_bytes: int) -> int:
    """How many prompts of that length fit into `free_bytes`; at least one, which is then tried."""
    return max(1, free_bytes // answer_bytes(spec, prompt_tokens, new_tokens, width))
