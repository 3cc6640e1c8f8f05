"""Plans: what is chosen, why, what else would fit, and in which order models come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.hardware.gpus import GpuSpec, known_gpus
from engine.hardware.machine import Cpu, Gpu, GpuProcess, Machine
from engine.hardware.probe import hypothetical_machine
from engine.memory.calibration import Measurement, calibration_of, measured_shape, model_key
from engine.memory.recompute import CHOICES, Recompute, recompute_in
from engine.memory.shape import GIB
from engine.models.catalog import catalog_index, load_catalog
from engine.models.spec import ModelSpec
from engine.recommend import budget, candidates, kernels, search
from engine.recommend.budget import available_bytes, holders
from engine.recommend.plan import Plan, Requirements
from engine.recommend.search import plan_model, rank_models
from engine.text import format_bytes

MODELS = catalog_index()
QWEN_8B = MODELS["qwen3-8b"]
KEYS = {
    "model.max_length",
    "model.dtype",
    "quantization.method",
    "tuning.method",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.total_batch_size",
    "train.activation_checkpointing",
    "train.kernels",
    "train.optim",
    "train.learning_rate",
    "launch.device",
}


@pytest.fixture(autouse=True)
def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed where the tests run."""
    monkeypatch.setattr(kernels, "is_installed", lambda: False)


def machine(*gpus: Gpu, ram_gib: int = 32, bf16: bool = False) -> Machine:
    cpu = Cpu("Test CPU", physical_cores=8, logical_cores=16, bf16_native=bf16)
    numbered = tuple(replace(gpu, index=index) for index, gpu in enumerate(gpus))
    return Machine("box", cpu, ram_gib * GIB, ram_gib * GIB, "/", 100 * GIB, gpus=numbered)


def card(free_gib: float, total_gib: float = 80, uuid: str = "GPU-a", capability: tuple[int, int] = (8, 0)) -> Gpu:
    return Gpu(
        "NVIDIA A100-SXM4-80GB",
        uuid=uuid,
        total_bytes=int(total_gib * GIB),
        free_bytes=int(free_gib * GIB),
        compute_capability=capability,
        tensor_flops=312e12,
        memory_bandwidth_bytes_s=2e12,
    )


def value(plan: Plan, key: str) -> object:
    return next(choice.value for choice in plan.choices if choice.key == key)


def reason(plan: Plan, key: str) -> str:
    return next(choice.reason for choice in plan.choices if choice.key == key)


@pytest.mark.parametrize(("number", "gpu"), enumerate(known_gpus()), ids=lambda one: getattr(one, "name", ""))
def test_every_model_plans_and_every_known_card_is_planned_for(number: int, gpu: GpuSpec) -> None:
    """Every eighth model on a card, others on the next one."""
    models = load_catalog()[number % 8 :: 8]
    plans = rank_models(hypothetical_machine(gpu.name), models=models)
    assert len(plans) == len(models)
    for plan in plans:
        shape = plan.shape
        assert plan.verdict == ("NO" if plan.headroom_bytes < 0 else plan.verdict)
        assert shape.micro_batch * shape.gradient_accumulation_steps == 16
        assert {choice.key for choice in plan.choices} - {"data.packing"} == KEYS
        assert all(choice.reason for choice in plan.choices)


def test_models_of_the_same_numbers_get_the_plan_each_would_get_alone() -> None:
    box, asked = hypothetical_machine("T4"), Requirements(max_length=3000)
    for requirements in (Requirements(), asked):
        for plan in rank_models(box, requirements):
            (alone,) = rank_models(box, requirements, [plan.model])
            assert alone == plan
            assert alone.model is plan.model


def test_free_memory_counts_and_not_the_cards_size() -> None:
    empty, busy = plan_model(QWEN_8B, machine(card(79))), plan_model(QWEN_8B, machine(card(12)))
    assert empty.shape.quantization == "none"
    assert busy.shape.quantization == "nf4"
    assert busy.available_bytes < 12 * GIB
    assert busy.verdict != "NO"
    assert plan_model(QWEN_8B, machine(card(2))).verdict == "NO"


def test_the_margin_is_taken_from_free_memory() -> None:
    box = machine(card(40, 80))
    assert available_bytes(box, box.gpus[0]) == 40 * GIB - 256 * 1024**2 - int(0.01 * 80 * GIB)


