"""Other people's training steps on the meta device, as their authors built them, and what one T4 measured.

`MEASURED`: seventeen rows published with fitcheck-llm 0.3.1 (MIT licence): LoRA on attention projections in fp16, one
Tesla T4, non-reentrant activation checkpointing, Hugging Face's own loss over full logits. 4-bit rows went through
`prepare_model_for_kbit_training`, which casts embeddings, head and norms to fp32. `FURTHER`: five more of the same
archive with eager attention at its widest. Nothing here was fitted to them. How the model got onto the card is in
`published_loading.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.memory.allocator import CachingAllocator, Event
from engine.memory.shape import MIB
from engine.oracle.kernels import LATE_SCRATCH, SCRATCH
from engine.oracle.quantized import four_bit_linear
from engine.oracle.tracker import StorageTracker, model_tensors
from tests.unit.oracle.published_loading import LOADER_THREADS, load_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
CUBLAS_BYTES = int(8.125 * MIB)
_TRAINING = 1 << 40


@dataclass(frozen=True, slots=True)
class Row:
    """One measured run; memory in MiB: after loading, peaks of forward, backward and optimizer, reserved."""

    model: str
    batch: int
    length: int
    quantization: str
    attention: str
    rank: int
    load: float
    forward: float
    backward: float
    optimizer: float
    reserved: float
    threaded: bool = False
    """Measured with transformers 5.0 and PEFT 0.19, which load in threads and never empty the cache."""

    @property
    def allocated(self) -> float:
        """The run's peak."""
        return max(self.forward, self.backward, self.optimizer)


