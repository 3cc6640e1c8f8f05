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
from engine.modeling import checkpointing as recompute
from engine.modeling import forward, four_bit, fused_lora
from engine.modeling import liger as liger_kernels
from engine.modeling.adapters import base_of
from engine.modeling.attention_documents import Documents
from engine.modeling.attention_kernels import kernel_for
from engine.modeling.load import DTYPES
from engine.profile.schema import Profile
from engine.selftest.checks import FAILED, PASSED, SKIPPED, Finding
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
_OFFLOADED_TIMES = 22
_UPDATES = (1.0, -0.5, 2.0)
"""Three steps, each with a gradient as many times as large."""
_HEADS = 6


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
    rows, options = params.get("rows", 1), {"window": params.get("window"), "softcap": params.get("softcap")}
    rounded = _drawn(params, sum(lengths))
    bounds, longest = torch.tensor([0, *lengths]).cumsum(0), max(lengths)
    exact = _differentiated(
        lambda parts: _exact(parts, bounds.tolist(), **options), [part.double() for part in rounded]
    )
    offsets = bounds.to(device, torch.int32)
    parts = [_rows(part.to(device), rows) for part in rounded]
    kernel = kernel_for(parts[0], parts[1], Documents(offsets, longest, rows, sum(lengths) // rows), options["window"])
    if params.get("kernel") not in (None, kernel):
        return Finding("", SKIPPED, f"not used here, {kernel} attention is: it differs, or its library is too old")

    def fast(parts: list[torch.Tensor]) -> torch.Tensor:
        query, key, value = (_rows(part, rows) for part in parts)
        out, _ = packed_attention.packed_attention(
            nn.Identity(),
            query,
            key,
            value,
            None,
            sliding_window=options["window"],
            softcap=options["softcap"],
            cu_seq_lens_q=offsets,
            max_length_q=longest,
        )
        return out.reshape(1, -1, *out.shape[2:])

    found = _differentiated(fast, [part.to(device) for part in rounded])
    errors = [_norm([one - other.cpu().double()]) / _norm([one]) for one, other in zip(exact, found, strict=True)]
    return judged(largest(errors), _KERNEL_ROUNDING[params["dtype"]])


def _drawn(params: Params, total: int) -> list[torch.Tensor]:
    """Query, key and value [1, heads, S, D], rounded to the dtype."""
    generator, sizes = torch.Generator().manual_seed(0), (_HEADS, *[params.get("key_heads", 2)] * 2)
    drawn = [torch.randn(1, count, total, params.get("head_dim", 32), generator=generator) for count in sizes]
    return [part.to(DTYPES[params["dtype"]]) for part in drawn]


def _rows(part: torch.Tensor, rows: int) -> torch.Tensor:
    """[1, H, S, D] -> [rows, H, S / rows, D], heads beside each other in memory as projections leave them."""
    return part[0].unflatten(1, (rows, -1)).permute(1, 2, 0, 3).contiguous().transpose(1, 2)


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
    base_of(model).set_attn_implementation("eager")

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
    dtype, device = params["dtype"], params["device"]
    stored, offload = params.get("quantization"), params.get("offload", False)
    model = demo_model(stored, dtype, device) if stored else tiny_model(params["family"], dtype, device)
    # Inputs under a mebibyte are not worth moving.
    whole = batch(device, times=_OFFLOADED_TIMES if offload else 1)
    plain = loss_and_gradients(model, whole, forward.loss_sum)
    recompute.enable(
        model,
        params.get("every", 1),
        offload=offload,
        keep_attention=params.get("keep_attention", False),
        reentrant=params.get("reentrant", False),
    )
    passes: list[int] = []
    layer = base_of(model).get_decoder().layers[0]
    layer.mlp.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    found = loss_and_gradients(model, whole, forward.loss_sum)
    if len(passes) != 2:
        return Finding("", FAILED, f"the first layer ran {len(passes)} times in a step in place of twice")
    return compared(plain, found, _ROUNDING[dtype])


def liger(params: Params) -> Finding:
    """Triton kernels of norms, rotation, gate and loss, against transformers' own operators."""
    reason = liger_kernels.missing_reason()
    if reason:
        return Finding("", FAILED, reason)
    model, whole = tiny_model(params["family"], params["dtype"], params["device"]), batch(params["device"])
    plain = loss_and_gradients(model, whole, forward.loss_sum)
    bound = liger_kernels.bind(model)
    if not bound:
        return Finding("", FAILED, "no part of this model takes a kernel")
    return compared(plain, loss_and_gradients(model, whole, forward.loss_sum), _ROUNDING[params["dtype"]])


def capped(params: Params) -> Finding:
    """Soft-capped scores through flex attention, against each document's square of scores."""
    model, whole = tiny_model("gemma2", params["dtype"], params["device"]), batch(params["device"])
    plain = loss_and_gradients(model, whole, forward.loss_sum)
    warnings: list[str] = []
    packed_attention.use_flex(base_of(model), lambda code, message: warnings.append(message))
    if warnings:
        return Finding("", SKIPPED, warnings[0])
    return compared(plain, loss_and_gradients(model, whole, forward.loss_sum), _ROUNDING[params["dtype"]])


def unpacking(params: Params) -> Finding:
    """4-bit matrices by our own program, against bitsandbytes' kernels, with nested scales and without."""
    import bitsandbytes

    dtype, device = DTYPES[params["dtype"]], params["device"]
    apart = 0.0
    for nested in (True, False):
        exact = torch.randn(1000, 192, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        packed = bitsandbytes.nn.Params4bit(
            exact.cpu(), requires_grad=False, compress_statistics=nested, quant_type=params["quantization"]
        ).to(device)
        plain = bitsandbytes.functional.dequantize_4bit(packed.data, packed.quant_state)
        apart = max(apart, float((four_bit.dequantized(packed, dtype) - plain).abs().max()))
    return judged(apart, 0.0)


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
    """How far three updates move the weights: ours with flat fp32 masters, and torch's plain loop over fp32 copies."""
    model, whole = tiny_model("llama", params["dtype"], params["device"]), batch(params["device"])
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    first = [weight.detach().clone() for weight in learned]
    settings = learning_settings(params["dtype"], "adamw_torch_fused")
    gradients = loss_and_gradients(model, whole, forward.loss_sum)[1]
    plain = _plainly_updated(first, gradients, settings)
    chosen = build_optimizer(model, settings, lambda code, message: None)
    for factor in _UPDATES:
        for weight, gradient in zip(learned, gradients, strict=True):
            weight.grad = gradient * factor
        chosen.step()
    masters = [master.detach().float() for group in chosen.param_groups for master in group["params"]]
    rounded = sum(
        float((one.to(two.dtype) - two.detach()).abs().sum()) for one, two in zip(masters, learned, strict=True)
    )
    if rounded:
        return Finding("", FAILED, "the weights are not what their fp32 masters round to")
    wanted, moved = ([end - old.float() for end, old in zip(ends, first, strict=True)] for ends in (plain, masters))
    apart = _norm([one - other for one, other in zip(wanted, moved, strict=True)])
    return judged(apart / _norm(wanted), _ROUNDING["fp32"])


def _plainly_updated(first: list[torch.Tensor], gradients: list[torch.Tensor], settings: Profile) -> list[torch.Tensor]:
    """The same updates of fp32 copies, one tensor after the other."""
    train, copies = settings.train, [weight.float().clone().requires_grad_() for weight in first]
    plain = torch.optim.AdamW(
        copies,
        lr=float(train.learning_rate),
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
        weight_decay=train.weight_decay,
        foreach=False,
        fused=False,
    )
    for factor in _UPDATES:
        for copy, gradient in zip(copies, gradients, strict=True):
            copy.grad = (gradient * factor).float()
        plain.step()
    return [copy.detach() for copy in copies]