def test_holders_name_the_largest_first() -> None:
    processes = (GpuProcess(7, 1 * GIB, "small"), GpuProcess(4711, 20 * GIB, "python", "anna"))
    assert holders(processes) == "python 4711 (anna) 20.0 GiB, small 7 1.0 GiB"
    assert holders(()) == ""


@pytest.mark.parametrize(("name", "dtype"), [("B200", "bf16"), ("RTX 5090", "bf16"), ("H100", "bf16"), ("T4", "fp16")])
def test_precision_by_capability(name: str, dtype: str) -> None:
    box = hypothetical_machine("NVIDIA H100 80GB HBM3" if name == "H100" else name)
    assert plan_model(MODELS["qwen3-0.6b"], box).shape.compute_dtype == dtype


def test_bf16_on_a_t4_becomes_fp16_and_says_so() -> None:
    plan = plan_model(MODELS["qwen3-1.7b"], hypothetical_machine("T4"), Requirements(compute_dtype="bf16"))
    assert value(plan, "model.dtype") == "fp16"
    assert "bf16 was asked for and is not possible" in reason(plan, "model.dtype")
    assert "7.5" in reason(plan, "model.dtype")


def test_fp16_is_never_chosen_on_a_processor() -> None:
    plan = plan_model(MODELS["smollm2-135m-instruct"], machine(), Requirements(compute_dtype="fp16"))
    assert plan.shape.compute_dtype == "fp32"
    assert "fp16 was asked for" in reason(plan, "model.dtype")


def test_gemma_without_bf16_computes_in_fp32() -> None:
    plan = plan_model(MODELS["gemma-3-1b-it"], hypothetical_machine("T4"))
    assert plan.shape.compute_dtype == "fp32"
    assert "overflow" in reason(plan, "model.dtype")


def test_plain_weights_come_before_quantized_ones() -> None:
    plan = plan_model(QWEN_8B, hypothetical_machine("RTX 4090"))
    assert (plan.verdict, plan.shape.quantization, plan.shape.compute_dtype) == ("OK", "none", "bf16")
    assert any(text.startswith("nf4, ") for text in plan.alternatives)


def test_checkpointing_is_off_where_it_fits() -> None:
    roomy = plan_model(MODELS["qwen3-0.6b"], hypothetical_machine("A100-SXM4-80GB"))
    assert value(roomy, "train.activation_checkpointing") is False
    narrow = plan_model(MODELS["qwen3-14b"], hypothetical_machine("RTX 4090"))
    assert value(narrow, "train.activation_checkpointing") in (True, "attention")


def test_memory_is_spent_on_speed_the_cheapest_first() -> None:
    """With ever less of it: everything kept, every n-th layer, attention alone, nothing, inputs in main memory."""
    order, found = [choice.setting() for choice in CHOICES], []
    for free_gib in (79, 40, 30, 28, 26, 25, 24, 23.5, 23, 22):
        asked = Requirements(quantization="none", max_length=2048, micro_batch=4)
        plan = plan_model(QWEN_8B, machine(card(free_gib)), asked)
        if plan.verdict == "OK":
            found.append(value(plan, "train.activation_checkpointing"))
    places = [order.index(setting) for setting in found]
    assert places == sorted(places)
    assert {True, "offload"} < set(found)


@pytest.mark.parametrize("name", ["H100 80GB HBM3", "A100-SXM4-80GB", "RTX 4090", "RTX 3090", "RTX 4060", "T4"])
def test_alternatives_say_their_batch_and_what_else_differs(name: str) -> None:
    box = hypothetical_machine(name)
    plan = plan_model(MODELS["gemma-2-2b-it"], box, Requirements(max_length=2048))
    chosen = plan.shape
    lines = [text for text in plan.alternatives if " GiB OK" in text]
    assert lines
    for text in lines:
        label, *words = text.partition(":")[0].split(", ")
        asked = Requirements(max_length=4096 if label == "max_length 4096" else 2048)
        if label.startswith("checkpointing"):
            every = int(label == "checkpointing on")
            asked = replace(asked, quantization=chosen.quantization, recompute=Recompute(every))
        elif not label.startswith("max_length"):
            asked = replace(asked, quantization="nf4" if label == "nf4" else "none")
        found = plan_model(plan.model, box, asked)
        assert words[0] == f"micro-batch {found.shape.micro_batch}"
        assert format_bytes(found.estimate.device_bytes) in text
        switched = recompute_in(found.shape) != recompute_in(chosen)
        assert ("checkpointing" in text) == (switched or label.startswith("checkpointing"))