MEASURED = (
    Row("qwen2.5-1.5b", 2, 1024, "nf4", "eager", 32, 1643.87, 4474.57, 6838.54, 3007.02, 7548),
    Row("qwen2.5-1.5b", 2, 1024, "none", "eager", 32, 2978.53, 6223.84, 7405.81, 3735.79, 7910),
    Row("qwen2.5-1.5b", 2, 1024, "nf4", "efficient", 32, 1641.99, 4463.70, 6827.67, 3005.15, 7400),
    Row("qwen2.5-1.5b", 2, 1024, "none", "efficient", 32, 2978.53, 6219.84, 7401.81, 3735.79, 7766),
    Row("smollm2-1.7b", 4, 1024, "nf4", "eager", 32, 1296.47, 3793.33, 5297.27, 2336.75, 6996),
    Row("smollm2-1.7b", 4, 1024, "none", "eager", 32, 3312.19, 5784.81, 6536.75, 3936.47, 7734),
    Row("smollm2-1.7b", 4, 1024, "nf4", "efficient", 32, 1296.47, 3777.33, 5281.27, 2336.75, 5940),
    Row("smollm2-1.7b", 4, 1024, "none", "efficient", 32, 3312.19, 5776.81, 6528.75, 3936.47, 7094),
    Row("smollm2-135m", 1, 4096, "nf4", "eager", 32, 179.30, 2114.66, 3679.27, 1038.70, 5224),
    Row("smollm2-135m", 1, 4096, "none", "eager", 32, 270.65, 2416.64, 3180.11, 736.18, 4476),
    Row("smollm2-135m", 1, 4096, "nf4", "efficient", 32, 179.30, 2049.78, 3576.75, 1037.83, 3784),
    Row("smollm2-135m", 1, 4096, "none", "efficient", 32, 270.65, 2384.64, 3148.11, 736.18, 3284),
    Row("smollm2-135m", 2, 512, "nf4", "eager", 32, 179.30, 685.46, 1067.19, 448.31, 1192),
    Row("qwen2.5-7b", 1, 1024, "nf4", "eager", 16, 7702.37, 9410.78, 10584.77, 8496.76, 11746, True),
    Row("mistral-7b", 1, 1024, "nf4", "eager", 16, 4832.63, 5833.89, 6190.58, 5216.88, 6740, True),
    Row("deepseek-coder-1.3b", 1, 1024, "nf4", "eager", 16, 1202.22, 1731.49, 1975.49, 1456.47, 2274, True),
    Row("deepseek-coder-1.3b", 1, 1024, "nf4", "efficient", 16, 1202.47, 1727.74, 1971.74, 1456.72, 2172, True),
)
FURTHER = (
    Row("tinyllama-1.1b", 2, 2048, "none", "eager", 32, 2134.55, 4704.10, 6616.12, 0, 7662),
    Row("tinyllama-1.1b", 2, 2048, "nf4", "eager", 32, 1070.05, 4076.97, 6650.99, 0, 7840),
    Row("tinyllama-1.1b", 8, 1024, "nf4", "eager", 32, 1072.55, 4918.37, 8017.91, 0, 11032, True),
    Row("smollm2-360m", 1, 4096, "nf4", "eager", 32, 388.22, 2992.17, 5687.15, 0, 8164),
    Row("smollm2-1.7b", 1, 2048, "none", "eager", 32, 3312.19, 4680.97, 5706.23, 0, 7146),
)
_SIZES = {  # family, hidden, inner, layers, heads, key heads, vocabulary, tied
    "qwen2.5-1.5b": ("qwen2", 1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-7b": ("qwen2", 3584, 18944, 28, 28, 4, 152064, False),
    "smollm2-1.7b": ("llama", 2048, 8192, 24, 32, 32, 49152, True),
    "tinyllama-1.1b": ("llama", 2048, 5632, 22, 32, 4, 32000, False),
    "smollm2-360m": ("llama", 960, 2560, 32, 15, 5, 49152, True),
    "smollm2-135m": ("llama", 576, 1536, 30, 9, 3, 49152, True),
    "mistral-7b": ("mistral", 4096, 14336, 32, 32, 8, 32768, False),
    "deepseek-coder-1.3b": ("llama", 2048, 5504, 24, 16, 16, 32256, False),
}


ORDERS = (LOADER_THREADS, 0, 1, 2, 8, 12)
"""Tensors on the card ahead of the one in work; with four threads there are usually four."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """The same figures in MiB: memory after loading, and the allocator after two steps."""

    load: float
    allocated: float
    reserved: float


def simulate_row(row: Row, steps: int = 2) -> list[Simulated]:
    """`row`'s loading and steps as its authors wrote them, through the allocator's model; threads in all `ORDERS`."""
    ahead = ORDERS if row.threaded else (0,)
    with _patched():
        model = _build(row, depth(row))
        loadings = [StorageTracker() for _ in ahead]
        emptied = [load_model(model, loading, threads=count) for loading, count in zip(loadings, ahead, strict=True)]
        tracker = StorageTracker(SCRATCH, late_scratch=LATE_SCRATCH)
        for name, tensor in model_tensors(model):
            tracker.add(tensor, name)
        known = [
            {tracker.identity(tensor): loading.identity(tensor) for _, tensor in model_tensors(model)}
            for loading in loadings
        ]
        traces, loaded = [tuple(loading.trace) for loading in loadings], len(tracker.trace)
        with tracker:
            _train(model, row, tracker, steps)
    training = tracker.trace[loaded:]
    return [
        _replayed(trace, _renamed(training, names), None if row.threaded else position)
        for trace, position, names in zip(traces, emptied, known, strict=True)
    ]


def _renamed(training: list[Event], known: dict[int, int]) -> list[Event]:
    """Identities beside those of the loading, but for what was loaded: biases die when they are cast."""
    return [
        (known[abs(each)] if each > 0 else -known[abs(each)], size)
        if abs(each) in known
        else (each + _TRAINING if each > 0 else each - _TRAINING, size)
        for each, size in training
    ]


def _replayed(loading: tuple[Event, ...], training: list[Event], emptied: int | None) -> Simulated:
    """`emptied`: position in `loading` where the cache was emptied."""
    allocator = CachingAllocator()
    for position, event in enumerate(loading):
        if position == emptied:
            allocator.empty_cache()
        _apply(allocator, event)
    load_bytes = allocator.allocated_bytes
    allocator.reset_peaks()
    for event in training:
        _apply(allocator, event)
    return Simulated(load_bytes / MIB, allocator.peak_allocated_bytes / MIB, allocator.peak_reserved_bytes / MIB)


def _apply(allocator: CachingAllocator, event: Event) -> None:
    identity, size = event
    if identity > 0:
        allocator.malloc(identity, size)
    else:
        allocator.free(-identity)


def depth(row: Row) -> int:
    """Layers of the row's model."""
    return _SIZES[row.model][3]


def _train(model: Any, row: Row, tracker: StorageTracker, steps: int) -> None:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, foreach=True)
    ids = torch.empty((row.batch, row.length), dtype=torch.long, device="meta")
    tracker.add(ids)
    for step in range(steps):
        _step(model, optimizer, ids, tracker, first=step == 0)


