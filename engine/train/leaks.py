"""Do documents of one batch see each other? Asked without any tolerance, before a run starts.

The tokens of one document change and all shapes stay. What the layers make of another document must not change by a
bit then, and the gradient of that one's loss by any other document's embeddings must be exactly zero. It holds in every
precision and needs no second way of computing. Not here: what a run does about a leak (`layouts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from engine.errors import EngineError, is_out_of_memory
from engine.modeling import forward
from engine.modeling.adapters import base_of
from engine.modeling.forward import Batch
from engine.train.watched_layers import Watcher, has_experts

Layout = Literal["packed", "rows", "padded"]
"""`packed`: several documents a row; `rows`: one a row, its padding a document of its own; `padded`: one a row behind
an attention mask."""
DOCUMENT_TOKENS = {"cuda": 48, "cpu": 16}
"""A border is crossed at any length; processors take seconds for each pass of a large model."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """Documents whose tokens change, and those that must not notice."""

    changed: tuple[int, ...]
    watched: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A small batch, the documents in its flattened tokens, and what to try with it."""

    batch: Batch
    documents: tuple[slice, ...]
    trials: tuple[Trial, ...]
    judged: int
    """The document whose loss is taken back to the embeddings of all."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass, or forward and backward, left: states by place, and the gradient by the embeddings."""

    states: dict[str, torch.Tensor]
    gradient: torch.Tensor | None