def test_another_storage_is_shown_with_the_batch_that_is_best_for_it() -> None:
    """One micro-batch of 4-bit weights costs the same for any number of tokens."""
    plan = plan_model(MODELS["llama-3.1-8b"], hypothetical_machine("NVIDIA H100 80GB HBM3"))
    line = next(text for text in plan.alternatives if text.startswith("nf4, "))
    assert float(line.rpartition(" x the speed")[0].rpartition(" ")[2]) >= 0.93
    best = plan_model(plan.model, hypothetical_machine("NVIDIA H100 80GB HBM3"), Requirements(quantization="nf4"))
    assert f"micro-batch {best.shape.micro_batch}" in line


@pytest.mark.parametrize("name", ["RTX 4060", "RTX 4090", "T4", "RTX 3060"])
@pytest.mark.parametrize("length", [2048, 8192])
def test_no_two_alternatives_say_the_same(name: str, length: int) -> None:
    box = hypothetical_machine(name)
    for spec in load_catalog():
        lines = plan_model(spec, box, Requirements(max_length=length)).alternatives
        lengths = [text for text in lines if text.startswith("max_length ")]
        outcomes = [text.partition(": ")[2] for text in lengths]
        assert len(set(lines)) == len(lines)
        assert len(set(outcomes)) == len(outcomes), "a length that takes as much as a longer one says nothing"


def test_reasons_give_the_time_models_own_figures() -> None:
    plan = plan_model(MODELS["llama-3.1-8b"], hypothetical_machine("NVIDIA H200"))
    assert plan.shape.checkpoint_every == 0
    line = next(text for text in plan.alternatives if text.startswith("checkpointing on"))
    left = float(line.rpartition(" x the speed")[0].rpartition(" ")[2])
    said = reason(plan, "train.activation_checkpointing").rpartition("about ")[2].partition("%")[0]
    assert int(said) == pytest.approx(100 * (1 - left), abs=1.1)
    assert reason(plan, "train.per_device_train_batch_size").startswith("smallest within 2% of the fastest that fits ")


def test_inputs_move_to_main_memory_only_where_there_is_some() -> None:
    asked = Requirements(
        recompute=Recompute(1, offload_inputs=True), quantization="none", max_length=8192, micro_batch=8
    )
    assert plan_model(QWEN_8B, machine(card(79))).shape.offload_inputs is False, "the device's own is enough"
    assert plan_model(QWEN_8B, machine(card(79), ram_gib=256), asked).verdict != "NO"
    assert plan_model(QWEN_8B, machine(card(79), ram_gib=32), asked).verdict == "NO", "18 GiB would be pinned"


def test_kernels_are_taken_where_they_are_installed_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "is_installed", lambda: True)
    plan = plan_model(QWEN_8B, machine(card(79)))
    assert (value(plan, "train.kernels"), plan.shape.kernels) == ("liger", "liger")
    plain = plan_model(QWEN_8B, machine(card(79)), Requirements(kernels="plain"))
    assert (plain.shape.kernels, reason(plain, "train.kernels")) == ("plain", "asked for")
    unknown = plan_model(replace(QWEN_8B, family="apertus"), machine(card(79)))
    assert unknown.shape.kernels == "plain"
    assert "'apertus'" in reason(unknown, "train.kernels")
    old = plan_model(QWEN_8B, machine(card(15, 16, capability=(7, 5))))
    assert "8.0" in reason(old, "train.kernels")
    monkeypatch.setattr(kernels, "is_installed", lambda: False)
    without = plan_model(QWEN_8B, machine(card(79)))
    assert without.shape.kernels == "plain"
    assert "pip install 'tunedeck[kernels]'" in reason(without, "train.kernels")
    assert plan_model(MODELS["smollm2-135m-instruct"], machine()).shape.kernels == "plain"


def test_partial_checkpointing_has_a_number() -> None:
    plan = plan_model(QWEN_8B, machine(card(79)), Requirements(recompute=Recompute(2)))
    assert value(plan, "train.activation_checkpointing") == 2
    assert reason(plan, "train.activation_checkpointing") == "asked for"


@pytest.mark.parametrize("total", [1, 6, 16, 48, 7])
def test_the_asked_batch_is_met_exactly(total: int) -> None:
    plan = plan_model(MODELS["qwen3-1.7b"], machine(card(79)), Requirements(total_batch=total))
    assert plan.shape.micro_batch * plan.shape.gradient_accumulation_steps == total
    assert value(plan, "train.total_batch_size") == total