def _step(model: Any, optimizer: Any, ids: torch.Tensor, tracker: StorageTracker, *, first: bool) -> None:
    optimizer.zero_grad(set_to_none=True)
    with _workspace(tracker, "aten::cos" if first else ""):
        # The outputs, logits among them, live through the backward pass, as in a loop written by hand.
        outputs = model(input_ids=ids, labels=ids)
    with _workspace(tracker, "aten::mm" if first else ""):
        outputs.loss.backward()
    optimizer.step()


@contextmanager
def _workspace(tracker: StorageTracker, operator: str) -> Iterator[None]:
    """cuBLAS takes its workspace in a thread's first product: rotary angles before their cosines, then the head's."""
    if not operator:
        yield
        return
    waiting = [operator]

    class First(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func._schema.name in waiting:
                waiting.clear()
                tracker.hold(CUBLAS_BYTES)
            return out

    with First():
        yield
    assert not waiting


def _build(row: Row, layers: int) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    family, hidden, inner, _, heads, key_heads, vocabulary, tied = _SIZES[row.model]
    config = AutoConfig.for_model(
        family,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=8192,
        sliding_window=None,
        use_cache=False,
    )
    with torch.device("meta"):
        attention = "eager" if row.attention == "eager" else _efficient_name()
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float16, attn_implementation=attention)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if row.quantization == "nf4":
            _quantize_and_upcast(model)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
        lora = LoraConfig(r=row.rank, lora_alpha=2 * row.rank, target_modules=TARGETS, task_type="CAUSAL_LM")
        return get_peft_model(model, lora).train()


def _quantize_and_upcast(model: Any) -> None:
    """4-bit layers, then prepare_model_for_kbit_training: everything 16-bit that is not packed becomes fp32."""
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(parent, name, four_bit_linear(child, "nf4", double_quant=False))
    model.is_loaded_in_4bit = True
    for parameter in model.parameters():
        if parameter.dtype == torch.float16:
            parameter.data = parameter.data.to(torch.float32)


def _efficient_name() -> str:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register("test_efficient", _efficient)
    AttentionMaskInterface.register("test_efficient", lambda *_, **__: None)
    return "test_efficient"


def _efficient(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: Any = None, **_: Any) -> Any:
    """transformers' sdpa with key heads repeated, and the kernel that a T4 takes."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out = kernel(query, key, value, None, True, 0.0, True, scale=scaling)[0]
    return out.transpose(1, 2).contiguous(), None


@contextmanager
def _patched() -> Iterator[None]:
    """transformers looks for packed sequences by value, which meta tensors have none of; a softmax as on CUDA."""
    import transformers.masking_utils

    with (
        mock.patch.object(transformers.masking_utils, "find_packed_sequence_indices", return_value=None),
        mock.patch.object(F, "softmax", _softmax),
    ):
        yield


def _softmax(scores: torch.Tensor, dim: int, dtype: Any = None) -> torch.Tensor:
    """SoftMax.cpp: on CUDA, fp16 goes into an fp32 softmax without a copy in between."""
    fused = scores.dtype == torch.float16 and dtype == torch.float32
    return torch._softmax(scores, dim % scores.dim(), True) if fused else torch.softmax(scores, dim, dtype)
