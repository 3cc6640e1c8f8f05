"""What a model does to the product of hidden states and output head before it is its logits.

Some families multiply or divide it by a number of their configuration, some squash it by a soft cap, and Muse does
both. `engine.modeling.loss` and evaluation apply the same without full logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import EngineError, ExitCode


@dataclass(frozen=True, slots=True)
class LogitRule:
    """logits = cap(product * scale)."""

    scale: float = 1.0
    softcap: float = 0.0
    """softcap * tanh(logits / softcap); 0 = none."""


PLAIN = LogitRule()

_MULTIPLIERS = {
    **dict.fromkeys(("cohere", "cohere2", "cohere2_moe", "cohere_compass_text"), "logit_scale"),
    "falcon_h1": "lm_head_multiplier",
    "hyperclovax": "logits_scaling",
    **dict.fromkeys(("muse_glimmer_text", "muse_spark_text"), "output_multiplier"),
}
_DIVISORS = dict.fromkeys(
    (
        "granite",
        "granite_swa",
        "granitemoe",
        "granitemoe_swa",
        "granitemoeshared",
        "granitemoehybrid",
        "granite4_vision_text",
        "granite_docling_text",
        "minicpm3",
    ),
    "logits_scaling",
)
"""By `model_type`: the same key multiplies in one family and divides in another."""
_OPTIONAL = frozenset({"cohere_compass_text"})
"""Where none means 1."""
_LEAST = 1e-30
"""Below it, and above its inverse, fp32 logits leave their range."""


def rule_of(config: Any) -> LogitRule:
    """The rule of a model's configuration.

    Raises EngineError(MODEL) for a scale that is not a positive finite number.
    """
    text = config.get_text_config()
    return LogitRule(_scale(text), float(getattr(text, "final_logit_softcapping", None) or 0.0))


def _scale(text: Any) -> float:
    kind = text.model_type
    key = _MULTIPLIERS.get(kind) or _DIVISORS.get(kind)
    if key is None:
        return 1.0
    value: Any = getattr(text, key, None)
    if value is None and kind in _OPTIONAL:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST < value < 1 / _LEAST:
        raise EngineError(
            f"{key} = {str(value)[:40]} cannot scale logits: a positive finite number belongs there",
            code=ExitCode.MODEL,
            where=f"config.json, {key}",
            hint="download the model again, or correct its config.json",
        )
    return 1 / value if kind in _DIVISORS else float(value)


def applied(product: torch.Tensor, rule: LogitRule) -> torch.Tensor:
    """fp32 logits from the head's output, which nothing else may keep."""
    logits = scaled_(product, rule).float()
    return torch.tanh(logits / rule.softcap) * rule.softcap if rule.softcap else logits


def scaled_(product: torch.Tensor, rule: LogitRule) -> torch.Tensor:
    """The head's output times the scale, in its own memory."""
    return product if rule.scale == 1.0 else product.mul_(rule.scale)