def test_an_indivisible_wish_is_told() -> None:
    plan = plan_model(QWEN_8B, machine(card(79)), Requirements(micro_batch=3, total_batch=16))
    assert value(plan, "train.total_batch_size") == 15
    assert "16 is no multiple" in reason(plan, "train.total_batch_size")


def test_what_was_asked_is_kept_even_when_it_does_not_fit() -> None:
    asked = Requirements(max_length=8192, micro_batch=8, quantization="none", recompute=Recompute(0), method="lora")
    plan = plan_model(QWEN_8B, hypothetical_machine("RTX 4090"), asked)
    shape = plan.shape
    assert plan.verdict == "NO"
    assert (shape.max_length, shape.micro_batch, shape.quantization, shape.checkpoint_every) == (8192, 8, "none", 0)
    assert plan.alternatives


def test_a_refusal_names_changes_that_really_fit() -> None:
    asked = Requirements(recompute=Recompute(0), quantization="none", max_length=4096)
    box = hypothetical_machine("RTX 4090")
    plan = plan_model(QWEN_8B, box, asked)
    assert plan.verdict == "NO"
    assert plan.alternatives[0].startswith("checkpointing on, ")
    changed = plan_model(QWEN_8B, box, replace(asked, recompute=Recompute(1)))
    assert changed.verdict in plan.alternatives[0]
    assert plan.alternatives[-1].startswith("a GPU with")


def test_a_refusal_without_a_way_out_names_a_card() -> None:
    plan = plan_model(MODELS["llama-3.3-70b-instruct"], hypothetical_machine("T4"))
    assert plan.verdict == "NO"
    assert "such as" in plan.alternatives[-1]


def test_full_fine_tuning_takes_the_8_bit_optimizer_only_where_it_must() -> None:
    asked = Requirements(method="full")
    roomy = plan_model(MODELS["qwen3-0.6b"], machine(card(79)), asked)
    assert (roomy.shape.optimizer, roomy.shape.quantization) == ("adamw_torch_fused", "none")
    assert value(roomy, "train.learning_rate") == 5e-5
    narrow = plan_model(MODELS["qwen3-4b"], machine(card(60)), asked)
    assert narrow.shape.optimizer == "adamw_bnb_8bit"
    assert "do not fit" in reason(narrow, "train.optim")
    assert narrow.verdict == "OK"


def test_shorter_sequences_before_giving_up() -> None:
    plan = plan_model(MODELS["qwen3-32b"], machine(card(22.5)))
    assert plan.verdict == "TIGHT"
    assert plan.shape.max_length < 2048
    assert "2048 does not fit" in reason(plan, "model.max_length")


def test_a_length_beyond_the_models_context_is_no() -> None:
    plan = plan_model(MODELS["tinyllama-1.1b-chat-v1.0"], machine(card(79)), Requirements(max_length=4096))
    assert plan.verdict == "NO"
    assert "only 2048 tokens" in reason(plan, "model.max_length")
    assert plan.alternatives[0].startswith("max_length 2048, ")


def test_the_gpu_with_most_free_memory_is_taken_unless_one_is_asked_for() -> None:
    box = machine(card(20, uuid="GPU-aaa"), card(70, uuid="GPU-bbb"))
    plan = plan_model(QWEN_8B, box)
    assert plan.device_index == 1
    assert any(text.startswith("on GPU 0: ") for text in plan.alternatives)
    assert plan_model(QWEN_8B, box, Requirements(gpu_uuid="gpu-a")).device_index == 0
    with pytest.raises(EngineError) as raised:
        plan_model(QWEN_8B, box, Requirements(gpu_uuid="GPU-c"))
    assert raised.value.code is ExitCode.RESOURCES
    assert "GPU-aaa" in raised.value.hint


def test_a_gpu_that_is_not_there_is_an_error_and_a_processor_is_not() -> None:
    with pytest.raises(EngineError) as raised:
        plan_model(QWEN_8B, machine(), Requirements(device="cuda"))
    assert raised.value.code is ExitCode.RESOURCES
    assert plan_model(QWEN_8B, machine(card(70)), Requirements(device="cpu")).device_index is None


def test_processors_are_for_small_models() -> None:
    box = machine(ram_gib=256)
    small, large = plan_model(MODELS["smollm2-135m-instruct"], box), plan_model(MODELS["qwen3-32b"], box)
    assert (small.verdict, small.shape.quantization, small.shape.device) == ("OK", "none", "cpu")
    assert large.verdict == "TIGHT"
    assert "slow" in reason(large, "launch.device")
    assert plan_model(MODELS["qwen3-32b"], machine(ram_gib=16)).verdict == "NO"


