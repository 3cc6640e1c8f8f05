"""Combinations, files, models and fit: what is refused, with which exit code."""

from __future__ import annotations

import dataclasses
import json

import pytest

from engine.errors import EngineError, ExitCode
from engine.resolve.check import check_error, check_profile, examine
from engine.resolve.resolve import resolve_profile
from tests.unit.profile_machines import DATA, GIB, MODEL, gpu, machine


def codes(loaded, place):
    return [item.code for item in examine(loaded, place).problems]


def test_five_kinds_of_problem_in_one_answer(load, cpu_machine):
    loaded = load(
        "[model]\nname_or_path = 'demo'\nmax_lenght = 128\n"
        "[tuning]\nmethod = 'full'\n[quantization]\nmethod = 'nf4'\n"
        "[[data.datasets]]\npath = 'missing.jsonl'\n"
        "[train]\nlearning_rate = 'fast'\nweight_decay = 7.5\n"
    )
    problems = check_profile(loaded, cpu_machine)
    assert [(problem.line, problem.key) for problem in problems] == [
        (3, "model.max_lenght"),
        (7, "quantization.method"),
        (9, "data.datasets.0.path"),
        (11, "train.learning_rate"),
        (12, "train.weight_decay"),
    ]
    assert all(problem.hint for problem in problems)
    assert str(loaded.base_dir / "missing.jsonl") in problems[2].message
    with pytest.raises(EngineError) as raised:
        resolve_profile(loaded, cpu_machine)
    assert raised.value.code is ExitCode.PROFILE
    assert len(raised.value.problems) == 5


@pytest.mark.parametrize("program", ["./tell.sh", "no-such-program-anywhere"])
def test_a_command_to_notify_that_is_not_there_is_a_warning_with_its_line(load, cpu_machine, program):
    text = f"[model]\nname_or_path = 'demo'\n{DATA}[launch]\nnotify = ['{program}', '--loud']\n"
    (warning,) = (item.problem for item in examine(load(text), cpu_machine).warnings)
    assert (warning.key, warning.line) == ("launch.notify", text.splitlines().index("[launch]") + 2)
    assert f"'{program}' was not found" in warning.message
    assert "the run goes on without it" in warning.hint
    assert not examine(load(text.replace(program, "sh")), cpu_machine).warnings


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[quantization]\nmethod='int8'\n[tuning]\nmethod='full'\n", "quantization.method"),
        (
            "[train]\ntotal_batch_size=8\nper_device_train_batch_size=2\ngradient_accumulation_steps=3\n",
            "train.total_batch_size",
        ),
        ("[train]\ntotal_batch_size=8\nper_device_train_batch_size=3\n", "train.total_batch_size"),
        ("[train]\ntotal_batch_size=8\ngradient_accumulation_steps=5\n", "train.total_batch_size"),
        ("[launch]\ndevice='cuda'\n", "launch.device"),
        ("[launch]\ngpu='GPU-bbbb'\n", "launch.gpu"),
        ("[launch]\ngpu='GPU-aaaa'\ndevice='cpu'\n", "launch.gpu"),
        ("[train]\noptim='paged_adamw_8bit'\n", "train.optim"),
        ("[train]\nload_best_model_at_end=true\n[data]\nvalidation_fraction=0\n", "train.load_best_model_at_end"),
        ("[train]\nearly_stopping_patience=3\n[data]\nvalidation_fraction=0\n", "train.early_stopping_patience"),
        ("[lora]\ntarget_modules=['q_proj','query']\n", "lora.target_modules"),
        ("[evaluate]\nprompts=['one','two','three','4','5','6','7','8','9']\n", "evaluate.prompts"),
        ("[evaluate]\nprompts=['Who are you?', '  ']\n", "evaluate.prompts"),
        ("[evaluate]\nprompts=['Who are \\u001b[2Jyou?']\n".replace("'", '"'), "evaluate.prompts"),
        ("[evaluate]\nprompts=['Who are you?']\n[train]\nobjective='reward'\n", "evaluate.prompts"),
    ],
)
def test_impossible_combinations_on_a_cpu(load, cpu_machine, text, key):
    (problem,) = check_profile(load(MODEL + text + DATA), cpu_machine)
    assert problem.key == key
    assert problem.hint


