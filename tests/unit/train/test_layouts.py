"""What a run does about documents that see each other: one a row, exactly, with a warning that says why."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.data.alone import AloneDataset, ByLength, collate_masked, collate_rows
from engine.data.batch import PackedDataset, collate
from engine.data.pack import Packed
from engine.errors import EngineError
from engine.modeling import attention, forward
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.train import layouts
from engine.train.assembly import build_trainer
from engine.train.layouts import arrange
from engine.train.micro_batches import rows_between
from engine.train.selfcheck import choose_loss
from tests.unit.train.conftest import make_settings

attention.register()
LENGTH = 32
DOCUMENTS = ((7, 12, 9), (20, 5), (32,), (3, 4, 5, 6), (11, 21), (16, 8))


def packed(documents: tuple[tuple[int, ...], ...] = DOCUMENTS) -> Packed:
    """Rows of `LENGTH` tokens, each with its documents and a tail of padding."""
    random = np.random.default_rng(0)
    ids = random.integers(5, 60, (len(documents), LENGTH)).astype(np.int32)
    labels = ids.copy()
    tails = [LENGTH - sum(lengths) for lengths in documents]
    parts = [(*lengths, tail) if tail else lengths for lengths, tail in zip(documents, tails, strict=True)]
    for row, lengths in enumerate(parts):
        labels[row, np.cumsum((0, *lengths[:-1]))] = -100
        if tails[row]:
            ids[row, -tails[row] :], labels[row, -tails[row] :] = 0, -100
    sizes = tuple(np.array(lengths, dtype=np.int32) for lengths in parts)
    return Packed(ids, labels, sizes, np.array(tails, dtype=np.int32))


def tiny(family: str = "llama", kernel: str = attention.NAME, **more: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0,
             "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    config = AutoConfig.for_model(family, **sizes, **more)
    config.use_cache = False
    return AutoModelForCausalLM.from_config(config, attn_implementation=kernel)


def conv() -> Any:
    return tiny("lfm2", layer_types=["conv", "full_attention"])


def states() -> Any:
    sizes = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_state": 8, "mamba_chunk_size": 8}
    return tiny("falcon_h1", **sizes)


def gpt_oss() -> Any:
    return tiny("gpt_oss", "eager", head_dim=8, sliding_window=8, num_local_experts=4, num_experts_per_tok=2)


def delta_net() -> Any:
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
    return tiny("qwen3_5_text", layer_types=["linear_attention", "full_attention"], head_dim=8,
                linear_value_head_dim=8, **heads)  # fmt: skip


def prepared(data: Packed | None = None) -> Any:
    return SimpleNamespace(train=data or packed(), validation=packed(DOCUMENTS[:2]))


def documents_of(dataset: Any) -> list[tuple[int, ...]]:
    return [tuple(dataset[number]["input_ids"].tolist()) for number in range(len(dataset))]


def test_each_document_stands_alone_once_and_without_its_padding() -> None:
    data = packed()
    found = AloneDataset(data)
    expected = []
    for row, lengths in enumerate(DOCUMENTS):
        borders = np.cumsum((0, *lengths))
        expected += [tuple(data.input_ids[row, a:b].tolist()) for a, b in pairwise(borders)]
    assert documents_of(found) == expected
    assert found.document_lengths.tolist() == [length for lengths in DOCUMENTS for length in lengths]


def test_a_batch_is_as_long_as_its_longest_document_and_trains_the_same_tokens() -> None:
    found = AloneDataset(packed())
    rows = [found[number] for number in (0, 2, 5)]
    for way in (collate_rows, collate_masked):
        batch = way(rows)
        assert batch["input_ids"].shape == (3, 32)
        assert way(rows[:2])["input_ids"].shape == (2, 16)
        assert batch["real_tokens"] == sum(len(row["input_ids"]) for row in rows)
        assert batch["items"] == sum(int((row["labels"][1:] != -100).sum()) for row in rows)
        assert batch["cu_seq_lens"][-1] == batch["input_ids"].numel()
    assert batch["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in rows]


def test_a_batch_behind_a_mask_can_be_cut_by_rows() -> None:
    found = AloneDataset(packed())
    batch = collate_masked([found[number] for number in (0, 2, 3, 5)])
    part = rows_between(batch, 1, 3)
    alone = collate_masked([found[number] for number in (2, 3)])
    length = alone["input_ids"].shape[1]
    assert torch.equal(part["attention_mask"][:, :length], alone["attention_mask"])
    assert part["items"] == alone["items"]
    assert part["cu_seq_lens"].tolist() == [0, 32, 64]


def test_documents_of_like_length_meet_each_once_an_epoch_and_the_longest_first() -> None:
    lengths = np.random.default_rng(3).integers(5, 500, 1001)
    sampler = ByLength(lengths, 8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(1001))
    assert lengths[first[:8]].max() == lengths.max()
    padded = sum(8 * lengths[first[at : at + 8]].max() for at in range(0, 1000, 8))
    assert padded < 1.1 * lengths.sum()
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


@torch.no_grad()
@pytest.mark.parametrize("make", [conv, states, gpt_oss, delta_net])
def test_one_document_a_row_gives_the_loss_of_each_alone(make: Any) -> None:
    """The plain way: every document by itself through the model's own code, without any padding."""
    model = make().eval()
    found = arrange(model, make_settings(), prepared(), lambda *words: None)
    rows = [found.train[number] for number in range(len(found.train))]
    expected = 0.0
    for row in rows:
        ids, labels = (torch.from_numpy(row[name].astype(np.int64))[None] for name in ("input_ids", "labels"))
        logits = model(input_ids=ids).logits[0, :-1].float()
        expected += float(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum", ignore_index=-100))
    together = float(forward.loss_sum(model, found.collate(rows)))
    assert together == pytest.approx(expected, rel=1e-5)
    packed_rows = [PackedDataset(packed())[number] for number in range(len(DOCUMENTS))]
    if make is gpt_oss:
        assert float(forward.loss_sum(model, collate(packed_rows))) != pytest.approx(expected, rel=1e-5)


def test_a_sound_model_stays_packed_without_a_word() -> None:
    for packing in (True, False):
        settings = make_settings()
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"packing": packing})})
        found = arrange(tiny(), settings, prepared(), lambda *words: pytest.fail(str(words)))
        assert type(found.train) is PackedDataset
        assert found.as_predicted