def find_leak(model: Any, ids: torch.Tensor, rows: int, layout: Layout) -> str:
    """How documents in `layout` see each other in `model`; empty where they do not.

    `ids` [B, S]: tokens to take the documents from. `rows`: how many a batch will have. The model is asked as it
    trains, in training mode, with adapters and layers that are computed again, but for what is drawn at random.
    A model that refuses the layout gives its words. Raises what else goes wrong: EngineError, and out of memory.
    """
    probe = probe_of(ids, min(rows, 2), layout)
    try:
        with _as_in_training(model):
            return _leak(model, probe)
    except EngineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def probe_of(ids: torch.Tensor, rows: int, layout: Layout) -> Probe:
    """Documents of equal length: kernels split their work by the longest."""
    per_row = 2 if layout != "packed" or rows > 1 else 3
    size = min(DOCUMENT_TOKENS.get(ids.device.type, 16), max(2, ids.shape[1] // per_row))
    count, total = rows * per_row, rows * per_row * size
    flat = ids.flatten()
    tokens = flat.repeat(-(-total // len(flat)))[:total].reshape(rows, per_row * size)
    documents = tuple(slice(number * size, (number + 1) * size) for number in range(count))
    batch = _batch(tokens, size, per_row, layout)
    if layout == "packed":
        # The first, and one with a neighbor on each side; of two rows it is the last of the first.
        trials = tuple(Trial((one,), tuple(each for each in range(count) if each != one)) for one in (0, 1))
        return Probe(batch, documents, trials, judged=1)
    trials = tuple(Trial(tuple(each for each in range(count) if each != one), (one,)) for one in range(0, count, 2))
    return Probe(batch, documents, trials, judged=count - 2)


def _batch(tokens: torch.Tensor, size: int, per_row: int, layout: Layout) -> Batch:
    rows, length, device = *tokens.shape, tokens.device
    long = size * per_row if layout == "padded" else size
    positions = torch.arange(long, device=device).repeat(length // long).expand(rows, -1).contiguous()
    mask = {"attention_mask": (torch.arange(length, device=device) < size).long().expand(rows, -1).contiguous()}
    alone = {"alone": layout == "rows"}
    return (mask if layout == "padded" else alone) | {
        "input_ids": tokens,
        "position_ids": positions,
        "cu_seq_lens": torch.arange(0, tokens.numel() + 1, long, dtype=torch.int32, device=device),
        "max_doc_length": long,
    }


def _leak(model: Any, probe: Probe) -> str:
    plain = _run(model, probe, probe.batch, gradient=True)
    blank = [number for number in range(len(probe.documents)) if number != probe.judged]
    for number in blank:
        if plain.gradient is not None and bool(plain.gradient[probe.documents[number]].any()):
            return f"the loss of document {probe.judged + 1} has a gradient in document {number + 1}"
    for trial in probe.trials:
        # A backward pass on a card adds up in no fixed order, and experts take as many tokens as are sent to them.
        backward = probe.judged in trial.watched and _repeats_backward(model)
        found = _run(model, probe, _with_others(model, probe, trial), gradient=backward, like=(plain, trial))
        where = _difference(probe, trial, plain, found)
        if where and _same_twice(model, probe, trial, plain, backward):
            return where
    return ""


def _same_twice(model: Any, probe: Probe, trial: Trial, plain: Pass, backward: bool) -> bool:
    """Whether the same tokens give the same bits again: else a difference says nothing of the documents."""
    again = _run(model, probe, probe.batch, gradient=backward, like=(plain, trial))
    return not _difference(probe, trial, plain, again)


def _repeats_backward(model: Any) -> bool:
    weight = next(model.parameters())
    return (not weight.is_cuda or torch.are_deterministic_algorithms_enabled()) and not has_experts(base_of(model))


def _difference(probe: Probe, trial: Trial, plain: Pass, found: Pass) -> str:
    for number in trial.watched:
        part = probe.documents[number]
        told = f"document {number + 1} changed with document {trial.changed[0] + 1}"
        for place, states in found.states.items():
            if not _same_bits(plain.states[place][part], states[part]):
                return f"{told}, in {place}"
        one, other = (each.gradient if number == probe.judged else None for each in (plain, found))
        if one is not None and other is not None and not _same_bits(one[part], other[part]):
            return f"the gradient of {told}"
    return ""


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal numbers, and no number where there was none."""
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def _with_others(model: Any, probe: Probe, trial: Trial) -> Batch:
    """The batch with every token of the changed documents replaced by another."""
    words = int(base_of(model).get_input_embeddings().num_embeddings)
    ids = probe.batch["input_ids"].flatten().clone()
    generator = torch.Generator().manual_seed(_SEED)
    for number in trial.changed:
        part = ids[probe.documents[number]]
        step = torch.randint(1, words, part.shape, generator=generator).to(ids.device)
        ids[probe.documents[number]] = (part + step) % words
    return {**probe.batch, "input_ids": ids.reshape(probe.batch["input_ids"].shape)}


def _run(model: Any, probe: Probe, batch: Batch, *, gradient: bool, like: tuple[Pass, Trial] | None = None) -> Pass:
    """One pass. `like`: an earlier one and the documents that are given its layers' inputs again, where experts are."""
    base = base_of(model)
    watcher = Watcher(base.get_decoder())
    if like is not None:
        watcher.force(like[0].states, [probe.documents[number] for number in like[1].watched])
    asked: list[torch.Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(watcher.watching())
        stack.enter_context(torch.set_grad_enabled(gradient))
        if gradient:
            stack.enter_context(_asking(base.get_input_embeddings(), asked))
        _draw_alike()
        last = forward.hidden_states(model, batch)
    states = watcher.found(last)
    if not gradient:
        return Pass(states, None)
    with torch.enable_grad():
        rows = last.flatten(0, -2)[probe.documents[probe.judged]]
    above = torch.randn(rows.shape, generator=torch.Generator().manual_seed(_SEED)).to(rows)
    # Not `autograd.grad`, which layers that are recomputed the reentrant way do not take.
    torch.autograd.backward(rows, above)
    found = asked[0].grad if asked else None
    return Pass(states, None if found is None else found.flatten(0, -2))


@contextmanager
def _asking(embedding: torch.nn.Module, asked: list[torch.Tensor]) -> Iterator[None]:
    """Make the embeddings of tokens the leaves of the backward pass."""

    def leaf(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        asked.append(output.detach().requires_grad_())
        return asked[-1]

    handle = embedding.register_forward_hook(leaf)
    try:
        yield
    finally:
        handle.remove()


def _draw_alike() -> None:
    """Dropout inside attention functions has no module to switch off: it drops the same each time."""
    torch.manual_seed(_SEED)


@contextmanager
def _as_in_training(model: Any) -> Iterator[None]:
    """In training mode, with nothing drawn at random and no weight asking for a gradient; as it was afterwards."""
    weight = next(model.parameters())
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = model.training
    with torch.random.fork_rng([weight.device] if weight.is_cuda else [], device_type="cuda"), row_by_row(model):
        model.train()
        for module in model.modules():
            if isinstance(module, (torch.nn.Dropout, torch.nn.Embedding)):
                module.eval()
        for parameter in learned:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learned:
                parameter.requires_grad_(True)
            model.train(before)


@contextmanager
def row_by_row(model: Any) -> Iterator[None]:
    """int8 layers without outlier columns: which these are depends on all rows of a batch, so on who stands beside."""
    found: list[Any] = [getattr(module, "state", None) for module in model.modules()]
    states = [state for state in found if hasattr(state, "threshold")]
    kept = [state.threshold for state in states]
    try:
        for state in states:
            state.threshold = 0.0
        yield
    finally:
        for state, threshold in zip(states, kept, strict=True):
            state.threshold = threshold


Finder = Callable[[Layout], str]
"""How documents see each other in a layout; empty where they do not."""


def first_exact(layouts: Sequence[Layout], finder: Finder) -> tuple[Layout | None, list[str]]:
    """The first layout without a leak, and what was wrong with those before it; None where all leak."""
    wrong: list[str] = []
    for layout in layouts:
        reason = finder(layout)
        if not reason:
            return layout, wrong
        wrong.append(reason)
    return None, wrong