def test_what_no_class_loads_is_refused_in_the_workers_words(load, tmp_path, cpu_machine):
    text = {"model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    for kind, objective, told in (
        ("mistral3", "reward", "transformers has no class for 'mistral3' that scores texts"),
        ("gemma3", "reward", ""),
        ("mistral3", "sft", ""),
        ("vibevoice", "sft", "transformers has no class for 'vibevoice' that writes text"),
    ):
        text["model_type"] = {"gemma3": "gemma3_text"}.get(kind, "mistral")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "text_config": text}))
        model = f"[model]\nname_or_path='{tmp_path}'\nmax_length=128\n[train]\nobjective='{objective}'\n"
        found = [problem for problem in check_profile(load(model + DATA), cpu_machine) if "class" in problem.message]
        assert [told in problem.message for problem in found] == ([True] if told else [])
        assert all(problem.key == "model.name_or_path" and problem.hint for problem in found)


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (["pytorch_model.bin"], True),
        (["consolidated.00.pth"], True),
        (["pytorch_model.bin", "model.safetensors"], False),
        (["training_args.bin"], False),
        ([], False),
    ],
    ids=lambda value: "-".join(value) or "none" if isinstance(value, list) else str(value),
)
def test_weights_that_are_pickles_alone_are_refused_before_training(load, tmp_path, cpu_machine, files, refused):
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape = {"num_attention_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps({**text, **shape}))
    for name in files:
        (tmp_path / name).write_bytes(b"")
    found = check_profile(load(f"[model]\nname_or_path='{tmp_path}'\nmax_length=128\n" + DATA), cpu_machine)
    assert any("pickle" in problem.message and "safetensors" in problem.hint for problem in found) is refused


def test_fp16_is_for_gpus(load, cpu_machine, gpu_machine):
    loaded = load("[model]\nname_or_path='demo'\nmax_length=128\ndtype='fp16'\n" + DATA)
    (problem,) = check_profile(loaded, cpu_machine)
    assert problem.key == "model.dtype"
    assert check_profile(loaded, gpu_machine) == []


def test_a_length_beyond_the_context_is_refused(load, cpu_machine):
    (problem,) = check_profile(load("[model]\nname_or_path='demo'\nmax_length=4096\n" + DATA), cpu_machine)
    assert problem.key == "model.max_length"
    assert "512" in problem.message


def test_consistent_batches_pass(load, cpu_machine):
    text = "[train]\ntotal_batch_size=8\nper_device_train_batch_size=2\ngradient_accumulation_steps=4\n"
    assert check_profile(load(MODEL + DATA + text), cpu_machine) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone.jsonl", "there is no file"),
        ("notes.doc", "is none of"),
        ("empty.csv", "is empty"),
        ("folder.json", "is empty"),
        ("hub:no name", "no name of the hub"),
        ("demo:nothing", "no built-in data file"),
        ("demo:../../pyproject.toml", "no built-in data file"),
    ],
)
def test_data_files_alone_exit_with_data(load, cpu_machine, tmp_path, path, said):
    (tmp_path / "notes.doc").write_text("x")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "folder.json").mkdir()
    loaded = load(MODEL + f"[[data.datasets]]\npath='{path}'\n")
    error = check_error(loaded, cpu_machine)
    assert error.code is ExitCode.DATA
    assert said in str(error)
    assert error.problems[0].line == 5


def test_suffixes_are_those_that_the_readers_know():
    from engine.data.files import KINDS
    from engine.profile.data_files import SUFFIXES

    assert set(SUFFIXES) == set(KINDS)


def test_built_in_data_and_validation_are_found(load, cpu_machine):
    text = MODEL + "[[data.datasets]]\npath='demo:dates.train.jsonl'\n[data]\nvalidation_path='demo:dates.test.jsonl'\n"
    assert check_profile(load(text), cpu_machine) == []
    (problem,) = check_profile(load(text.replace("dates.test.jsonl", "gone")), cpu_machine)
    assert problem.key == "data.validation_path"


def test_an_unknown_model_exits_with_model_and_with_data_it_is_the_profile(load, cpu_machine):
    text = "[model]\nname_or_path='meta-llama/Llama-3.1-8B-Instrukt'\n"
    assert check_error(load(text + DATA), cpu_machine).code is ExitCode.MODEL
    assert "Llama-3.1-8B-Instruct" in str(check_error(load(text + DATA), cpu_machine))
    both = load(text + DATA.replace("train.jsonl", "gone.jsonl"))
    assert codes(both, cpu_machine) == [ExitCode.MODEL, ExitCode.DATA]
    assert check_error(both, cpu_machine).code is ExitCode.PROFILE


def test_a_model_that_does_not_fit_exits_with_resources(load):
    loaded = load("[model]\nname_or_path='meta-llama/Llama-3.1-70B-Instruct'\n[launch]\ndevice='cuda'\n" + DATA)
    error = check_error(loaded, machine(gpu(free_gib=10)))
    assert error.code is ExitCode.RESOURCES
    assert "needs" in error.message
    assert error.hint.startswith("this would fit")


