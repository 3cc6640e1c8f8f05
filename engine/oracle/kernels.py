"""What CUDA kernels take inside themselves, and what stands in for operators that meta lacks.

Each entry is a fact that no fake tensor shows, with where it was read: they are the oracle's assumptions
(`ASSUMPTIONS` lists them in words). Torch 2.11 to 2.13, bitsandbytes 0.50.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.memory.device import FLASH_PADDING_TOKENS, efficient_block
from engine.memory.outliers import COLUMN_BYTES
from engine.oracle.tracker import Replacement, Scratch

ASSUMPTIONS = (
    "cuBLAS takes one workspace for the forward and one for the autograd thread, through the allocator",
    "variable-length flash attention keeps query, key, value, output and fp32 row normalizers; backward adds an fp32 "
    "query gradient padded by 128 tokens a document, and key and value gradients expanded to all query heads",
    "memory-efficient attention adds fp32 row sums in its backward pass, and an fp32 query gradient in which each "
    "document of a call takes whole blocks for the longest of them",
    "4-bit layers dequantize their whole matrix in the forward pass too (bitsandbytes fuses it for few tokens)",
    "int8 layers hold an int32 and an fp16 result beside the output, and as many outlier columns of the feed-forward "
    "output's input as random weights make",
    "logsumexp and norms form one temporary of their input's size",
    "the backward pass of a softmax multiplies gradient and output into a temporary",
    "the gradient of an embedding is summed by segments in fp32",
    "experts are balanced",
)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _multiple(value: int, of: int) -> int:
    return -(-value // of) * of


def varlen_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **_: Any
) -> list[int]:
    """flash_api.cpp mha_varlen_bwd: softmax_d, dq_accum, dk_expanded, dv_expanded. [T, H, D] tensors."""
    tokens, heads, width = query.shape
    documents = rest[2].numel() - 1
    padded = tokens + FLASH_PADDING_TOKENS * documents
    sizes = [4 * heads * padded, 4 * padded * heads * _multiple(width, 32 if width <= 128 else 64)]
    if key.shape[1] != heads:
        sizes += [key.shape[0] * heads * width * query.element_size()] * 2
    return sizes


def efficient_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **_: Any
) -> list[int]:
    """mem_eff_attention/kernel_backward.h: row sums, and for each document the longest one's blocks of query gradient.

    Keys are split among blocks of threads, so that the sums are needed in fp32 too.
    """
    batch, tokens, heads, width = query.shape
    offsets, longest = rest[2], rest[4]
    documents = batch if offsets is None else offsets.numel() - 1
    rows = _multiple(tokens if offsets is None else longest, efficient_block(width))
    return [4 * batch * heads * tokens, 4 * documents * heads * rows * _multiple(width, 64)]


def four_bit_product(
    x: torch.Tensor, packed: torch.Tensor, shape: Any, absmax: torch.Tensor, *rest: Any, **named: Any
) -> list[int]:
    """bitsandbytes/backends/cuda/ops.py _dequant_linear_fallback: the matrix, and its scales when nested."""
    count = shape[0] * shape[1]
    sizes = [count * x.element_size()]
    if named.get("absmax_8bit") is not None:
        sizes.append(4 * named["absmax_8bit"].numel())
    return sizes


def int8_quantize(x: torch.Tensor, threshold: float = 0.0) -> list[int]:
    """Row-wise quantization looks for outliers: absolute values in fp16 and a mask."""
    return [2 * x.numel(), x.numel()] if threshold > 0 else []


def int8_product(x: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> list[int]:
    """int8_mixed_scaled_mm: int32 products and their fp16 form, both alive while the output is cast."""
    rows = codes.numel() // codes.shape[-1]
    return [4 * rows * weight.shape[0]] + ([2 * rows * weight.shape[0]] if x.dtype != torch.float16 else [])


def int8_operators(inner: int, hidden: int, columns: int) -> tuple[dict[str, Scratch], dict[str, Replacement]]:
    """The mixed product's scratch and stand-in, whose fake kernel wants a symbolic number of outlier columns.

    `columns` of the `inner` inputs of layers with `hidden` outputs are.
    """

    def wide(codes: torch.Tensor, weight: torch.Tensor) -> int:
        return columns if codes.shape[-1] == inner and weight.shape[0] == hidden else 0

    def scratch(x: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> list[int]:
        found = wide(codes, weight)
        return int8_product(x, codes, weight) + ([COLUMN_BYTES * hidden * found] if found else [])

    def product(
        x: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, found = codes.numel() // codes.shape[-1], wide(codes, weight)
        held = x.new_empty((rows, found)) if found else x.new_empty(0)
        return x.new_empty((*codes.shape[:-1], weight.shape[0])), held

    name = "bitsandbytes::int8_mixed_scaled_mm"
    return {name: scratch}, {name: product}


def int8_quantized(x: torch.Tensor, threshold: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Stands in for int8_vectorwise_quant, whose fake kernel wants a symbolic number of outlier columns."""
    rows = x.numel() // x.shape[-1]
    outliers = x.new_empty(0, dtype=torch.int64) if threshold > 0 else None
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty(rows, dtype=torch.float32), outliers


def same_size(x: torch.Tensor, *_: Any, **__: Any) -> list[int]:
    """One temporary of the input's size."""
    return [_bytes(x)]


def softmax_backward(grad: torch.Tensor, *_: Any) -> list[int]:
    """SoftMax.cu softmax_backward_cuda_out: `grad * output`, behind the gradient that it fills."""
    return [_bytes(grad)]


def embedding_backward(grad: torch.Tensor, indices: torch.Tensor, rows: int, *_: Any) -> list[int]:
    """Embedding.cu, more than 3,072 tokens: sorted indices with their origins, and fp32 partial sums."""
    count = indices.numel()
    if count <= 3072:
        return []
    partial = -(-count // 10) + min(count, rows)
    return [8 * count] * 3 + [4 * partial * grad.shape[-1]]


def nonzero(mask: torch.Tensor) -> torch.Tensor:
    """As if every element were true: the most that it can be."""
    return torch.empty((mask.numel(), mask.dim()), dtype=torch.int64, device=mask.device)


def efficient_gradients(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, ...]:
    """Stands in for the operator: torch's meta kernel does not know its newest argument list."""
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), query.new_empty(0)


def grouped_product(rows: torch.Tensor, matrices: torch.Tensor, offs: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """Stands in for the operator, whose meta kernel takes bf16 alone; a GPU takes the other precisions too."""
    stacked = matrices.dim() == len("EOI")
    shape = (rows.shape[0],) if stacked else (offs.shape[0], rows.shape[0])
    return rows.new_empty((*shape, matrices.shape[-1]))


SCRATCH: dict[str, Scratch] = {
    "aten::_flash_attention_backward": varlen_backward,
    "aten::_efficient_attention_backward": efficient_backward,
    "bitsandbytes::gemm_4bit": four_bit_product,
    "bitsandbytes::int8_vectorwise_quant": int8_quantize,
    "aten::logsumexp": same_size,
    "aten::embedding_dense_backward": embedding_backward,
}
LATE_SCRATCH: dict[str, Scratch] = {"aten::_softmax_backward_data": softmax_backward}
REPLACEMENTS: dict[str, Replacement] = {
    "aten::_efficient_attention_backward": efficient_gradients,
    "aten::_grouped_mm": grouped_product,
    "aten::nonzero": nonzero,
    "bitsandbytes::int8_vectorwise_quant": int8_quantized,
}
