"""Open settings filled in: values from the plan, each with its source, and run.json there and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import GpuProcess
from engine.memory.shape import GIB
from engine.models.resolve import resolve_model
from engine.profile.fields import canonical, profile_fields
from engine.profile.fieldspec import DECIDED_BY_DATA
from engine.profile.load import load_text
from engine.profile.runjson import settings_of
from engine.profile.save import profile_text
from engine.recommend.device import on_device
from engine.recommend.plan import Requirements
from engine.recommend.search import plan_model
from engine.resolve.fill import requirements_of
from engine.resolve.resolve import as_written, plan_to_profile, resolve_profile
from engine.runs.launch import worker_environment
from engine.runs.record import read_record_of
from tests.unit.profile_machines import DATA, MODEL, gpu, machine


def test_nothing_stays_open_but_what_the_data_decides(load, cpu_machine):
    resolved = resolve_profile(load(MODEL + DATA), cpu_machine)
    still = {canonical(key) for key, entry in resolved.provenance.items() if entry["value"] == "auto"}
    assert still == set(DECIDED_BY_DATA)
    assert {canonical(key) for key in resolved.provenance} == {field.key for field in profile_fields()}
    assert all(entry["reason"] for entry in resolved.provenance.values() if entry["source"] == "auto")


def test_values_are_those_of_the_plan_with_their_reasons(load, gpu_machine):
    loaded = load(MODEL + DATA + "[train]\ntotal_batch_size = 24\n")
    resolved = resolve_profile(loaded, gpu_machine)
    plan = plan_model(resolve_model("demo"), gpu_machine, requirements_of(loaded.profile))
    for choice in plan.choices:
        entry = resolved.provenance[choice.key]
        assert entry["value"] == choice.value, choice.key
        if entry["source"] == "auto":
            assert entry["reason"] == choice.reason
    train = resolved.settings.train
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps == train.total_batch_size == 24


def test_sources_are_told_apart(load, cpu_machine):
    loaded = load(MODEL + 'dtype = "auto"\n' + DATA + "[lora]\nr = 8\n", "train.seed=7")
    found = resolve_profile(loaded, cpu_machine).provenance
    keys = ("lora.r", "train.seed", "model.dtype", "lora.dropout", "train.eval_steps")
    assert [found[key]["source"] for key in keys] == ["profile", "override", "auto", "default", "auto"]
    assert found["launch.threads"] == {"value": 8, "source": "auto", "reason": "physical cores"}
    assert found["model.attention"]["value"] == "packed"


def test_the_reason_for_adding_adapters_in_place_says_where_it_was_measured(load, cpu_machine, gpu_machine):
    for box, where in ((cpu_machine, "processors"), (gpu_machine, "GPUs")):
        entry = resolve_profile(load(MODEL + DATA), box).provenance["lora.fused"]
        assert entry["value"] is True
        assert entry["reason"] == f"on {where} it was measured faster than PEFT's own way"


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_exports_keep_the_dtype_of_training(load, cpu_machine, dtype):
    loaded = load(MODEL + f'dtype = "{dtype}"\n' + DATA)
    assert resolve_profile(loaded, cpu_machine).settings.export.dtype == dtype


def test_every_explicit_setting_survives(load, gpu_machine):
    text = (
        MODEL.replace("128", "256")
        + 'attention = "eager"\n[quantization]\nmethod = "nf4"\n'
        + "[train]\nper_device_train_batch_size = 3\ngradient_accumulation_steps = 5\nlearning_rate = 3e-3\n"
        + 'activation_checkpointing = 2\noptim = "adamw_torch"\n[export]\ndtype = "fp16"\n[launch]\nthreads = 3\n'
        + DATA
    )
    loaded = load(text)
    settings = resolve_profile(loaded, gpu_machine).settings.model_dump()
    given = loaded.profile.model_dump()
    for key in loaded.given - {"data.datasets.0.path"}:
        table, _, name = key.partition(".")
        assert settings[table][name] == given[table][name], key
    assert settings["train"]["total_batch_size"] == 15


def test_bf16_on_an_older_card_falls_back_aloud(load):
    loaded = load(MODEL + 'dtype = "bf16"\n' + DATA)
    resolved = resolve_profile(loaded, machine(gpu(capability=(7, 5))))
    assert resolved.settings.model.dtype == "fp16"
    assert [warning.key for warning in resolved.warnings] == ["model.dtype"]
    assert "8.0" in resolved.provenance["model.dtype"]["reason"]


def test_the_chosen_gpu_is_recorded_in_full(load):
    place = machine(gpu("GPU-aaaa1111", free_gib=5), gpu("GPU-bbbb2222", free_gib=20))
    assert resolve_profile(load(MODEL + DATA), place).settings.launch.gpu == "GPU-bbbb2222"
    named = resolve_profile(load(MODEL + DATA + "[launch]\ngpu = 'gpu-aa'\n"), place)
    assert named.settings.launch.gpu == "GPU-aaaa1111"
    assert named.settings.launch.device == "cuda"


@pytest.mark.parametrize("written", ["1", "'1'", "'GPU 1'", "'gpu-bb'", "'GPU-bbbb2222'"])
def test_a_gpu_is_named_by_number_or_uuid_and_recorded_by_uuid(load, written):
    place = machine(gpu("GPU-aaaa1111", free_gib=20), replace(gpu("GPU-bbbb2222", free_gib=5), index=1))
    resolved = resolve_profile(load(MODEL + DATA + f"[launch]\ngpu = {written}\n"), place)
    record = resolved.to_run_json()
    assert record["settings"]["launch"]["gpu"] == "GPU-bbbb2222"
    assert record["estimate"]["card"] == resolved.plan.card == "GPU 1"
    assert record["estimate"]["available_bytes"] < 5 * GIB
    assert worker_environment(read_record_of(record).launch)["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb2222"
    assert record["provenance"]["launch.gpu"] == {"value": "GPU-bbbb2222", "source": "profile", "reason": "GPU 1 Card"}
    assert record["provenance"]["launch.device"]["reason"] == "GPU 1 Card: asked for"


def test_a_gpu_named_in_the_shell_says_so(load):
    place = machine(gpu("GPU-aaaa1111"), replace(gpu("GPU-bbbb2222"), index=1))
    found = resolve_profile(load(MODEL + DATA, "launch.gpu=1"), place).provenance["launch.gpu"]
    assert found == {"value": "GPU-bbbb2222", "source": "override", "reason": "GPU 1 Card"}


def test_a_gpu_left_to_the_machine_says_which_it_is(load):
    place = machine(gpu("GPU-aaaa1111", free_gib=5), replace(gpu("GPU-bbbb2222", free_gib=20), index=1))
    found = resolve_profile(load(MODEL + DATA), place).provenance["launch.gpu"]
    assert found["source"] == "auto"
    assert found["reason"] == "GPU 1 Card: the GPU with the most free memory"


def test_a_gpu_that_is_not_here_is_a_problem_that_lists_those_that_are(load):
    place = machine(gpu("GPU-aaaa1111"), replace(gpu("GPU-bbbb2222"), index=1))
    for written, words in (("7", "no GPU here is called '7'"), ("GPU-", "'GPU-' names 2 GPUs")):
        with pytest.raises(EngineError) as raised:
            resolve_profile(load(MODEL + DATA + f"[launch]\ndevice = 'cuda'\ngpu = '{written}'\n"), place)
        (problem,) = raised.value.problems
        assert problem.key == "launch.gpu"
        assert words in problem.message
        assert "GPU 0 Card (GPU-aaaa1111)" in problem.hint
        assert "GPU 1 Card (GPU-bbbb2222)" in problem.hint


@pytest.mark.parametrize("written", ["-1", "true", "1.0", "''"])
def test_what_is_no_name_of_a_gpu_is_refused(load, gpu_machine, written):
    with pytest.raises(EngineError) as raised:
        resolve_profile(load(MODEL + DATA + f"[launch]\ngpu = {written}\n"), gpu_machine)
    assert [problem.key for problem in raised.value.problems] == ["launch.gpu"]


@pytest.mark.parametrize(
    ("device", "settings"),
    [
        ("auto", {}),
        ("cpu", {"device": "cpu"}),
        ("1", {"device": "cuda", "gpu": "GPU-bbbb2222"}),
    ],
)
def test_a_new_profile_runs_where_it_was_asked_to(load, device, settings):
    place = machine(gpu("GPU-aaaa1111", free_gib=20), replace(gpu("GPU-bbbb2222", free_gib=8), index=1))
    asked = on_device(Requirements(), place, device)
    plan = plan_model(resolve_model("demo"), place, asked)
    tree = plan_to_profile(plan, "train.jsonl", asked)
    assert tree.get("launch", {}) == settings
    resolved = resolve_profile(load(profile_text(tree)), place)
    assert (resolved.plan.card, resolved.plan.device_index) == (plan.card, plan.device_index)


def test_a_short_model_name_becomes_the_hub_id(load, gpu_machine):
    loaded = load('[model]\nname_or_path = "llama-3.2-1b-instruct"\n' + DATA)
    resolved = resolve_profile(loaded, gpu_machine)
    assert resolved.settings.model.name_or_path == "meta-llama/Llama-3.2-1B-Instruct"
    assert "model.name_or_path" in [warning.key for warning in resolved.warnings]


def test_without_held_out_rows_no_best_model_is_sought(load, cpu_machine):
    resolved = resolve_profile(load(MODEL + DATA + "[data]\nvalidation_fraction = 0\n"), cpu_machine)
    assert resolved.settings.train.load_best_model_at_end is False
    assert resolved.provenance["train.load_best_model_at_end"]["reason"] == "no held-out examples"


def test_random_weights_are_not_quantized(load):
    text = '[model]\nname_or_path = "meta-llama/Llama-3.1-8B-Instruct"\n' + DATA
    assert resolve_profile(load(text), machine(gpu(free_gib=16))).settings.quantization.method == "nf4"
    small = text.replace("3.1-8B", "3.2-1B") + '[tuning]\nmethod = "lora"\n'
    resolved = resolve_profile(load(small, "model.initialise=random"), machine(gpu(free_gib=20)))
    assert "random weights" in resolved.provenance["quantization.method"]["reason"]
    with pytest.raises(EngineError) as raised:
        resolve_profile(load(text, "model.initialise=random"), machine(gpu(free_gib=10)))
    assert raised.value.code is ExitCode.RESOURCES


def test_run_json_goes_there_and_back(load, gpu_machine):
    resolved = resolve_profile(load(MODEL + DATA, "train.seed=9"), gpu_machine)
    text = json.dumps(resolved.to_run_json(), allow_nan=False)
    found = json.loads(text)
    record = read_record_of(found)
    settings, base_dir = settings_of(record)
    assert settings == resolved.settings
    assert {key: asdict(origin) for key, origin in record.provenance.items()} == resolved.provenance
    assert base_dir == resolved.base_dir
    estimate = found["estimate"]
    assert estimate["device_bytes"] == resolved.plan.estimate.device_bytes
    assert [term["name"] for term in estimate["terms"]] == [term.name for term in resolved.plan.estimate.terms]
    assert estimate["tokens_per_second"] > 0
    assert found["versions"]["torch"]
    assert found["model"]["hidden_size"] == 256


def test_run_json_names_no_other_processes(load):
    card = gpu()
    busy = type(card)(
        **{name: getattr(card, name) for name in card.__slots__} | {"processes": (GpuProcess(4711, 1, "secret"),)}
    )
    assert "secret" not in json.dumps(resolve_profile(load(MODEL + DATA), machine(busy)).to_run_json())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 9}, "version 9"),
        ({"settings": {"model": {}}}, "does not validate"),
        ({"base_dir": None}, "not whole"),
    ],
)
def test_a_damaged_run_json_is_refused(load, cpu_machine, change, said):
    found = resolve_profile(load(MODEL + DATA), cpu_machine).to_run_json() | change
    with pytest.raises(EngineError, match=said) as raised:
        settings_of(read_record_of(found))
    assert raised.value.code is ExitCode.PROFILE


def test_a_plan_becomes_a_profile_that_resolves_to_the_same_plan(load, gpu_machine):
    plan = plan_model(resolve_model("demo"), gpu_machine)
    text = profile_text(plan_to_profile(plan, "train.jsonl"))
    assert "[[data.datasets]]" in text
    resolved = resolve_profile(load(text), gpu_machine)
    assert resolved.plan.shape == plan.shape
    assert resolved.provenance["train.learning_rate"]["source"] == "profile"


def test_the_prediction_is_for_all_that_the_profile_trains(load, gpu_machine):
    plain = resolve_profile(load(MODEL + DATA), gpu_machine)
    lora = "[lora]\nuse_dora = true\nbias = 'all'\nmodules_to_save = ['lm_head', 'model.embed_tokens']\n"
    resolved = resolve_profile(load(MODEL + DATA + lora), gpu_machine)
    shape = resolved.plan.shape
    assert (shape.use_dora, shape.lora_bias, shape.modules_to_save) == (True, "all", ("lm_head", "embed_tokens"))
    assert resolved.plan.estimate.trainable_parameters > plain.plan.estimate.trainable_parameters
    written = json.loads(json.dumps(resolved.to_run_json()))["estimate"]["shape"]
    assert written["modules_to_save"] == ["lm_head", "embed_tokens"]


def test_a_local_model_is_written_with_its_whole_path(cpu_machine, tmp_path, monkeypatch):
    from engine.demo.paths import model_dir

    (tmp_path / "m").symlink_to(model_dir())
    monkeypatch.chdir(tmp_path)
    plan = plan_model(resolve_model("./m"), cpu_machine)
    assert plan_to_profile(plan, "x.csv")["model"]["name_or_path"] == str(model_dir())


def test_as_written_leaves_the_machine_out(load):
    found = as_written(load(MODEL + DATA))
    assert found["model.dtype"] == {
        "value": "auto",
        "source": "auto",
        "reason": "chosen for the machine when a run starts",
    }
    with pytest.raises(EngineError, match="no such setting"):
        as_written(load_text("[model]\nname_or_path = 'demo'\nx = 1\n" + DATA, load(MODEL + DATA).path))


def test_too_little_disk_and_ram_are_said_before_the_run(load, cpu_machine):
    from dataclasses import replace

    loaded = load(MODEL + DATA)
    plenty = resolve_profile(loaded, cpu_machine)
    assert not {"train.save_total_limit", "export.merged"} & {warning.key for warning in plenty.warnings}
    short = replace(cpu_machine, disk_free_bytes=1024)
    (warning,) = (item for item in resolve_profile(loaded, short).warnings if item.key == "train.save_total_limit")
    assert "a checkpoint" in warning.message
    assert "XDG_STATE_HOME" in warning.hint


def test_comparing_answers_takes_a_gentler_learning_rate(load, cpu_machine):
    text = MODEL + DATA + "[train]\nobjective = '{}'\n"
    rates = {
        name: resolve_profile(load(text.format(name)), cpu_machine).settings.train.learning_rate
        for name in ("sft", "pretrain", "dpo", "orpo", "kto")
    }
    assert rates["sft"] == rates["pretrain"]
    assert {rates[name] for name in ("dpo", "orpo", "kto")} == {rates["sft"] / 10}
    chosen = resolve_profile(load(text.format("dpo") + "learning_rate = 0.001\n"), cpu_machine)
    assert chosen.settings.train.learning_rate == 0.001
