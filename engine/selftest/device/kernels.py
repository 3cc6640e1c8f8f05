"""Each fast path beside plain computation: loss and gradients of a small batch, the error and what is tolerated.

One function a row of `engine.selftest.kernel_table`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from engine.errors import EngineError, ExitCode
from engine.modeling import attention as packed_attention
from engine.modeling import forward, fused_lora
from engine.modeling.load import DTYPES
from engine.selftest.checks import FAILED, PASSED, Finding
from engine.selftest.device.tiny import batch, demo_model, documents, learning_settings, tiny_model
from engine.train.acceleration import loss_and_gradients
from engine.train.optimizer import build_optimizer

Params = dict[str, Any]
Gradients = tuple[float, list[torch.Tensor]]
_ROUNDING = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2}
"""Largest difference as a share of the whole: two layers, a product rounded otherwise in every step."""
_KERNEL_ROUNDING = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 2e-2}
_INT8_ROUNDING = 0.1
"""LLM.int8 rounds what goes into a layer to 8 bits as well."""


def judged(error: float, tolerance: float, **figures: float) -> Finding:
    """Passed where the error is within what is tolerated; a NaN never is."""
    text = f"error {error:.2g}, tolerance {tolerance:.2g}"
    status = PASSED if error <= tolerance else FAILED
    return Finding("", status, text, {"error": error, "tolerance": tolerance, **figures})


def compared(plain: Gradients, found: Gradients, tolerance: float) -> Finding:
    """The larger of both: the loss's difference, and the whole gradient's, as shares."""
    loss = abs(found[0] - plain[0]) / max(abs(plain[0]), 1.0)
    apart = _norm([one.float() - other.float() for one, other in zip(plain[1], found[1], strict=True)])
    gradient = apart / _norm(plain[1])
    return judged(largest([loss, gradient]), tolerance, loss_error=loss, gradient_error=gradient)


def largest(errors: Sequence[float]) -> float:
    """The largest; NaN where any is, which `max` may pass over."""
    return math.nan if any(math.isnan(error) for error in errors) else max(errors)


def _norm(tensors: list[torch.Tensor]) -> float:
    return float(torch.stack([tensor.float().norm() for tensor in tensors]).norm())


# attention -------------------------------------------------------------------------------------------


def attention(params: Params) -> Finding:
    """The kernel that training would use on these documents, forward and backward, against fp64."""
    device, lengths = params["device"], params.get("lengths") or [10, 54, 1, 63]
    heads, key_heads, width = 6, params.get("key_heads", 2), params.get("head_dim", 32)
    options = {"window": params.get("window"), "softcap": params.get("softcap")}
    generator, total = torch.Generator().manual_seed(0), sum(lengths)
    drawn = [torch.randn(1, count, total, width, generator=generator) for count in (heads, key_heads, key_heads)]
    rounded = [part.to(DTYPES[params["dtype"]]) for part in drawn]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    exact = _differentiated(
        lambda parts: _exact(parts, bounds.tolist(), **options), [part.double() for part in rounded]
    )
    offsets = bounds.to(device, torch.int32)

    def fast(parts: list[torch.Tensor]) -> torch.Tensor:
        query, key, value = parts
        return packed_attention.packed_attention(
            nn.Identity(),
            query,
            key,
            value,
            None,
            sliding_window=options["window"],
            softcap=options["softcap"],
            cu_seq_lens_q=offsets,
            max_length_q=max(lengths),
        )[0]

    found = _differentiated(fast, [part.to(device) for part in rounded])
    errors = [_norm([one - other.cpu().double()]) / _norm([one]) for one, other in zip(exact, found, strict=True)]
    return judged(largest(errors), _KERNEL_ROUNDING[params["dtype"]])


def _differentiated(
    function: Callable[[list[torch.Tensor]], torch.Tensor], parts: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Output, and the gradients of query, key and value for a fixed gradient of the output."""
    leaves = [part.detach().requires_grad_() for part in parts]
    out = function(leaves)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.device, out.dtype)
    out.backward(slope)
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _exact(parts: list[torch.Tensor], bounds: list[int], *, window: int | None, softcap: float | None) -> torch.Tensor:
    """[1, S, H, D]: softmax over the square of each document's scores."""
    query, key, value = parts
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    pieces = []
    for start, end in itertools.pairwise(bounds):
        scores = query[..., start:end, :] @ key[..., start:end, :].transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
        rows = torch.arange(end - start)
        distance = rows[:, None] - rows[None, :]
        seen = (distance >= 0) & (distance < (window or end - start))
        pieces.append(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value[..., start:end, :])
    return torch.cat(pieces, dim=2).transpose(1, 2)


