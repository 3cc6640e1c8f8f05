"""Do documents of one batch see each other? Asked without any tolerance, before a run starts.

The tokens of some documents change and all shapes stay. What the layers make of the others must not change by a bit
then, and the gradient of one's loss by any other document's embeddings must be exactly zero. It holds in every
precision and needs no second way of computing. Every layer runs forward; one of each kind (`layer_kinds.py`) runs
backward, so that the check costs little more than two passes. Not here: what a run does about a leak (`layouts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from engine.errors import EngineError, is_out_of_memory
from engine.modeling import forward
from engine.modeling.adapters import base_of
from engine.modeling.forward import Batch
from engine.train.layer_kinds import one_of_each_kind, passing_on
from engine.train.watched_layers import Watcher, has_experts, layers_of

Layout = Literal["packed", "rows", "padded"]
"""`packed`: several documents a row; `rows`: one a row, its padding a document of its own; `padded`: one a row behind
an attention mask."""
DOCUMENT_TOKENS = {"cuda": 48, "cpu": 3}
"""A border is crossed at any length; processors take a second for each pass of a large model."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A small batch, the documents in its flattened tokens, and what to try with it."""

    batch: Batch
    documents: tuple[slice, ...]
    changed: tuple[int, ...]
    """Documents whose tokens change."""
    judged: tuple[int, ...]
    """Documents whose loss is taken back to the embeddings of all, one after another, a watched one first."""

    @property
    def watched(self) -> tuple[int, ...]:
        """Documents that must not notice the change."""
        return tuple(number for number in range(len(self.documents)) if number not in self.changed)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass left."""

    states: dict[str, torch.Tensor]
    """By place."""
    outputs: dict[int, type]
    """What layers return that hand on hidden states alone."""


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
    """Documents of equal length: kernels split their work by the longest.

    Those that change stand before and behind one that is watched; with one row also behind another one.
    """
    per_row = 2 if layout != "packed" or rows > 1 else 4
    size = min(DOCUMENT_TOKENS.get(ids.device.type, 4), max(2, ids.shape[1] // per_row))
    count, total = rows * per_row, rows * per_row * size
    flat = ids.flatten()
    tokens = flat.repeat(-(-total // len(flat)))[:total].reshape(rows, per_row * size)
    documents = tuple(slice(number * size, (number + 1) * size) for number in range(count))
    batch = _batch(tokens, size, per_row, layout)
    if layout == "packed":
        return Probe(batch, documents, (0, 2) if rows > 1 else (0, 3), (1, 2, 0, 3))
    # Every second one is padding: a document may not notice it, nor the other row.
    changed = tuple(number for number in range(count) if number != count - 2)
    return Probe(batch, documents, changed, tuple(range(count - 2, -1, -2)))


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
    plain = _forward(model, probe, probe.batch)
    found = _forward(model, probe, _with_others(model, probe), like=plain)
    where = _difference(probe, plain, found)
    # The same tokens give the same bits again, or a difference says nothing of the documents.
    if where and not _difference(probe, plain, _forward(model, probe, probe.batch, like=plain)):
        return where
    layers = layers_of(base_of(model).get_decoder())
    with passing_on(layers, plain.outputs, one_of_each_kind(layers)):
        return _gradient_leak(model, probe)


def _gradient_leak(model: Any, probe: Probe) -> str:
    """Where the loss of a document reaches another one, or its gradient in itself changes with others."""
    gradients = _gradients(model, probe, probe.judged, probe.batch)
    for judged, gradient in gradients.items():
        for number, part in enumerate(probe.documents):
            if number != judged and bool(gradient[part].any()):
                return f"the loss of document {judged + 1} has a gradient in document {number + 1}"
    # A backward pass on a card adds up in no fixed order, and experts take as many tokens as are sent to them.
    judged = probe.judged[0]
    if judged not in gradients or not _repeats_backward(model):
        return ""
    own = probe.documents[judged]

    def is_same(batch: Batch) -> bool:
        return _same_bits(gradients[judged][own], _gradients(model, probe, (judged,), batch)[judged][own])

    leaks = not is_same(_with_others(model, probe)) and is_same(probe.batch)
    return f"the gradient of {_told(judged, probe.changed)}" if leaks else ""


def _repeats_backward(model: Any) -> bool:
    weight = next(model.parameters())
    return (not weight.is_cuda or torch.are_deterministic_algorithms_enabled()) and not has_experts(base_of(model))


def _difference(probe: Probe, plain: Pass, found: Pass) -> str:
    for number in probe.watched:
        part = probe.documents[number]
        for place, states in found.states.items():
            if not _same_bits(plain.states[place][part], states[part]):
                return f"{_told(number, probe.changed)}, in {place}"
    return ""


def _told(number: int, changed: Sequence[int]) -> str:
    others = " and ".join(str(other + 1) for other in changed)
    return f"document {number + 1} changed with document{'s' * (len(changed) > 1)} {others}"


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal numbers, and no number where there was none."""
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def _with_others(model: Any, probe: Probe) -> Batch:
    """The batch with every token of the changed documents replaced by another."""
    words = int(base_of(model).get_input_embeddings().num_embeddings)
    ids = probe.batch["input_ids"].flatten().clone()
    generator = torch.Generator().manual_seed(_SEED)
    for number in probe.changed:
        part = ids[probe.documents[number]]
        step = torch.randint(1, words, part.shape, generator=generator).to(ids.device)
        ids[probe.documents[number]] = (part + step) % words
    return {**probe.batch, "input_ids": ids.reshape(probe.batch["input_ids"].shape)}


def _forward(model: Any, probe: Probe, batch: Batch, *, like: Pass | None = None) -> Pass:
    """One pass of all layers. `like`: an earlier one, whose inputs watched documents get again where experts are."""
    watcher = Watcher(base_of(model).get_decoder())
    if like is not None:
        watcher.force(like.states, [probe.documents[number] for number in probe.watched])
    with watcher.watching(), torch.no_grad():
        _draw_alike()
        last = forward.hidden_states(model, batch)
    return Pass(watcher.found(last), watcher.outputs)


def _gradients(model: Any, probe: Probe, judged: Sequence[int], batch: Batch) -> dict[int, torch.Tensor]:
    """Those of each document's loss by all embeddings [tokens, width]; none where embeddings are not used."""
    asked: list[torch.Tensor] = []
    found: dict[int, torch.Tensor] = {}
    with torch.enable_grad():
        with _asking(base_of(model).get_input_embeddings(), asked):
            _draw_alike()
            last = forward.hidden_states(model, batch).flatten(0, -2)
        for number in judged if asked else ():
            rows = last[probe.documents[number]]
            above = torch.randn(rows.shape, generator=torch.Generator().manual_seed(_SEED)).to(rows)
            asked[0].grad = None
            # Not `autograd.grad`, which layers that are recomputed the reentrant way do not take.
            torch.autograd.backward(rows, above, retain_graph=number != judged[-1])
            if asked[0].grad is not None:
                found[number] = asked[0].grad.flatten(0, -2)
    return found


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
