"""When evaluating is the widest moment of a run, and what decides it."""

from __future__ import annotations

from dataclasses import replace

from engine.hardware.machine import Gpu
from engine.memory.evaluation import cache_bytes, evaluation_of
from engine.memory.shape import GIB, MIB, TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.catalog import catalog_index

LLAMA = catalog_index()["llama-3.1-8b"]
CARD = Gpu("NVIDIA GeForce RTX 4090", compute_capability=(8, 9))
NARROW = TrainingShape(micro_batch=1, quantization="nf4")


def test_the_cache_is_two_widths_of_keys_a_layer_and_token() -> None:
    assert cache_bytes(LLAMA, 1, 2) == 128 * 1024
    assert evaluation_of(LLAMA, NARROW).cache_bytes == 8 * (2048 + 128) * 128 * 1024


def test_narrow_training_is_less_than_answering_many_prompts() -> None:
    training = estimate_memory(LLAMA, NARROW, gpu=CARD).device_bytes
    found = evaluation_of(LLAMA, NARROW, CARD)
    assert found.device_bytes == max(found.answering_bytes, found.scoring_bytes) > training
    assert evaluation_of(LLAMA, NARROW, CARD, batch_size=1).answering_bytes < training


def test_full_tuning_is_wider_than_any_evaluation() -> None:
    shape = TrainingShape(method="full", micro_batch=1)
    assert evaluation_of(LLAMA, shape, CARD).device_bytes < 0.5 * estimate_memory(LLAMA, shape, gpu=CARD).device_bytes


def test_evaluation_needs_the_weights_and_grows_with_prompts() -> None:
    short, long = (evaluation_of(LLAMA, replace(NARROW, max_length=length), CARD) for length in (512, 8192))
    assert 5 * GIB < short.device_bytes < long.device_bytes
    grown = long.cache_bytes - short.cache_bytes
    assert long.answering_bytes - short.answering_bytes > grown > 7 * GIB


def test_capped_scores_make_squares_of_prompts() -> None:
    gemma = catalog_index()["gemma-2-9b-it"]
    few, many = (evaluation_of(gemma, replace(NARROW, max_length=n), CARD, batch_size=1) for n in (1024, 4096))
    assert many.answering_bytes - few.answering_bytes > (4096**2 - 1024**2) * gemma.num_attention_heads * 8
    assert few.device_bytes > 100 * MIB
