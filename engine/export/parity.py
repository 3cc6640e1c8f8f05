"""Is the written model the trained one? Reloaded from disk by plain transformers and compared.

Reference = the unquantized base with the adapter beside it, on the CPU, in the export's dtype; 16-bit
products accumulate in fp32 there. A failed comparison is an error.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from engine.data.tokens import IGNORED
from engine.errors import EngineError, ExitCode
from engine.export.formats import Limit
from engine.export.reload import answer
from engine.export.report import Figures, FormatAnswer, FormatReport
from engine.export.texts import Texts

LOGITS_BYTES = 192 * 1024 * 1024
"""fp32 logits kept of one model: fewer positions a row for a large vocabulary."""

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 6e-2}
"""Largest error of the logits, root mean square relative to their spread.

Adding the adapter into a weight rounds it once to the storage dtype, by at most half a unit in the last
place: 6e-8, 5e-4 and 4e-3 of its size. The forward pass of base + adapter rounds as often again, and
both grow through the layers, about tenfold in deep models. A forgotten or doubled adapter, a wrong scale
or a layer out of place moves the logits by far more, unless the adapter does next to nothing: for that
case `closer_to_base` looks from the other side.
"""
EFFECT_SHARE, EFFECT_FACTOR = 0.3, 3.0
"""Deep narrow models round worse than the table above. An error up to this share of what the adapter does
is still rounding, up to this many times the tolerance: an adapter that is forgotten or doubled is off by
its whole effect, one without a seventh of its layers by more than a third of it.
"""
MAX_FACTOR = 20.0
"""The largest single error may be this many times the tolerance: some six deviations are normal among
millions of logits; one broken row of the head or the embedding shows as far more."""

NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "uint8"}


@dataclass(frozen=True, slots=True)
class Distance:
    """How far apart two sets of logits are; the relative ones are in units of the first's RMS spread."""

    max_abs: float
    mean_abs: float
    relative: float
    max_relative: float
    top1: float
    positions: int