def test_order_by_verdict_then_quality() -> None:
    plans = rank_models(hypothetical_machine("RTX 4090"))
    order = ["OK", "TIGHT", "NO"]
    verdicts = [order.index(plan.verdict) for plan in plans]
    assert verdicts == sorted(verdicts)
    fitting = [plan.model.quality for plan in plans if plan.verdict == "OK"]
    assert fitting == sorted(fitting, reverse=True)


def test_goal_speed_orders_by_speed_above_the_floor() -> None:
    plans = rank_models(hypothetical_machine("RTX 4090"), Requirements(goal="speed", complexity="high"))
    capable = [plan for plan in plans if plan.verdict == "OK" and plan.model.quality >= 55]
    assert plans[: len(capable)] == capable
    speeds = [plan.tokens_per_second or 0 for plan in capable]
    assert speeds == sorted(speeds, reverse=True)


def test_a_simple_task_prefers_fast_models_to_larger_ones() -> None:
    box = hypothetical_machine("A100-SXM4-80GB")
    simple, extreme = (rank_models(box, Requirements(complexity=name))[0].model for name in ("simple", "extreme"))
    assert (simple.parameters or 0) < (extreme.parameters or 0)
    assert simple.quality >= 45


def test_a_ranking_takes_models_that_are_given() -> None:
    plans = rank_models(machine(card(70)), None, [QWEN_8B])
    assert [plan.model for plan in plans] == [QWEN_8B]
    assert plans[0].alternatives == ()


def test_speed_goes_by_what_runs_here_made_of_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    card = hypothetical_machine("RTX 4090")
    before = plan_model(QWEN_8B, card)
    assert before.tokens_per_second is not None
    size = before.estimate.reserved_bytes
    seen = Measurement(model_key(QWEN_8B), before.shape, "2026-11-24", size, size, None, None, 500.0, 1000.0)
    monkeypatch.setattr(budget, "load_calibration", lambda *_: calibration_of([seen]))
    after = plan_model(QWEN_8B, card)
    assert after.tokens_per_second == pytest.approx(before.tokens_per_second / 2)
    assert after.speed_measured
    assert not before.speed_measured


@pytest.mark.parametrize(
    ("free_gib", "asked"),
    [(6, Requirements()), (24, Requirements(method="full")), (24, Requirements(max_length=8192, goal="speed"))],
)
def test_a_search_that_ends_early_finds_what_the_whole_one_finds(
    free_gib: float, asked: Requirements, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(card(free_gib))
    early = rank_models(here, asked)
    assert any(plan.verdict == "NO" for plan in early)
    assert any(plan.verdict != "NO" for plan in early)
    monkeypatch.setattr(candidates, "_never_fits", lambda spec, shape, target: False)
    assert early == rank_models(here, asked)


def test_a_measured_run_counts_where_the_weights_alone_would_be_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    small = machine(card(6))
    plan = plan_model(QWEN_8B, small)
    assert plan.verdict == "NO"
    size = 4 * GIB
    ran = measured_shape(plan.shape)
    seen = Measurement(model_key(QWEN_8B), ran, "2026-11-24", size, size, size, None, 500.0, 1000.0)
    monkeypatch.setattr(budget, "load_calibration", lambda *_: calibration_of([seen]))
    assert plan_model(QWEN_8B, small).verdict != "NO"


@pytest.mark.parametrize(
    "asked",
    [Requirements(), Requirements(complexity="simple"), Requirements(goal="speed"), Requirements(latency_ms=300)],
)
@pytest.mark.parametrize("most", [1, 20])
def test_the_best_ones_alone_are_those_of_the_whole_ranking(asked: Requirements, most: int) -> None:
    here = machine(card(24))
    assert rank_models(here, asked, most=most) == rank_models(here, asked)[:most]


def test_models_of_equal_numbers_are_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[ModelSpec] = []
    plan = search._plan

    def counted(spec: ModelSpec, *rest: Any, **options: Any) -> Plan:
        planned.append(search._numbers(spec, Requirements()))
        return plan(spec, *rest, **options)

    monkeypatch.setattr(search, "_plan", counted)
    rank_models(hypothetical_machine("RTX 4090"), most=20)
    assert len(planned) == len(set(planned))
