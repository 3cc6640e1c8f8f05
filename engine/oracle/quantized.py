"""bitsandbytes' quantized linear layers on the meta device, with their scales, as its loader leaves them.

bitsandbytes quantizes while weights move to a GPU; here weights and states are made by
hand in the shapes of its functional.py (0.50).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.modeling import experts, state_spaces

BLOCK, NESTED_BLOCK = 64, 256
INT8_THRESHOLD = 6.0


def quantize_linears(model: Any, method: str, double_quant: bool) -> None:
    """Replace every linear layer but the output head, and in 4 bit all experts, as the loader does."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    spared = {id(module) for _, module in state_spaces.read_by_kernels(model)} | {id(model.get_output_embeddings())}
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and id(child) not in spared
    ]
    for parent, name, child in found:
        made = int8_linear(child) if method == "int8" else four_bit_linear(child, method, double_quant)
        setattr(parent, name, made)
    if method != "int8":
        pack_experts(model, method, double_quant)
    setattr(model, "is_loaded_in_8bit" if method == "int8" else "is_loaded_in_4bit", True)


def four_bit_linear(layer: nn.Linear, method: str, double_quant: bool) -> Any:
    """A Linear4bit with packed weights and absmax, the latter nested when `double_quant`."""
    import bitsandbytes as bnb

    rows, columns, dtype, device = layer.out_features, layer.in_features, layer.weight.dtype, layer.weight.device
    made = bnb.nn.Linear4bit(
        columns, rows, bias=layer.bias is not None, compute_dtype=dtype, quant_type=method, device=device
    )
    made.weight = four_bit_parameter(layer.weight, method, double_quant, made)
    made.bias = layer.bias
    made.compute_type_is_set = True
    return made


def four_bit_parameter(weight: torch.Tensor, method: str, double_quant: bool, module: Any = None) -> Any:
    """A Params4bit in the place of `weight`, a matrix or the stacked ones of experts."""
    import bitsandbytes as bnb
    from bitsandbytes.functional import QuantState

    count, device = weight.numel(), weight.device
    groups = -(-count // BLOCK)
    scales: dict[str, Any] = {"absmax": torch.empty(groups, dtype=torch.float32, device=device)}
    if double_quant:
        nested = QuantState(
            absmax=torch.empty(-(-groups // NESTED_BLOCK), dtype=torch.float32, device=device),
            code=torch.empty(256, dtype=torch.float32, device=device),
            blocksize=NESTED_BLOCK,
            dtype=torch.float32,
        )
        scales = {
            "absmax": torch.empty(groups, dtype=torch.uint8, device=device),
            "offset": torch.empty((), dtype=torch.float32, device=device),
            "state2": nested,
        }
    state = QuantState(
        shape=weight.shape,
        code=torch.empty(16, dtype=torch.float32, device=device),
        blocksize=BLOCK,
        quant_type=method,
        dtype=weight.dtype,
        **scales,
    )
    return bnb.nn.Params4bit(
        torch.empty((-(-count // 2), 1), dtype=torch.uint8, device=device),
        requires_grad=False,
        quant_state=state,
        quant_type=method,
        compress_statistics=double_quant,
        bnb_quantized=True,
        module=module,
    )


def pack_experts(model: Any, method: str, double_quant: bool) -> None:
    """4-bit stacks in the place of all experts, as `modeling.experts_load` leaves them."""
    for _, module in experts.stacks_of(model):
        for name in experts.STACKS:
            module._parameters[name] = four_bit_parameter(module._parameters[name], method, double_quant)
    experts.bind(model)


def int8_linear(layer: nn.Linear) -> Any:
    """A Linear8bitLt with int8 rows and one fp32 scale a row."""
    import bitsandbytes as bnb

    rows, columns, device = layer.out_features, layer.in_features, layer.weight.device
    made = bnb.nn.Linear8bitLt(
        columns,
        rows,
        bias=layer.bias is not None,
        has_fp16_weights=False,
        threshold=INT8_THRESHOLD,
        device=device,
    )
    codes = torch.empty((rows, columns), dtype=torch.int8, device=device)
    scales = torch.empty(rows, dtype=torch.float32, device=device)
    made.weight = bnb.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales)
    made.bias = layer.bias
    return made