@pytest.mark.parametrize("make", [conv, gpt_oss])
def test_a_leak_is_told_with_its_reason_and_what_it_costs(make: Any) -> None:
    told: list[tuple[str, str]] = []
    found = arrange(make(), make_settings(), prepared(), lambda *words: told.append(words))
    assert isinstance(found.train, AloneDataset)
    assert isinstance(found.validation, AloneDataset)
    assert found.collate is collate_rows
    assert not found.as_predicted
    [(code, text)] = told
    assert code == "packing_leaks"
    assert "one document a row" in text
    assert "its short convolutions would pass tokens on" in text if make is conv else "document 2" in text
    assert "train.gradient_accumulation_steps = 5" in text
    assert "prediction" in text


def test_what_keeps_documents_apart_is_asked_for_before_the_check() -> None:
    """Linear attention without its kernels: the reason is theirs, not an error that transformers raises."""
    told: list[tuple[str, str]] = []
    found = arrange(delta_net(), make_settings(), prepared(), lambda *words: told.append(words))
    assert found.collate is collate_masked
    [(code, text)] = told
    assert code == "packing_leaks"
    assert text.startswith("its linear attention keeps packed documents apart on GPUs alone")
    assert "ValueError" not in text
    assert "one document a row" in text


@pytest.mark.parametrize("packing", [True, False])
def test_a_model_in_4_bit_is_known_as_the_one_that_was_planned(packing: bool) -> None:
    """Its state-space layers refuse packed rows, also in the checks that follow."""
    model, settings = states(), make_settings()
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"packing": packing})})
    found = arrange(model, settings, prepared(), lambda *words: None)
    assert found.collate is collate_rows
    batch = found.collate([found.train[0]])
    assert choose_loss(model, batch, lambda *words: pytest.fail(str(words))) is forward.loss_sum


def test_answers_that_are_compared_in_one_row_stop_the_run() -> None:
    with pytest.raises(EngineError, match="side by side") as caught:
        arrange(gpt_oss(), make_settings(objective="dpo"), prepared(), lambda *words: None)
    assert "sft" in caught.value.hint


def test_a_model_that_leaks_in_every_layout_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "find_leak", lambda *parts: "document 2 changed with document 1, in layer 0")
    with pytest.raises(EngineError, match="also one a row"):
        arrange(tiny(), make_settings(), prepared(), lambda *words: None)


def test_the_loss_is_chosen_behind_a_mask_too() -> None:
    found = AloneDataset(packed())
    batch = collate_masked([found[0]])
    assert choose_loss(conv(), batch, lambda *words: pytest.fail(str(words))) is forward.loss_sum


@pytest.mark.parametrize("make", [conv, gpt_oss])
def test_a_model_that_leaks_trains_one_document_a_row(make: Any, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    job = Job(tmp_path, {}, EventWriter(tmp_path / "events.jsonl"))
    settings = make_settings(method="full", num_train_epochs=1.0, max_steps=None)
    trainer = build_trainer(job, settings, make(), prepared(replace(packed())))
    trainer.train()
    events, _ = read_events(tmp_path / "events.jsonl")
    kinds = [event["code"] for event in events if event["type"] == "warning"]
    assert "packing_leaks" in kinds
    documents = sum(len(lengths) for lengths in DOCUMENTS)
    assert trainer.schedule.steps_per_epoch == -(-documents // 4)
    losses = [event["loss"] for event in events if event["type"] == "train_step"]
    assert len(losses) == trainer.schedule.steps_total
    assert all(np.isfinite(losses))
    assert trainer.meter.tokens_total == sum(map(sum, DOCUMENTS))
