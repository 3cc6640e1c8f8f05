"""What linear attention adds to a step where transformers' plain operators compute it, in closed form.

Each works through memory in fp32 and is launched once for every 64 tokens of a row. Derived from their source and not
measured on a card: speeds of such models count as rough. Kernels of flash-linear-attention are not counted at all.
"""

from __future__ import annotations

from engine.memory.kinds import kinds_of
from engine.memory.linear_attention import CHUNK_TOKENS, attending_layers, delta_rule, saved_bytes
from engine.memory.shape import TrainingShape
from engine.models.packing import uses_plain_rule
from engine.models.spec import ModelSpec

_TOUCHED = 3.0
"""Times that the forward pass moves what it keeps: written once, read by the next operators, and temporaries."""
_BACKWARD_PASSES = 2.0
_CHUNK_LAUNCH_S = 0.0002
"""Forward and backward of one layer's chunk in eager PyTorch: 9 and 20 operators."""


def is_plain(spec: ModelSpec, shape: TrainingShape) -> bool:
    """Whether a model has linear attention that transformers' own operators compute."""
    return uses_plain_rule(spec.traits, shape.device) and attending_layers(spec) < spec.num_hidden_layers


def scan_bytes(spec: ModelSpec, shape: TrainingShape, recomputed: float) -> float:
    """Memory traffic of a micro-batch, all layers; `recomputed`: the share of them that is formed again."""
    if not is_plain(spec, shape):
        return 0.0
    tokens = shape.micro_batch * shape.max_length
    kept = 0
    for layers, kind in kinds_of(spec):
        rule = delta_rule(kind, shape)
        if rule is not None:
            kept += layers * saved_bytes(rule, shape.compute_dtype, output_needed=True, full=False, one_row=True)
    return tokens * kept * _TOUCHED * (1 + recomputed + _BACKWARD_PASSES)


def launch_s(spec: ModelSpec, shape: TrainingShape) -> float:
    """Seconds that the host takes to launch the chunks of a micro-batch, without recomputing."""
    if not is_plain(spec, shape):
        return 0.0
    chunks = -(-shape.max_length // CHUNK_TOKENS)
    return (spec.num_hidden_layers - attending_layers(spec)) * chunks * _CHUNK_LAUNCH_S
