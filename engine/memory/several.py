"""What one of several equal cards would hold, replicated or sharded: an outlook in closed form. Torch-free.

The trainer runs on one card today. DDP keeps everything on each card and gathers gradients in buckets of their own;
FSDP2 keeps a share of everything and gathers one layer while the next is on its way, the embeddings and the head
throughout. From the sources of torch 2.13 (nn/parallel/distributed.py, distributed/fsdp/_fully_shard), not measured.
Called by `engine fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.hardware.machine import Gpu
from engine.memory.phases import Peak, peak
from engine.memory.resident import compute_width
from engine.memory.shape import MIB, TrainingShape, learning_layers, learns_whole
from engine.models.spec import ModelSpec

COMMUNICATION_BYTES = 320 * MIB
"""NCCL's buffers: hundreds of MiB, by the number of cards and links. An allowance, outside torch's allocator."""
_GATHERED_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Outlook:
    """Bytes on each of `cards` cards; `sharded_bytes` is None where the weights cannot be sharded."""

    cards: int
    replicated_bytes: int
    sharded_bytes: int | None


def outlook(spec: ModelSpec, shape: TrainingShape, cards: int, gpu: Gpu | None = None) -> Outlook:
    """Training `spec` with `shape` on each of `cards` cards like `gpu`, each with a micro-batch of its own."""
    found = peak(spec, shape, gpu)
    # Buckets hold all gradients once more (gradient_as_bucket_view is off).
    replicated = found.device_bytes + found.states.gradients_bytes + COMMUNICATION_BYTES
    int8 = shape.quantization == "int8" and not learns_whole(shape)
    return Outlook(cards, replicated, None if int8 else _sharded(found, spec, shape, cards))


def _sharded(found: Peak, spec: ModelSpec, shape: TrainingShape, cards: int) -> int:
    root = spec.sizes.embedding_parameters * compute_width(shape)
    layer = (found.weights - root) // spec.num_hidden_layers + found.adapters // max(1, spec.num_hidden_layers)
    gathered = root + _GATHERED_LAYERS * layer
    # A layer's gradients before they are reduced, and the buffer that they are reduced from; in full tuning the
    # embeddings' and the head's are the largest of all.
    of_layer = found.states.gradients_bytes // max(1, learning_layers(spec.num_hidden_layers, shape))
    reduced = 2 * (max(of_layer, root) if shape.method == "full" else of_layer)
    shared = found.weights + found.adapters + found.optimizer + found.moment.gradients
    rest = found.moment.total - found.moment.gradients
    kept = -(-shared // cards) + gathered + reduced + rest
    return kept + found.reserve + found.context + COMMUNICATION_BYTES
