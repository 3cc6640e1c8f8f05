"""What a run needs beside the device: disk for checkpoints and results, RAM for inputs and for merging. Torch-free.

It describes `engine.train.checkpointer` (a checkpoint is written beside the old ones before any goes) and
`export.merge` (the base is loaded whole, in RAM).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.memory import stored
from engine.memory.activations import host_bytes
from engine.memory.device import CUDA_BUILD_BYTES
from engine.memory.resident import compute_width, largest_matrix_bytes, states, trainable_width
from engine.memory.shape import TrainingShape, learns_whole
from engine.models.spec import ModelSpec

DEFAULT_LIMIT = 3
"""Checkpoints that are kept when nothing else is said."""
_STORED_WIDTHS = {"float32": 4, "fp32": 4, "float64": 8}
_CONTEXT_HOST_BYTES = 512 * 1024 * 1024
"""What the driver keeps in main memory for a CUDA context, pinned buffers with it: an allowance."""
_SMALL_FILES_BYTES = 8 * 1024 * 1024
"""Tokenizer, logs and settings of a run."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes. `run_disk_bytes` is the most a run directory holds at once, `merged_disk_bytes` comes with an export."""

    checkpoint_bytes: int
    run_disk_bytes: int
    merged_disk_bytes: int
    merge_ram_bytes: int
    pinned_ram_bytes: int = 0
    """Main memory for inputs of recomputed layers while it trains; the system cannot move it to disk."""
    load_ram_bytes: int = 0
    """Resident while weights are read and put in place; on a processor the estimate itself has it, and this is 0."""
    train_ram_bytes: int = 0
    """The same while it trains, the data aside, which are mapped from disk."""
    download_bytes: int = 0
    """Files of weights to fetch from the hub; 0 where the model is on this machine."""


def needs_of(
    spec: ModelSpec, shape: TrainingShape, *, save_total_limit: int = DEFAULT_LIMIT, keeps_best: bool = True
) -> Needs:
    """What training `spec` with `shape` needs; `keeps_best`: the best checkpoint is kept beside the newest ones."""
    learned = states(spec, shape)
    weights = learned.parameters * trainable_width(shape)
    checkpoint = weights + learned.masters_bytes + learned.moments_bytes + learned.paged_bytes
    width = compute_width(shape)
    model = spec.sizes.loaded_parameters * width
    # One more while it is written: the oldest goes only when the new one is whole.
    at_once = save_total_limit + 1 + int(keeps_best)
    result = model if learns_whole(shape) else weights
    return Needs(
        checkpoint_bytes=checkpoint,
        run_disk_bytes=at_once * checkpoint + result + _SMALL_FILES_BYTES,
        merged_disk_bytes=0 if learns_whole(shape) else model,
        merge_ram_bytes=0 if learns_whole(shape) else model + 2 * largest_matrix_bytes(spec, 4),
        pinned_ram_bytes=host_bytes(spec, shape),
        load_ram_bytes=_loading_bytes(spec) if shape.device == "cuda" else 0,
        train_ram_bytes=_resident_bytes() + host_bytes(spec, shape) if shape.device == "cuda" else 0,
        download_bytes=0 if spec.path else file_bytes(spec),
    )


def file_bytes(spec: ModelSpec) -> int:
    """The files of weights, as they are stored; towers with them."""
    if spec.stored:
        return stored.stored_bytes(spec) + 2 * spec.sizes.tower_parameters
    return spec.sizes.loaded_parameters * _stored_width(spec)


def _resident_bytes() -> int:
    return CUDA_BUILD_BYTES + _CONTEXT_HOST_BYTES


def _loading_bytes(spec: ModelSpec) -> int:
    """Libraries, and the tensors in hand: files are mapped, and what was read of them can be dropped at any time."""
    largest = max(spec.vocab_size * spec.hidden_size, spec.num_experts * spec.intermediate_size * spec.hidden_size * 2)
    return _resident_bytes() + stored.READERS * largest * _stored_width(spec)


def _stored_width(spec: ModelSpec) -> int:
    return _STORED_WIDTHS.get(spec.weights_dtype.removeprefix("torch."), 2)