# whole models ----------------------------------------------------------------------------------------


def packed(params: Params) -> Finding:
    """Documents end to end in one batch, loss in chunks, against each alone with eager attention and full logits."""
    model, together = tiny_model(params["family"], params["dtype"], params["device"]), batch(params["device"])
    fast = loss_and_gradients(model, together, forward.loss_sum)
    forward.base_of(model).set_attn_implementation("eager")

    def alone(model: Any, whole: forward.Batch) -> torch.Tensor:
        return torch.stack([forward.loss_sum_from_logits(model, each) for each in documents(whole)]).sum()

    return compared(loss_and_gradients(model, together, alone), fast, _ROUNDING[params["dtype"]])


def chunked_loss(params: Params) -> Finding:
    """The loss without full logits, against the model's own."""
    model = tiny_model(params["family"], params["dtype"], params["device"], params["method"])
    whole = batch(params["device"])
    plain = loss_and_gradients(model, whole, forward.loss_sum_from_logits)
    return compared(plain, loss_and_gradients(model, whole, forward.loss_sum), _ROUNDING[params["dtype"]])


def fused_adapters(params: Params) -> Finding:
    """Adapters added into their layer's output, against PEFT's own way."""
    quantization, dtype, device = params.get("quantization"), params["dtype"], params["device"]
    model = demo_model(quantization, dtype, device) if quantization else tiny_model(params["family"], dtype, device)
    if not fused_lora.adapted_layers(model):
        raise EngineError("no layer of this model takes the fused way", code=ExitCode.INTERNAL)
    whole = batch(device)
    plain = loss_and_gradients(model, whole, forward.loss_sum)
    fused_lora.fuse(model)
    return compared(plain, loss_and_gradients(model, whole, forward.loss_sum), _ROUNDING[dtype])


def checkpointing(params: Params) -> Finding:
    """Activations computed again in the backward pass, against activations kept."""
    model, whole = tiny_model(params["family"], params["dtype"], params["device"]), batch(params["device"])
    plain = loss_and_gradients(model, whole, forward.loss_sum)
    forward.enable_checkpointing(model, params["every"])
    passes: list[int] = []
    layer = forward.base_of(model).get_decoder().layers[0]
    layer.mlp.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    found = loss_and_gradients(model, whole, forward.loss_sum)
    if len(passes) != 2:
        return Finding("", FAILED, f"the first layer ran {len(passes)} times in a step in place of twice")
    return compared(plain, found, _ROUNDING[params["dtype"]])


def quantized(params: Params) -> Finding:
    """Packed layers as a run loads them, against plain layers of the weights that they unpack to."""
    model, whole = demo_model(params["quantization"], params["dtype"], params["device"]), batch(params["device"])
    found = loss_and_gradients(model, whole, forward.loss_sum)
    _unpack(model, DTYPES[params["dtype"]])
    tolerance = _INT8_ROUNDING if params["quantization"] == "int8" else _ROUNDING[params["dtype"]]
    return compared(loss_and_gradients(model, whole, forward.loss_sum), found, tolerance)


def _unpack(model: Any, dtype: torch.dtype) -> None:
    """Put plain layers in place of bitsandbytes' ones."""
    import bitsandbytes as bnb

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)):
                continue
            if isinstance(child, bnb.nn.Linear8bitLt):
                # A first pass has moved them from the weight into the layer's state.
                weight = child.state.CB.float() * (child.state.SCB.float() / 127)[:, None]
            else:
                weight = bnb.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
            plain = nn.Linear(child.in_features, child.out_features, child.bias is not None, device="meta")
            plain.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
            plain.bias = child.bias
            setattr(parent, name, plain)


# optimizer -------------------------------------------------------------------------------------------


def optimizer(params: Params) -> Finding:
    """Weights after three updates, fused and plain; 16-bit weights have fp32 masters in both."""
    plain, fused = (_updated(params, name) for name in ("adamw_torch", "adamw_torch_fused"))
    apart = _norm([one - other for one, other in zip(plain, fused, strict=True)])
    return judged(apart / _norm(plain), _ROUNDING[params["dtype"]])


def _updated(params: Params, name: str) -> list[torch.Tensor]:
    """How far three updates moved each weight."""
    model, whole = tiny_model("llama", params["dtype"], params["device"]), batch(params["device"])
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    before = [weight.detach().float().clone() for weight in learned]
    chosen = build_optimizer(model, learning_settings(params["dtype"], name), lambda code, message: None)
    for _ in range(3):
        chosen.zero_grad()
        forward.loss_sum(model, whole).backward()
        chosen.step()
    return [weight.detach().float() - old for weight, old in zip(learned, before, strict=True)]
