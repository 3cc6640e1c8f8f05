"""Packing: nothing lost, nothing mixed, the same every time; and batches as the model takes them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from engine.data.batch import PackedDataset, collate
from engine.data.encode import Document
from engine.data.pack import Packed, best_fit, fit_document, pack
from engine.data.tokens import IGNORED

PAD = 0


def documents(lengths: list[int], prompt: int = 1) -> list[Document]:
    """Document n holds tokens 1000 * (n + 1), +1, +2 …; all but `prompt` of them trained on."""
    found = []
    for number, length in enumerate(lengths):
        ids = np.arange(length, dtype=np.int32) + 1000 * (number + 1)
        labels = ids.copy()
        labels[:prompt] = IGNORED
        found.append(Document(ids, labels, number))
    return found


def pieces(packed: Packed) -> list[list[int]]:
    """Every document of every sequence as it lies there, without padding tails."""
    found = []
    for row in range(len(packed)):
        lengths = packed.lengths[row].tolist()
        borders = np.cumsum([0, *lengths])
        parts = [packed.input_ids[row, start:end].tolist() for start, end in pairwise(borders)]
        found += parts[:-1] if packed.padding[row] else parts
    return found


LENGTHS = [int(length) for length in np.random.default_rng(0).integers(2, 65, 500)]


@pytest.mark.parametrize("packing", [True, False])
def test_every_document_is_whole_and_there_once(packing: bool) -> None:
    given = documents(LENGTHS)
    packed = pack(given, 64, PAD, packing=packing, seed=1)
    assert sorted(pieces(packed)) == sorted(document.ids.tolist() for document in given)
    assert packed.real_tokens == sum(LENGTHS)
    assert packed.trained_tokens == sum(document.trained_tokens for document in given)
    assert all(int(lengths.sum()) == 64 for lengths in packed.lengths)
    assert packed.input_ids.shape == packed.labels.shape == (len(packed), 64)
    assert packed.input_ids.dtype == packed.labels.dtype == np.int32


def test_packing_fills_and_one_a_row_does_not() -> None:
    given = documents(LENGTHS)
    assert pack(given, 64, PAD, packing=True, seed=1).efficiency > 0.94
    alone = pack(given, 64, PAD, packing=False, seed=1)
    assert len(alone) == len(given)
    assert alone.efficiency == pytest.approx(sum(LENGTHS) / (64 * len(given)))


def test_positions_restart_and_first_tokens_are_never_targets() -> None:
    packed = pack(documents(LENGTHS, prompt=0), 64, PAD, packing=True, seed=1)
    for row in range(len(packed)):
        positions = packed.position_ids(row)
        starts = np.cumsum(packed.lengths[row]) - packed.lengths[row]
        assert np.flatnonzero(positions == 0).tolist() == starts.tolist()
        assert (packed.labels[row, starts] == IGNORED).all()
        tail = 64 - packed.padding[row]
        assert (packed.labels[row, tail:] == IGNORED).all()
        assert (packed.input_ids[row, tail:] == PAD).all()
        inside = np.setdiff1d(np.arange(tail), starts)
        assert (packed.labels[row, inside] == packed.input_ids[row, inside]).all()


def test_the_seed_decides() -> None:
    first, again, other = (pack(documents(LENGTHS), 64, PAD, packing=True, seed=seed) for seed in (1, 1, 2))
    assert (first.input_ids == again.input_ids).all()
    assert not (first.input_ids == other.input_ids).all()
    order = [piece[0] for piece in pieces(pack(documents([40] * 50), 64, PAD, packing=True, seed=1))]
    assert order != sorted(order)


def test_best_fit_takes_the_fullest_bin_with_room() -> None:
    assert best_fit([4, 6, 3, 5, 2], 8) == [[1, 4], [3, 2], [0]]
    assert best_fit([8, 8], 8) == [[0], [1]]
    assert best_fit([], 8) == []


def test_cutting_keeps_the_start_and_needs_an_answer() -> None:
    (long,) = documents([20], prompt=10)
    cut = fit_document(long, 15, "cut")
    assert isinstance(cut, Document)
    assert cut.ids.tolist() == long.ids[:15].tolist()
    assert cut.trained_tokens == 5
    assert fit_document(long, 10, "cut") == "no answer left within max_length"
    assert fit_document(long, 15, "drop") == "longer than max_length"
    assert fit_document(long, 20, "drop") is long
    assert fit_document(documents([5], prompt=5)[0], 20, "cut") == "no trained token"


def test_a_document_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than max_length"):
        pack(documents([20]), 16, PAD, packing=True, seed=1)


def test_an_empty_set_packs_to_nothing() -> None:
    packed = pack([], 16, PAD, packing=True, seed=1)
    assert (len(packed), packed.input_ids.shape, packed.efficiency) == (0, (0, 16), 0.0)


def test_batches_join_sequences_without_mixing_documents() -> None:
    import torch

    packed = pack(documents(LENGTHS), 64, PAD, packing=True, seed=1)
    dataset = PackedDataset(packed)
    rows = [dataset[0], dataset[1], dataset[len(dataset) - 1]]
    batch = collate(rows)
    for name in ("input_ids", "labels", "position_ids"):
        assert batch[name].shape == (3, 64)
        assert batch[name].dtype == torch.int64
    borders = batch["cu_seq_lens"]
    assert borders.dtype == torch.int32
    assert borders[0] == 0
    assert borders[-1] == 3 * 64
    starts = torch.nonzero(batch["position_ids"].flatten() == 0).flatten()
    assert borders[:-1].tolist() == starts.tolist()
    assert batch["max_doc_length"] == int((borders[1:] - borders[:-1]).max())
    assert batch["real_tokens"] == sum(64 - int(packed.padding[row]) for row in (0, 1, len(dataset) - 1))
    assert (batch["labels"].flatten()[borders[:-1].long()] == IGNORED).all()
    assert batch["input_ids"][0].tolist() == packed.input_ids[0].tolist()


def test_a_batch_says_where_its_trained_tokens_are() -> None:
    import torch

    from engine.modeling.loss import shifted, trained_positions

    packed = pack(documents(LENGTHS, prompt=3), 64, PAD, packing=True, seed=1)
    packed.labels[0, 0] = 7  # a label that nothing stands before
    packed.labels[1] = IGNORED
    dataset = PackedDataset(packed)
    batch = collate([dataset[row] for row in range(3)])
    states = torch.randn(3, 64, 5)
    rows, targets = shifted(states, batch["labels"])
    assert torch.equal(states.flatten(0, 1)[batch["trained"]], rows)
    assert torch.equal(batch["targets"], targets)
    assert torch.equal(batch["trained"] + 1, trained_positions(batch["labels"]))
    assert batch["items"] == len(targets) == sum(batch["row_trained"])
    assert batch["row_trained"] == (batch["labels"][:, 1:] != IGNORED).sum(1).tolist()
    assert batch["row_documents"] == [len(packed.lengths[row]) for row in range(3)]
