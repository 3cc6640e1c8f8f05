"""Linear attention with a gated delta rule (Qwen3.5, Qwen3-Next) on packed documents, and without its GPU kernels.

Two libraries keep documents apart, each by another argument: flash-linear-attention's rule starts anew at the offsets
in `cu_seq_lens_q`, which it takes for one row only, and causal-conv1d's convolution at a change of `seq_idx`. Without
the second one, the last three tokens of each document would reach the next. transformers binds both libraries when it
imports a model's module. Not here: whether they are installed (`engine.models.packing`).
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from engine.models.families import family_of

_FUNCTIONS = (
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "torch_chunk_gated_delta_rule",
    "torch_recurrent_gated_delta_rule",
)
"""What transformers' module of such a model calls: a library's kernel where there is one, else its own operators."""


def as_taken(base: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a packed batch as `base` takes them: for linear attention all rows in one, end to end.

    Documents are numbered anew then: each row had begun with 1.
    """
    if "attention_mask" in inputs or not _has_delta_rule(base):
        return inputs
    positions = inputs["position_ids"].reshape(1, -1)
    found = {**inputs, "input_ids": inputs["input_ids"].reshape(1, -1), "position_ids": positions}
    if "seq_idx" in inputs:
        found["seq_idx"] = (positions == 0).cumsum(1, dtype=inputs["seq_idx"].dtype)
    return found


def _has_delta_rule(base: Any) -> bool:
    return bool(family_of(base.config.get_text_config().model_type).packs_with)


def use_plain_operators(model: Any) -> None:
    """Let a model on a processor, where the libraries' kernels do not run, take transformers' own operators.

    These know no borders: documents stand alone in their rows then.
    """
    if next(model.parameters()).device.type != "cpu" or not _has_delta_rule(model):
        return
    names = {type(part).__module__ for part in model.modules() if type(part).__name__.endswith("GatedDeltaNet")}
    for module in (sys.modules[name] for name in names):
        for name in _FUNCTIONS:
            setattr(module, name, _own(getattr(module, name)))


def _own(function: Any) -> Any:
    """transformers' operators behind `function`, where a library's kernel would be called; else `function`."""
    bound = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    return inspect.unwrap(function) if bound.get("is_new_implementation") else function
