"""Rates measured on a device: kept, read with care, and what they make of a prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.hardware.machine import Cpu, Gpu, Machine
from engine.measure.device import keep_rates
from engine.memory.calibration import Measurement, calibration_of, measured_shape, model_key
from engine.memory.device import context_bytes
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index
from engine.models.spec import ModelSpec
from engine.recommend.budget import gpu_targets
from engine.recommend.plan import Requirements
from engine.recommend.search import plan_model
from engine.speed.decode import latency
from engine.speed.measured import DtypeRates, MeasuredRates, decode_rates, encode_rates, load_rates, rates_path
from engine.speed.rates import CORES, MEASURED, TABLE, cpu_rates, gpu_rates
from engine.speed.roofline import speed_at

CPU = Cpu("Some Processor", 1, 1, bf16_native=True, features=("avx512f", "avx512_bf16", "amx_bf16"))
MACHINE = Machine("here", CPU, 2**35, 2**35, "/", 2**40, torch_version="2.13.0+cpu")
CARD = Gpu("NVIDIA A100-SXM4-80GB", uuid="GPU-1", compute_capability=(8, 0))
SAPPHIRE_RAPIDS = MeasuredRates(
    date="2026-11-24",
    threads=1,
    bandwidth_bytes_s=17.6e9,
    dtypes={
        "fp32": DtypeRates(((256, 2.13e11), (768, 2.12e11), (2048, 2.07e11)), 7.3e-8, 7.1e-9, 1.6e-9),
        "bf16": DtypeRates(((256, 1.39e12), (768, 1.34e12), (2048, 1.22e12)), 5.9e-8, 5.8e-9, 2.0e-9),
    },
)
"""One core of the processor that the steps below ran on."""


def llama(hidden: int, wide: int, layers: int, heads: tuple[int, int], vocabulary: int) -> ModelSpec:
    return ModelSpec("x", "llama", hidden, wide, layers, *heads, hidden // heads[0], vocabulary, 2048, True)


DEMO, M100 = llama(256, 640, 4, (8, 4), 1536), llama(768, 2048, 12, (12, 4), 32000)
SMOLLM2, WIDE = llama(576, 1536, 30, (9, 3), 49152), llama(2048, 5632, 2, (32, 8), 1536)
STEPS = [
    (DEMO, "fp32", "lora", 512, 4, 0, 5192),
    (DEMO, "bf16", "lora", 512, 4, 0, 8432),
    (DEMO, "fp32", "lora", 256, 1, 0, 4609),
    (DEMO, "bf16", "full", 512, 4, 0, 9692),
    (M100, "fp32", "lora", 512, 1, 0, 290),
    (M100, "bf16", "lora", 512, 1, 0, 737),
    (M100, "bf16", "lora", 512, 1, 1, 537),
    (M100, "fp32", "full", 512, 1, 0, 231),
    (M100, "bf16", "full", 512, 1, 0, 611),
    (SMOLLM2, "fp32", "lora", 512, 1, 0, 195),
    (SMOLLM2, "bf16", "lora", 512, 1, 0, 456),
    (WIDE, "bf16", "lora", 512, 1, 0, 1277),
]
"""Tokens per second of forward and backward passes, random weights, documents of 256 tokens, one thread."""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize(("spec", "dtype", "method", "length", "rows", "every", "measured"), STEPS)
def test_within_thirty_percent_of_steps_on_a_measured_processor(
    spec: ModelSpec, dtype: str, method: str, length: int, rows: int, every: int, measured: float
) -> None:
    # So many micro-batches that the optimizer, which was not timed, does not count.
    shape = TrainingShape(method=method, compute_dtype=dtype, max_length=length, micro_batch=rows, device="cpu")
    shape = replace(shape, checkpoint_every=every, gradient_accumulation_steps=10**6, optimizer="adamw_torch")
    assert speed_at(spec, shape, cpu_rates(CPU, dtype, SAPPHIRE_RAPIDS)) == pytest.approx(measured, rel=0.30)
    assert speed_at(spec, shape, cpu_rates(CPU, dtype)) == pytest.approx(measured, rel=0.50), "the guess from cores"


ANSWERS = [
    (DEMO, "fp32", 30, 2.3),
    (DEMO, "bf16", 14, 2.7),
    (M100, "fp32", 562, 35),
    (M100, "bf16", 174, 30),
    (SMOLLM2, "fp32", 768, 54),
    (SMOLLM2, "bf16", 246, 49),
]
"""Milliseconds to the first token after a prompt (448 tokens for the smallest, else 512), and of each further one:
transformers 5 on that core."""


@pytest.mark.parametrize(("spec", "dtype", "first_ms", "each_ms"), ANSWERS)
def test_answers_come_when_they_did(spec: ModelSpec, dtype: str, first_ms: float, each_ms: float) -> None:
    shape = TrainingShape(compute_dtype=dtype, device="cpu")
    found = latency(spec, shape, cpu_rates(CPU, dtype, SAPPHIRE_RAPIDS), 448 if spec is DEMO else 512)
    assert each_ms / 1.6 < found.per_token_s * 1000 < each_ms * 1.6
    assert first_ms / 2 < found.first_token_s * 1000 < first_ms * 2


def test_measured_rates_are_kept_and_found_again() -> None:
    assert load_rates(None, MACHINE) is None
    assert keep_rates(SAPPHIRE_RAPIDS, None, MACHINE)
    assert load_rates(None, MACHINE) == SAPPHIRE_RAPIDS
    assert load_rates(None, replace(MACHINE, torch_version="2.14.0")) is None, "another torch has other kernels"
    assert not keep_rates(SAPPHIRE_RAPIDS, Gpu("A100", hypothetical=True), MACHINE), "a named card is nobody's"


def test_a_new_measurement_takes_the_place_of_the_old_one_and_leaves_other_software() -> None:
    other = replace(MACHINE, torch_version="2.14.0")
    keep_rates(SAPPHIRE_RAPIDS, None, other)
    keep_rates(SAPPHIRE_RAPIDS, None, MACHINE)
    newer = replace(SAPPHIRE_RAPIDS, bandwidth_bytes_s=2e10)
    keep_rates(newer, None, MACHINE)
    assert load_rates(None, MACHINE) == newer
    assert load_rates(None, other) == SAPPHIRE_RAPIDS


@pytest.mark.parametrize(
    "damage",
    [
        {"date": "yesterday"},
        {"bandwidth_bytes_s": -1},
        {"context_bytes": "large"},
        {"threads": True},
        {"dtypes": {"bf16": {"products": [], "value_s": 0, "score_s": 0, "logit_s": 0}}},
        {"dtypes": {"bf16": {"products": [[256, "fast"]], "value_s": 0, "score_s": 0, "logit_s": 0}}},
        {"dtypes": {"bf16": {"products": [[256, 1e12]], "value_s": 5.0, "score_s": 0, "logit_s": 0}}},
    ],
)
def test_a_damaged_file_is_as_good_as_none(damage: dict[str, object]) -> None:
    keep_rates(SAPPHIRE_RAPIDS, None, MACHINE)
    path = rates_path(None, MACHINE)
    assert path is not None
    whole = json.loads(path.read_text())
    whole["records"][0] |= damage
    path.write_text(json.dumps(whole))
    assert load_rates(None, MACHINE) is None
    assert keep_rates(SAPPHIRE_RAPIDS, None, MACHINE), "and is written anew"
    assert load_rates(None, MACHINE) == SAPPHIRE_RAPIDS


def test_a_record_says_the_same_after_a_round_trip() -> None:
    assert decode_rates(json.loads(json.dumps(encode_rates(SAPPHIRE_RAPIDS, {})))) == SAPPHIRE_RAPIDS


def test_a_measured_context_counts_until_a_run_tells_better() -> None:
    card = replace(CARD, total_bytes=80 * 2**30, free_bytes=79 * 2**30)
    box = replace(MACHINE, gpus=(card,), torch_cuda_version="13.0", driver_version="580.1")
    rates = MeasuredRates("2026-11-27", 1, 1.8e12, {"bf16": DtypeRates(((4096, 2.5e14),))}, 900 * 2**20)
    before = gpu_targets(box)
    assert keep_rates(rates, card, box)
    assert load_rates(card, box) == rates
    after = gpu_targets(box)
    assert before[0].calibration is None
    assert after[0].calibration is not None
    assert after[0].calibration.context_bytes == 900 * 2**20
    small = replace(rates, context_bytes=2**27)
    keep_rates(small, card, box)
    known = gpu_targets(box)[0].calibration
    assert known is not None
    assert known.context_bytes == context_bytes(card, "cuda"), "a run loads more kernels than that"


def test_a_plan_goes_by_what_was_measured_and_says_so() -> None:
    asked = Requirements(device="cpu")
    before = plan_model(M100, MACHINE, asked)
    assert (before.speed_rough, before.speed_source) == (True, CORES)
    slow = {name: replace(found, value_s=10 * found.value_s) for name, found in SAPPHIRE_RAPIDS.dtypes.items()}
    keep_rates(replace(SAPPHIRE_RAPIDS, dtypes=slow), None, MACHINE)
    after = plan_model(M100, MACHINE, asked)
    assert (after.speed_rough, after.speed_source) == (False, MEASURED)
    assert before.tokens_per_second is not None
    assert after.tokens_per_second is not None
    assert after.tokens_per_second < before.tokens_per_second / 2


def test_a_card_that_does_half_of_what_the_table_says_trains_at_half_the_speed() -> None:
    known = gpu_rates(CARD, "bf16")
    found = DtypeRates(((1024, 1e14), (4096, 312e12 * 0.85 / 2)))
    half = gpu_rates(CARD, "bf16", MeasuredRates("2026-11-24", 1, 2.039e12 * 0.9, {"bf16": found}))
    assert known is not None
    assert half is not None
    assert known.source == TABLE
    assert (half.source, half.low_confidence) == (MEASURED, False)
    assert half.flops == pytest.approx(known.flops / 2)
    assert half.bandwidth_bytes_s == pytest.approx(known.bandwidth_bytes_s)


def test_runs_predicted_from_a_table_do_not_correct_a_prediction_from_measured_rates() -> None:
    spec, shape = catalog_index()["smollm2-135m-instruct"], TrainingShape(device="cpu")
    run = Measurement(model_key(spec), measured_shape(shape), "2026-11-24", 2**30, 2**30)
    run = replace(run, tokens_per_second=50.0, predicted_tokens_per_second=100.0)
    by_table, by_measure = calibration_of([run]), calibration_of([replace(run, rates_measured=True)])
    assert by_table.speed_ratio(spec, shape) == by_measure.speed_ratio(spec, shape, rates_measured=True) == 0.5
    assert by_table.speed_ratio(spec, shape, rates_measured=True) is None
    assert by_measure.speed_ratio(spec, shape) is None
