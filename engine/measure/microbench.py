"""`python -m engine.measure.microbench cpu|cuda`: what this device really does, measured in under a second.

Products of training-like sizes in every dtype the device multiplies, a copy for the memory rate and, on a
processor, the work of a decoder layer between its products and its attention: there it takes as long as the
products. Best of several within 50 ms each, after a warm-up: other people's work only ever makes it slower.
`engine probe --measure` runs this in a process of its own, the worker at the first run on a device. Not here: what
the figures mean for a model (`engine.speed.rates`).
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from engine.modeling.attention import packed_attention
from engine.modeling.logits import PLAIN
from engine.modeling.loss import ChunkedCrossEntropy
from engine.speed.measured import DtypeRates, MeasuredRates, encode_rates

_BUDGET_S = 0.05
_LEAST_REPEATS = 2
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TOKENS = {"cpu": 512, "cuda": 4096}
_WIDTHS = {"cpu": (256, 768, 2048), "cuda": (1024, 4096)}
_MOST_OUT = {"cpu": 512, "cuda": 4096}
"""On a processor no tensor but the copy's has over 4 MiB: a larger one, freed, would have malloc keep more memory for
the rest of the run."""
_LAYER_WIDTH = 512
_RANK = 16
_DOCUMENT, _HEADS, _HEAD_WIDTH = 256, 8, 64
_LOSS_WIDTH, _LOGITS = 16, 2048
_COPY_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}


def measure(device: str, dtypes: tuple[str, ...]) -> MeasuredRates:
    """Rates of `cpu` or the current CUDA device. Raises RuntimeError where the device has no memory left for it."""
    return MeasuredRates(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        threads=torch.get_num_threads(),
        bandwidth_bytes_s=_bandwidth(device),
        dtypes={name: _of_dtype(device, _DTYPES[name]) for name in dtypes},
    )


def measured_dtypes(device: str) -> tuple[str, ...]:
    """Dtypes that training uses on this device."""
    if device == "cpu":
        return ("fp32", "bf16")
    return ("fp32", "fp16", "bf16") if torch.cuda.get_device_capability() >= (8, 0) else ("fp32", "fp16")


def _of_dtype(device: str, dtype: torch.dtype) -> DtypeRates:
    products = tuple((width, _product_flops(device, dtype, width)) for width in _WIDTHS[device])
    if device != "cpu":
        return DtypeRates(products)
    return DtypeRates(products, _value_s(dtype), _score_s(dtype), _logit_s(dtype))


def _product_flops(device: str, dtype: torch.dtype, width: int) -> float:
    """FLOP/s of a linear layer's forward product and of the one that its input's gradient takes."""
    tokens, out = _TOKENS[device], min(width, _MOST_OUT[device])
    rows, gradient = (torch.randn(tokens, size, device=device, dtype=dtype) for size in (width, out))
    weight = torch.randn(out, width, device=device, dtype=dtype)

    def both() -> None:
        F.linear(rows, weight)
        torch.mm(gradient, weight)

    return 4 * tokens * width * out / _best_s(both, device)


def _bandwidth(device: str) -> float:
    source = torch.zeros(_COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best_s(lambda: target.copy_(source), device)


def _value_s(dtype: torch.dtype) -> float:
    """Norms, rotation, gate, residuals and the adapters' thin products, a token and unit of width."""
    tokens, width = _TOKENS["cpu"], _LAYER_WIDTH
    wide = 8 * width // 3
    leaves = [torch.randn(tokens, size).to(dtype).requires_grad_() for size in (width, width, wide, wide)]
    down = [torch.randn(_RANK, size).to(dtype).requires_grad_() for size in (width, wide)]
    up = [torch.randn(size, _RANK).to(dtype).requires_grad_() for size in (width, wide)]
    weight, angle = torch.ones(width, dtype=dtype), torch.randn(tokens, width).to(dtype)

    def adapted(rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        below, above = down[rows.shape[-1] == wide], up[out.shape[-1] == wide]
        return out + F.linear(F.linear(rows, below), above) * 1.0

    def layer() -> None:
        stream, query, gate, lifted = leaves
        rows = _norm(stream, weight)
        turned = _rotate(adapted(rows, query), angle) + adapted(rows, query) + adapted(rows, query)
        stream = stream + adapted(turned, query)
        rows = _norm(stream, weight)
        inner = F.silu(adapted(rows, gate)) * adapted(rows, lifted)
        out = stream + adapted(inner, query)
        out.backward(out.detach())

    return _best_s(layer, "cpu") / (tokens * width)


def _norm(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMSNorm as transformers computes it: in fp32."""
    exact = rows.float()
    return weight * (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 1e-6)).to(rows.dtype)


def _rotate(rows: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    first, second = rows.chunk(2, dim=-1)
    return rows * angle + torch.cat((-second, first), dim=-1) * angle


def _score_s(dtype: torch.dtype) -> float:
    shape = (1, _HEADS, 2 * _DOCUMENT, _HEAD_WIDTH)
    query, key, value = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
    bounds = torch.arange(0, 2 * _DOCUMENT + 1, _DOCUMENT, dtype=torch.int32)

    def attend() -> None:
        out, _ = packed_attention(torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=bounds)
        out.backward(out.detach())

    return _best_s(attend, "cpu") / (_HEADS * 2 * _DOCUMENT * _DOCUMENT)


def _logit_s(dtype: torch.dtype) -> float:
    """The loss of a narrow model: next to nothing goes into the head's product."""
    hidden = torch.randn(_TOKENS["cpu"], _LOSS_WIDTH).to(dtype).requires_grad_()
    weight, labels = torch.randn(_LOGITS, _LOSS_WIDTH).to(dtype), torch.zeros(_TOKENS["cpu"], dtype=torch.int64)

    def lose() -> None:
        ChunkedCrossEntropy.apply(hidden, weight, labels, _TOKENS["cpu"], PLAIN)

    return _best_s(lose, "cpu") / (_TOKENS["cpu"] * _LOGITS)


def _best_s(work: Callable[[], object], device: str) -> float:
    """Shortest time of `work`, warmed up, within the budget."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    work()
    wait()
    best, end, repeats = math.inf, time.perf_counter() + _BUDGET_S, 0
    while repeats < _LEAST_REPEATS or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        wait()
        best, repeats = min(best, time.perf_counter() - began), repeats + 1
    return best


def main(arguments: list[str]) -> int:
    """Measure the device named by the only argument and print one JSON object; returns the exit code."""
    if arguments not in (["cpu"], ["cuda"]):
        print("usage: python -m engine.measure.microbench cpu|cuda", file=sys.stderr)
        return 2
    with contextlib.redirect_stdout(sys.stderr):
        rates = measure(arguments[0], measured_dtypes(arguments[0]))
    print(json.dumps(encode_rates(rates, {})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