@torch.inference_mode()
def logits_of(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """fp32 logits of the last positions of each row: [positions, vocabulary] on the CPU."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    keep = max(4, LOGITS_BYTES // (4 * vocabulary * max(1, len(rows))))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    limited = {"logits_to_keep": keep} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}
    found = []
    for row in rows:
        ids = torch.tensor([list(row)], device=base.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **limited).logits
        found.append(logits[0, -keep:].float().cpu())
    return found


def distance(reference: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> Distance:
    """Differences over all positions of all rows. Not-a-number anywhere makes every field NaN or 0.

    What all logits of a position gain together is left out: no probability changes by it, and coarse weights move it
    more than anything else.
    """
    wanted, found = torch.cat(list(reference)).double(), torch.cat(list(other)).double()
    error = found - wanted
    error -= error.mean(dim=-1, keepdim=True)
    spread = (wanted - wanted.mean(dim=-1, keepdim=True)).square().mean().sqrt().clamp_min(1e-12)
    return Distance(
        float(error.abs().max()),
        float(error.abs().mean()),
        float(error.square().mean().sqrt() / spread),
        float(error.abs().max() / spread),
        float((wanted.argmax(-1) == found.argmax(-1)).double().mean()),
        len(wanted),
    )


def stored_dtypes(folder: Path) -> dict[str, int]:
    """Values in the safetensors files of `folder` by stored dtype, read from the files' headers."""
    from safetensors import safe_open

    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                size = 1
                for side in part.get_shape():
                    size *= side
                found[NAMES.get(part.get_dtype(), part.get_dtype())] += size
    return dict(found)


def allowed(dtype: str, adapter_effect: Distance | None) -> float:
    """The largest relative error of the logits that passes."""
    fixed = TOLERANCE[dtype]
    if adapter_effect is None:
        return fixed
    return max(fixed, min(EFFECT_SHARE * adapter_effect.relative, EFFECT_FACTOR * fixed))


def judge(
    dtype: str, to_tuned: Distance, adapter_effect: Distance | None, to_base: Distance | None, stored: dict[str, int]
) -> list[str]:
    """What is wrong with the export, one finding a line; empty when it is right."""
    problems = []
    limit = allowed(dtype, adapter_effect)
    if not to_tuned.relative <= limit:
        problems.append(
            f"its logits are off by {to_tuned.relative:.2g} of their spread (allowed for {dtype}: {limit:.2g})"
        )
    if not to_tuned.max_relative <= MAX_FACTOR * limit:
        problems.append(f"one logit is off by {to_tuned.max_abs:.2g}, {to_tuned.max_relative:.2g} of their spread")
    if adapter_effect and to_base and adapter_effect.relative > 0 and to_base.relative == 0:
        problems.append("it is the base model: nothing of the adapter is in it")
    total = sum(stored.values())
    if stored.get(dtype, 0) < 0.9 * total or not total:
        problems.append(f"it is stored as {', '.join(stored) or 'nothing'}, not {dtype}")
    return problems


def closer_to_base(to_tuned: Distance, adapter_effect: Distance | None, to_base: Distance | None) -> bool:
    """Whether rounding took most of a weak adapter's change away."""
    return bool(adapter_effect and to_base and adapter_effect.relative > 0 and to_base.relative < to_tuned.relative)


def failed(name: str, problems: Sequence[str]) -> EngineError:
    """The error for the format `name` whose files are not what was trained."""
    wider = "export with --dtype fp32" if name in ("adapter", "merged") else "take a format with more bits, or none"
    return EngineError(
        f"the {name} export is not the tuned model: {'; '.join(problems)}",
        code=ExitCode.MODEL,
        where=name,
        hint=f"{wider}; an earlier export stands as it was",
    )


@dataclass(frozen=True, slots=True)
class Look:
    """Logits by row ([positions, vocabulary] fp32), (nats, trained tokens) by row, answers, bytes of the weights.

    `template` is what the loaded tokenizer renders with, `stops` the tokens that the loaded model stops at.
    """

    logits: list[torch.Tensor]
    losses: list[tuple[float, int]]
    answers: list[FormatAnswer]
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
    logits = logits_of(model, texts.ids)
    own = model.generation_config.eos_token_id
    return Look(
        logits,
        [_loss(part, row.labels) for part, row in zip(logits, texts.rows, strict=True)],
        [answer(model, tokenizer, prompt.conversation, prompt.max_new_tokens) for prompt in texts.prompts],
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
) -> FormatReport:
    """The report's entry of the format `name`: figures over all rows and by row, answers, what came back.

    `reference` are the logits of the model named by `against`.
    """
    return FormatReport(
        format=name,
        against=against,
        memory_bytes=seen.memory_bytes,
        stored=stored,
        figures=_figures(distance(reference, seen.logits), perplexity(seen.losses)),
        rows=tuple(
            _figures(distance([wanted], [found]), perplexity([loss]))
            for wanted, found, loss in zip(reference, seen.logits, seen.losses, strict=True)
        ),
        answers=tuple(
            replace(found, same_as_merged=found.text == merged.answers[number].text if merged else None)
            for number, found in enumerate(seen.answers)
        ),
        template_survives=seen.template == texts.template,
        stops_survive=texts.last_trained <= seen.stops,
    )


def _figures(found: Distance, perplexity: float | None) -> Figures:
    return Figures(found.positions, found.max_abs, found.mean_abs, found.relative, found.top1, perplexity)


def limited(made: FormatReport, limit: Limit) -> FormatReport:
    """The entry of a quantized or converted format with what it is allowed."""
    return replace(made, tolerance=limit.relative, perplexity_factor=limit.perplexity)


def problems_of(made: FormatReport, limit: Limit, merged: Look) -> list[str]:
    """What is wrong with a quantized or converted format that is `limited`."""
    before, after = perplexity(merged.losses), made.perplexity
    problems = too_far(made)
    if before is not None and not (after is not None and after <= limit.perplexity * before):
        allowed = f"allowed: {limit.perplexity:g} times"
        after = math.nan if after is None else after
        problems.append(f"its perplexity is {after:.4g} where the merged model has {before:.4g} ({allowed})")
    return problems + lost(made)


def too_far(made: FormatReport) -> list[str]:
    """The finding when the logits are off by more than the entry's `tolerance`."""
    off, allowed = made.figures.relative_rms, made.tolerance or 0.0
    return [] if off <= allowed else [f"its logits are off by {off:.2g} of their spread (allowed: {allowed:.2g})"]


def lost(made: FormatReport) -> list[str]:
    """What did not survive being written and read back."""
    problems = []
    if not made.template_survives:
        problems.append("its chat template is not the one it was trained with")
    if not made.stops_survive:
        problems.append("it does not stop at the token that ended answers in training")
    return problems
