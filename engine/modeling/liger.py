"""Liger's Triton kernels for the norms, the rotation, the gate and the loss of one model.

`bind` gives single modules another `forward`; no class and no module of transformers is touched, so that other models
in the process stay as they are. `engine.models.families` says how a family's kernels must be called.

Kernels are called through this module's functions, which are looked up at each call: whoever replaces
`rms_norm`, `rotate`, `silu_mul`, `silu_mul_joined`, `gelu_mul` or `cross_entropy_` here (as `engine.oracle` does, on
tensors without data) replaces them in bound models. Each says what it keeps for the backward pass.

A backward pass may run once only: the gate's writes its gradients over what it kept, without a trace for autograd, and
a second one (`retain_graph`) would be wrong in silence. The engine's never does that.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch

from engine.libraries import optional_misfit
from engine.modeling.adapters import base_of
from engine.models.families import family_of
from engine.models.family import LigerKernels

ROTATION = "apply_rotary_pos_emb"
"""What transformers' attention modules call for the rotation of query and key."""
LOSS_FLAG = "loss_by_kernel"
"""Attribute of an output head whose loss `engine.modeling.loss` forms with `cross_entropy_`."""

Forward = Callable[..., Any]


def missing_reason() -> str:
    """Why no kernel can run here, as a sentence without its full stop; empty where they can."""
    if importlib.util.find_spec("liger_kernel") is None:
        return "liger-kernel is not installed (pip install 'tunedeck[kernels]')"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    misfit = optional_misfit("liger-kernel") or optional_misfit("triton")
    if misfit:
        return misfit
    if not torch.cuda.is_available():
        return "there is no CUDA GPU"
    try:
        _ops()
    except Exception as error:
        return f"liger-kernel cannot be loaded: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
    return ""


def bind(model: Any) -> tuple[str, ...]:
    """Let a model's modules run kernels; what was bound in words, nothing for a family without kernels."""
    unbind(model)
    base = base_of(model)
    kernels = family_of(base.config.get_text_config().model_type).kernels
    if kernels is None:
        return ()
    counts: dict[str, int] = {}
    for module in base.get_decoder().modules():
        found = None if "forward" in module.__dict__ else _forward_for(module, kernels)
        if found is not None:
            name, function = found
            function.by_kernel = True  # type: ignore[attr-defined]
            module.forward = MethodType(function, module)
            counts[name] = counts.get(name, 0) + 1
    words = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items()]
    return (*words, *_bind_loss(base))


def unbind(model: Any) -> None:
    """Give every module that `bind` changed its own `forward` back."""
    for module in model.modules():
        if getattr(module.__dict__.get("forward"), "by_kernel", False):
            del module.forward
        module.__dict__.pop(LOSS_FLAG, None)


def _bind_loss(base: Any) -> tuple[str, ...]:
    head = base.get_output_embeddings()
    if head is None:
        return ()
    setattr(head, LOSS_FLAG, True)
    return ("loss",)


def _forward_for(module: Any, kernels: LigerKernels) -> tuple[str, Forward] | None:
    """What to count a module as, and its forward pass by kernel; None where none fits."""
    name = type(module).__name__
    if name.endswith("RMSNorm"):
        return "norm", _norm(kernels)
    if name.endswith("MLP"):
        gate = _gate(module, kernels)
        return gate and ("gate", gate)
    if kernels.rotary and ROTATION in getattr(_plain_forward(module), "__code__", _NO_CODE).co_names:
        return "rotation", _with_rotation(module, kernels)
    return None


_NO_CODE = (lambda: None).__code__


def _plain_forward(module: Any) -> Any:
    return inspect.unwrap(type(module).forward)


def _norm(kernels: LigerKernels) -> Forward:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        weight = getattr(self, "weight", None)
        if kernels.casting == "llama" and weight is not None and weight.dtype != x.dtype:
            # transformers returns the wider of both types here, the kernel always x's.
            plain: torch.Tensor = type(self).forward(self, x)
            return plain
        eps = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
        arguments = (weight, eps, kernels.offset, kernels.casting, kernels.norms_in_place)
        if x.dim() == 4 and not x.is_contiguous() and x.transpose(1, 2).is_contiguous():
            # Heads before tokens: in memory they lie the other way round, and the kernel would copy them.
            return rms_norm(x.transpose(1, 2), *arguments).transpose(1, 2)
        return rms_norm(x, *arguments)

    return forward


def _gate(module: Any, kernels: LigerKernels) -> Forward | None:
    """The forward pass of a gated feed-forward part, where its activation is the family's."""
    joined = hasattr(module, "gate_up_proj")
    activation = getattr(module, "activation_fn" if joined else "act_fn", None)
    if not kernels.gate or type(activation).__name__ not in _ACTIVATIONS[kernels.gate]:
        return None
    if joined:
        return _joined_forward if kernels.gate == "silu" else None
    return _silu_forward if kernels.gate == "silu" else _gelu_forward


_ACTIVATIONS = {"silu": ("SiLUActivation", "SiLU"), "gelu_tanh": ("GELUTanh", "PytorchGELUTanh")}


def _silu_forward(self: Any, x: torch.Tensor) -> Any:
    return self.down_proj(silu_mul(self.gate_proj(x), self.up_proj(x)))


