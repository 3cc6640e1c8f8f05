"""The GPU benchmark's own arithmetic, its steps, and docs/benchmarks.md against the documents it is made of."""

from __future__ import annotations

import json
import time
import zipfile

import pytest

from bench.gpu import kit, page, record, rows
from bench.gpu.floor import beside_floor, floor_of
from bench.gpu.job import BIG, Job, job_from
from bench.gpu.memory_cases import order
from bench.gpu.parts import groups_of
from bench.gpu.steps import Place, Step, is_done, last_json, run_group
from bench.gpu.timing import steady
from engine.memory.shape import TrainingShape
from engine.models.catalog import catalog_index


def test_the_page_is_what_the_documents_give():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page_text(text) == text


def test_the_page_changes_with_a_document(tmp_path, monkeypatch):
    for file in page.RESULTS.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    kept = json.loads((tmp_path / "gpu-nvidia-h200-baseline.json").read_text(encoding="utf-8"))
    kept["speed"][0]["tokens_per_second"] = 1234.5
    record.write(tmp_path / "gpu-nvidia-h200-baseline.json", kept)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert "| 1,234 |" in page.generated()


def test_rows_of_larger_models_say_what_tells_them_apart():
    row = {"model": BIG, "method": "lora", "quantization": "nf4", "micro_batch": 4, "length": 2048, "error": "no"}
    rows_of = [row | {"checkpointing": "offload"}, row | {"checkpointing": False, "note": "with bitsandbytes alone"}]
    *_, one, other = page.big_lines(rows_of)
    assert "4 x 2,048, checkpointing with inputs in host memory |" in one
    assert "4 x 2,048, no checkpointing, with bitsandbytes alone |" in other
    alike = page.big_lines([rows_of[0] | {"name": "one"}, rows_of[0] | {"name": "other"}])
    assert "host memory (`one`) |" in alike[-2]
    assert "host memory (`other`) |" in alike[-1]


def test_steady_steps_leave_out_what_compiles():
    found = steady([30.0, 9.0, 1.0, 1.2, 4.0], [100, 100, 100, 60, 100], [3.0, 2.0, 1.0, 0.5, 0.25])
    assert found["median_step_s"] == 1.2
    assert found["tokens_per_second"] == 50.0
    assert found["tokens_per_second_mean"] == pytest.approx(260 / 6.2)
    with pytest.raises(ValueError, match="none is left"):
        steady([1.0, 1.0], [1, 1], [1.0, 1.0])


def test_the_floor_is_useful_arithmetic_at_the_ceiling():
    # Llama 3.1 8B: 6.98e9 weights in linear layers and 0.525e9 in the head, twice forward and twice for the inputs'
    # gradients; causal attention 2 x 2 x 2,048 / 2 x 4,096 x 32 a token forward and twice that backward.
    products = 8192 * 4 * (6.979e9 + 0.5253e9)
    attention = 8192 * 3 * 2 * 2048 * 4096 * 32
    found = floor_of(BIG, TrainingShape(micro_batch=4, max_length=2048), full_rows=True)
    assert found is not None
    assert found.useful_flops == pytest.approx(products + attention, rel=1e-3)
    assert found.weight_bytes == pytest.approx(2 * 8.03e9, rel=0.01)
    row = {"model": BIG, "rows": "full", "micro_batch": 4, "length": 2048, "quantization": "none"}
    row |= {"tokens_per_step": 8192, "tokens_per_second": 8192.0}
    beside = beside_floor(row, {"product_flops": {"4096": found.useful_flops * 2, "1024": 1.0}})
    assert beside["floor_s"] == pytest.approx(0.5)
    assert beside["floor_share"] == pytest.approx(0.5)


def test_a_job_survives_its_command_line():
    job = Job("trl", BIG, "full", 10, 4, 2, 128, checkpointing="auto", folder="/x")
    assert job_from(job.to_json()) == job


@pytest.mark.parametrize("part", ["truth", "peers", "short", "variants", "big"])
def test_every_step_of_a_part_has_a_module_a_known_model_and_a_name_of_its_own(part):
    steps = [step for group in groups_of(part, "/x", tiny=False) for step in group]
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        assert (page.ROOT / f"{step.command[1].replace('.', '/')}.py").exists()
        assert set(step.models) <= set(catalog_index())


def place(tmp_path, seconds=60.0):
    return Place(tmp_path, tmp_path, tmp_path, time.monotonic() + seconds)


def test_a_step_is_written_once_and_skipped_afterwards(tmp_path):
    step = Step("one", ("-c", "import time; print('noise'); print('{\"at\": %f}' % time.time())"), 30)
    run_group((step,), place(tmp_path))
    first = (tmp_path / "one.json").read_text()
    run_group((step,), place(tmp_path))
    assert is_done(step, tmp_path)
    assert (tmp_path / "one.json").read_text() == first


def test_a_step_that_is_cut_keeps_what_it_had_and_stays_open(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.gpu.steps.LEAST_S", 0)
    script = "import time; print('{\"rows\": [1]}', flush=True); time.sleep(60)"
    run_group((Step("one", ("-c", script), 2),), place(tmp_path))
    found = json.loads((tmp_path / "one.json").read_text())
    assert found["rows"] == [1]
    assert found["cut"]
    assert not is_done(Step("one", (), 2), tmp_path)


def test_a_step_that_fails_says_why(tmp_path):
    run_group((Step("one", ("-c", "raise ValueError('no card')"), 30),), place(tmp_path))
    assert not (tmp_path / "one.json").exists()
    assert record.first_lines(tmp_path / "one.failed.txt") == "ended with 1; ValueError: no card"


def test_no_step_begins_when_the_time_is_over(tmp_path):
    run_group((Step("one", ("-c", "print('{}')"), 30),), place(tmp_path, seconds=1))
    assert not list(tmp_path.glob("one.*"))


def test_the_last_whole_json_counts():
    assert last_json('{"a": 1}\n{"a": 2}\n{"a": \n done') == {"a": 2}
    assert last_json("nothing") is None


def test_trimming_a_wheel_leaves_its_record_true(tmp_path):
    wheel = tmp_path / "bitsandbytes-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for name in ("b/cuda130.so", "b/cuda118.so", "b/code.py"):
            made.writestr(name, "x")
        made.writestr("b.dist-info/RECORD", "b/cuda130.so,,\nb/cuda118.so,,\nb/code.py,,\n")
    kit._trim(tmp_path, "bitsandbytes-", kit._other_libraries)
    with zipfile.ZipFile(wheel) as found:
        assert set(found.namelist()) == {"b/cuda130.so", "b/code.py", "b.dist-info/RECORD"}
        assert found.read("b.dist-info/RECORD").decode() == "b/cuda130.so,,\nb/code.py,,\n"


def test_made_rows_are_short_the_same_each_time_and_spread():
    made = rows.made_rows()
    lengths = sorted(len(row["output"].split()) for row in made)
    assert made == rows.made_rows()
    assert len(made) == rows.SHORT_ROWS
    assert 70 < lengths[len(lengths) // 2] < 100
    assert lengths[len(lengths) // 10] < 40
    assert lengths[-len(lengths) // 10] > 200


def test_every_memory_case_is_run_once():
    assert sorted(order(38)) == list(range(38))
    assert order(38)[:5] == [0, 5, 10, 15, 20]
    assert order(38)[10] == 25
