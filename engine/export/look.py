"""What a loaded model shows on the texts of an export, and how two such looks differ. One entry of the report a format.

Used by every writer of a format; the figures themselves are `parity.py`, the page is `parity_page.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from engine.data.tokens import IGNORED
from engine.export import parity
from engine.export.formats import Limit
from engine.export.reload import answer
from engine.export.texts import Texts


@dataclass(frozen=True, slots=True)
class Look:
    """Logits by row ([positions, vocabulary] fp32), (nats, trained tokens) by row, answers, bytes of the weights.

    `template` is what the loaded tokenizer renders with, `stops` the tokens that the loaded model stops at.
    """

    logits: list[torch.Tensor]
    losses: list[tuple[float, int]]
    answers: list[dict[str, Any]]
    memory_bytes: int
    template: str | None
    stops: frozenset[int]


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged model on disk as the formats that are made from it need it: where, stored as, and what it shows."""

    folder: Path
    dtype: str
    tokenizer: Any
    texts: Texts
    look: Look


def look(model: Any, tokenizer: Any, texts: Texts) -> Look:
    """Logits, losses and greedy answers of a loaded model."""
    logits = parity.logits_of(model, texts.ids)
    own = model.generation_config.eos_token_id
    return Look(
        logits,
        [_loss(part, row.labels) for part, row in zip(logits, texts.rows, strict=True)],
        [answer(model, tokenizer, prompt.messages, prompt.max_new_tokens) for prompt in texts.prompts],
        memory_bytes(model),
        tokenizer.chat_template,
        frozenset(own if isinstance(own, list) else [] if own is None else [own]),
    )


def _loss(logits: torch.Tensor, labels: tuple[int, ...]) -> tuple[float, int]:
    """Nats over the trained tokens that the kept logits predict, and how many these are."""
    wanted = torch.tensor(labels[len(labels) - len(logits) + 1 :])
    kept = wanted != IGNORED
    return float(F.cross_entropy(logits[:-1][kept], wanted[kept], reduction="sum")), int(kept.sum())


def perplexity(losses: Iterable[tuple[float, int]]) -> float | None:
    """exp of the mean loss of all trained tokens; None without any."""
    pairs = list(losses)
    tokens = sum(count for _, count in pairs)
    return math.exp(min(700.0, sum(nats for nats, _ in pairs) / tokens)) if tokens else None


def memory_bytes(model: Any) -> int:
    """Bytes of weights, scales and buffers in memory, tied ones once."""
    found: dict[tuple[int, int], int] = {}
    for value in [*model.state_dict(keep_vars=True).values(), *model.buffers()]:
        for part in _parts(value):
            found[part.data_ptr(), part.nbytes] = part.nbytes
    return sum(found.values())


def _parts(value: Any) -> Iterable[torch.Tensor]:
    """The plain tensors that a tensor of a quantizing library wraps."""
    if not isinstance(value, torch.Tensor):
        return
    if hasattr(value, "tensor_data_names"):
        names = [*value.tensor_data_names, *getattr(value, "optional_tensor_data_names", [])]
        for inner in (getattr(value, name, None) for name in names):
            yield from _parts(inner)
    else:
        yield value


def entry(
    name: str,
    reference: list[torch.Tensor],
    against: str,
    seen: Look,
    texts: Texts,
    stored: dict[str, int],
    merged: Look | None,
) -> dict[str, Any]:
    """The report's entry of the format `name`: figures over all rows and by row, answers, what came back.

    `reference` are the logits of the model named by `against`.
    """
    over_all = parity.distance(reference, seen.logits)
    return {
        "format": name,
        "against": against,
        "memory_bytes": seen.memory_bytes,
        "stored": stored,
        **_figures(over_all),
        "perplexity": perplexity(seen.losses),
        "rows": [
            _figures(parity.distance([wanted], [found])) | {"perplexity": perplexity([loss])}
            for wanted, found, loss in zip(reference, seen.logits, seen.losses, strict=True)
        ],
        "answers": [
            found | {"same_as_merged": found["text"] == merged.answers[number]["text"] if merged else None}
            for number, found in enumerate(seen.answers)
        ],
        "template_survives": seen.template == texts.template,
        "stops_survive": texts.last_trained <= seen.stops,
    }


def _figures(found: parity.Distance) -> dict[str, Any]:
    return {
        "positions": found.positions,
        "max_abs_diff": found.max_abs,
        "mean_abs_diff": found.mean_abs,
        "relative_rms": found.relative,
        "top1_agreement": found.top1,
    }


def problems_of(made: dict[str, Any], limit: Limit, merged: Look) -> list[str]:
    """What is wrong with a quantized or converted format; the limits are written into its entry."""
    before, after = perplexity(merged.losses), made["perplexity"]
    made |= {"tolerance": limit.relative, "perplexity_factor": limit.perplexity}
    problems = too_far(made)
    if before is not None and not after <= limit.perplexity * before:
        allowed = f"allowed: {limit.perplexity:g} times"
        problems.append(f"its perplexity is {after:.4g} where the merged model has {before:.4g} ({allowed})")
    return problems + lost(made)


def too_far(made: dict[str, Any]) -> list[str]:
    """The finding when the logits are off by more than the entry's `tolerance`."""
    off, allowed = made["relative_rms"], made["tolerance"]
    return [] if off <= allowed else [f"its logits are off by {off:.2g} of their spread (allowed: {allowed:.2g})"]


def lost(made: dict[str, Any]) -> list[str]:
    """What did not survive being written and read back."""
    problems = []
    if not made["template_survives"]:
        problems.append("its chat template is not the one it was trained with")
    if not made["stops_survive"]:
        problems.append("it does not stop at the token that ended answers in training")
    return problems