def _gelu_forward(self: Any, x: torch.Tensor) -> Any:
    return self.down_proj(gelu_mul(self.gate_proj(x), self.up_proj(x)))


def _joined_forward(self: Any, hidden_states: torch.Tensor) -> Any:
    return self.down_proj(silu_mul_joined(self.gate_up_proj(hidden_states)))


def _with_rotation(module: Any, kernels: LigerKernels) -> Forward:
    """A copy of an attention module's forward pass that finds our rotation under the name of transformers'."""
    plain = _plain_forward(module)
    names = {**plain.__globals__, ROTATION: _rotation(plain.__globals__[ROTATION], kernels)}
    copy = FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)
    copy.__kwdefaults__ = plain.__kwdefaults__
    return copy


def _rotation(plain: Forward, kernels: LigerKernels) -> Forward:
    def rotated(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # transformers returns the wider of both types here, the kernel always the query's.
        alike = q.dtype == k.dtype and (cos.dtype == q.dtype or kernels.rotary_rounds)
        if unsqueeze_dim != 1 or not alike:
            found: tuple[torch.Tensor, torch.Tensor] = plain(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
            return found
        return rotate(q, k, cos, sin)

    return rotated


@functools.cache
def _ops() -> Any:
    """Liger's functions. Takes seconds, as it imports all of Liger. Raises ImportError without Triton."""
    import liger_kernel.ops

    return liger_kernel.ops


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, eps: float, offset: float, casting: str, in_place: bool
) -> torch.Tensor:
    """x / rms(x) * (weight + offset), over the last dimension.

    Keeps x itself (a copy where it is not contiguous) and 4 bytes a row. The backward pass writes over the gradient
    that it is given when `in_place`, else makes one of its own; a trained weight takes one fp32 row a multiprocessor.
    """
    out: torch.Tensor = _ops().LigerRMSNormFunction.apply(x, weight, eps, offset, casting, in_place)
    return out


def rotate(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation of `query` [B, H, S, D] and `key` [B, KV, S, D] by halves of the first columns, as wide as `cos`.

    Written into both where their tokens lie before their heads in memory (copies else). Keeps `cos` and `sin`, which
    all layers share.
    """
    query, key = _ops().LigerRopeFunction.apply(query, key, cos, sin)
    return query, key


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up. Keeps both, and writes their gradients over them."""
    out: torch.Tensor = _ops().LigerSiLUMulFunction.apply(gate, up)
    return out


def silu_mul_joined(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(first half of the columns) * second half. Keeps its input, and writes its gradient over it."""
    rows: torch.Tensor = _ops().LigerFusedGateUpSiLUMulFunction.apply(gate_up.flatten(0, -2), True)
    return rows.view(*gate_up.shape[:-1], rows.shape[-1])


def gelu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gelu(gate), by its tanh approximation, * up. Keeps both, and writes their gradients over them."""
    out: torch.Tensor = _ops().LigerGELUMulFunction.apply(gate, up)
    return out


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor, softcap: float, gradient: bool = True) -> torch.Tensor:
    """Negative log likelihood of each of `targets` [N] under `logits` [N, V]: fp32 [N], calculated in fp32.

    With `gradient`, the gradient of their sum by the logits is written over the logits; nothing else is made. Liger's
    own wrapper waits for the device twice and rounds the losses to the logits' type.
    """
    import triton
    from liger_kernel.ops import cross_entropy as liger

    rows, columns = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    liger.liger_cross_entropy_kernel[(rows,)](
        X_ptr=logits,
        X_stride=logits.stride(0),
        Y_ptr=targets,
        Y_stride=targets.stride(0),
        loss_ptr=losses,
        loss_stride=losses.stride(0),
        n_cols=columns,
        softcap=softcap or None,
        BLOCK_SIZE=min(liger.MAX_FUSED_SIZE, triton.next_power_of_2(columns)),
        HAS_SOFTCAPPING=bool(softcap),
        HAS_GRADIENTS=gradient,
        num_warps=_warps(logits),
        **_UNUSED,
    )
    return losses


_UNUSED: dict[str, Any] = {
    "weight_ptr": None,
    "z_loss_ptr": None,
    "token_accuracy_ptr": None,
    "token_accuracy_stride": 0,
    "predicted_tokens_ptr": None,
    "predicted_tokens_stride": 0,
    # Numbers that change would have the kernel compiled anew.
    "n_non_ignore": 1,
    "sum_non_ignore_weight": 1,
    "weight_sum": 0.0,
    "ignore_index": -100,
    "lse_square_scale": 0.0,
    "label_smoothing": 0.0,
    "reduction": "none",
    "RETURN_Z_LOSS": False,
    "RETURN_TOKEN_ACCURACY": False,
    "RETURN_PREDICTED_TOKENS": False,
    "HAS_WEIGHT": False,
}


def _warps(logits: torch.Tensor) -> int:
    """As Liger chooses them (ops/cross_entropy.py): Blackwell is bound by instructions in 16 bit, others by memory."""
    from liger_kernel.utils import infer_device_arch

    if torch.version.hip is not None:
        return 16
    return 8 if logits.element_size() == 2 and infer_device_arch().startswith("blackwell") else 32