def test_without_a_machine_only_the_machine_goes_unchecked(load):
    loaded = load(
        MODEL + "[launch]\ndevice='cuda'\n[train]\ntotal_batch_size=8\nper_device_train_batch_size=3\n" + DATA
    )
    assert [problem.key for problem in check_profile(loaded, None)] == ["train.total_batch_size"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[tuning]\nmethod='full'\n[lora]\nr=8\n", "lora.r"),
        ("[lora]\nr=64\nalpha=1\n", "lora.alpha"),
        ("[train]\nmax_steps=3\nnum_train_epochs=2\n", "train.num_train_epochs"),
        ("[train]\nwarmup_ratio=0.1\nlr_scheduler_type='constant'\n", "train.warmup_ratio"),
        ("[quantization]\nmethod='none'\ndouble_quant=true\n", "quantization.double_quant"),
        ("[lora]\nuse_dora=true\n", "lora.use_dora"),
        ("[train]\nobjective='reward'\nbeta=0.3\n", "train.beta"),
        ("[tuning]\ntrainable_layers=3\n", "tuning.trainable_layers"),
        ("[data]\nvalidation_path='train.jsonl'\n", "data.validation_path"),
        ("[data]\nmask='all'\nlearn=['text']\n", "data.learn"),
        ("[data]\nresponse_template='A:'\n[train]\nobjective='pretrain'\n", "data.response_template"),
        ("[data]\ninstruction_template='Q:'\n", "data.instruction_template"),
        ("[evaluate]\nprompts=['Who?', 'Who?']\n", "evaluate.prompts"),
        ("[evaluate]\nprompts=['Who?']\nmax_new_tokens=32768\n", "evaluate.prompts"),
    ],
)
def test_what_is_allowed_and_pointless_is_a_warning(load, cpu_machine, text, key):
    seen = examine(load(MODEL + text + DATA), cpu_machine)
    assert seen.problems == ()
    assert [item.problem.key for item in seen.warnings] == [key]


def test_prompts_alone_are_a_reason_to_evaluate(load, cpu_machine):
    nothing_held_out = "[train]\neval_steps=5\n[data]\nvalidation_fraction=0\n"
    (problem,) = check_profile(load(MODEL + nothing_held_out + DATA), cpu_machine)
    assert problem.key == "train.eval_steps"
    assert not check_profile(load(MODEL + nothing_held_out + "[evaluate]\nprompts=['Who?']\n" + DATA), cpu_machine)


def test_a_stored_format_is_told_with_what_it_becomes(load, cpu_machine):
    seen = examine(load("[model]\nname_or_path='openai/gpt-oss-20b'\n" + DATA), cpu_machine)
    told = " ".join(item.problem.message for item in seen.warnings)
    assert "the files hold MXFP4 (12.8 GiB): weights are dequantized while loading, to 39.0 GiB" in told


def test_a_gpu_is_found_by_the_start_of_its_uuid(load):
    place = machine(gpu("GPU-aaaa1111"), gpu("GPU-aaaa2222", free_gib=22))
    text = MODEL + DATA + "[launch]\n"
    assert check_profile(load(text + "gpu='gpu-aaaa2'\n"), place) == []
    (problem,) = check_profile(load(text + "gpu='GPU-aaaa'\n"), place)
    assert "2 GPUs" in problem.message


def test_a_gpu_without_free_memory_is_not_usable(load, gpu_machine):
    busy = dataclasses.replace(gpu_machine, gpus=(dataclasses.replace(gpu_machine.gpus[0], free_bytes=0),))
    loaded = load(MODEL + DATA + "[launch]\ndevice='cuda'\n")
    assert check_profile(loaded, busy)[0].key == "launch.device"
    assert check_profile(loaded, gpu_machine) == []
    assert gpu_machine.gpus[0].free_bytes == 23 * GIB


def test_more_layers_than_the_model_has_cannot_learn(load, cpu_machine):
    text = MODEL + "[tuning]\nmethod='freeze'\ntrainable_layers=900\n" + DATA
    (problem,) = check_profile(load(text), cpu_machine)
    assert problem.key == "tuning.trainable_layers"
    assert "layers" in problem.message


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("dropout = 0.1", "cannot be together with lora.dropout"),
        ("use_dora = true", "cannot be together with lora.use_dora"),
        ("init = 'pissa'", "cannot be together with lora.init"),
        ("", "no stacked experts"),
        ("\n[tuning]\nmethod = 'full'", "does nothing: tuning.method"),
    ],
)
def test_adapters_on_experts_are_refused_where_they_cannot_be(load, cpu_machine, extra, words):
    loaded = load(f"{MODEL}{DATA}[lora]\nexperts = true\n{extra}\n")
    found = [problem for problem in check_profile(loaded, cpu_machine) if problem.key == "lora.experts"]
    assert any(words in problem.message for problem in found)


def test_documents_that_cannot_share_a_row_are_told_before_the_run(load, gpu_machine, tmp_path):
    config = {
        "model_type": "lfm2",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 320,
        "layer_types": ["conv", "full_attention"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = f"[model]\nname_or_path = '{tmp_path}'\n" + DATA
    seen = examine(load(text), gpu_machine)
    assert seen.problems == ()
    told = {item.problem.key: item.problem.message for item in seen.warnings}
    assert "its short convolutions would pass tokens on" in told["data.packing"]
    (problem,) = check_profile(load(text + "[train]\nobjective='dpo'\n"), gpu_machine)
    assert problem.key == "train.objective"
    assert "side by side in one row" in problem.message
