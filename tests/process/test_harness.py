"""Tasks of lm-evaluation-harness, run by lm_eval itself where it is installed, with the models of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process.finished_runs import ROWS, job, make_base, make_run

pytest.importorskip("lm_eval", reason="the optional extra 'harness' is not installed")

from engine.errors import EngineError, ExitCode
from engine.evaluate.harness import run as harness
from engine.inference.losses import Encoded, score
from engine.inference.run import models, open_run

CHOICE = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{text}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: {metric}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = make_base(tmp_path_factory.mktemp("models") / "tiny-llama")
    return make_run(tmp_path_factory.mktemp("runs") / "finished", base)


def tasks(folder: Path, *, text: str = "{{ask}} ", metric: str = "acc") -> Path:
    (folder / "tasks").mkdir()
    rows = [{"ask": ask, "answer": number % 2} for number, (ask, _) in enumerate(ROWS)]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks" / "mine.yaml").write_text(CHOICE.format(name="my_choice", data=data, text=text, metric=metric))
    return folder / "tasks"


def wanted(finished: Path, folder: Path, **more: Any) -> Any:
    return job(finished, tasks=["my_choice"], tasks_folder=str(folder), **more)


def accuracy(tokenizer: Any, model: Any) -> float:
    """The same by our own sum of log likelihoods."""
    right = 0
    for number, (ask, _) in enumerate(ROWS):
        rows = []
        for choice in ("yes", "no"):
            # lm_eval counts a space between both to the answer.
            before = tokenizer(ask, add_special_tokens=False).input_ids
            whole = tokenizer(f"{ask} {choice}", add_special_tokens=False).input_ids
            rows.append(Encoded(tuple(whole), tuple([-100] * len(before) + whole[len(before) :])))
        losses = score(model, rows, 0, lambda *_: None, lambda *_: None)
        right += min((0, 1), key=lambda place: losses[place].nll) == number % 2
    return right / len(ROWS)


def test_base_and_tuned_are_asked_as_they_are_loaded(finished: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    report = harness(wanted(finished, tasks(tmp_path)))
    (found,) = report["scores"]
    assert (found["task"], found["metric"], found["rows"]) == ("my_choice", "acc", 12)
    tokenizer = AutoTokenizer.from_pretrained(finished / "tokenizer")
    for name, model in models(open_run(job(finished)), "cpu", lambda *_: None):
        assert found[name] == pytest.approx(accuracy(tokenizer, model)), name
    assert found["delta"] == pytest.approx(found["tuned"] - found["base"])
    assert Path(report["report"]).read_text().startswith("finished: lm-evaluation-harness")
    limited = harness(wanted(finished, tmp_path / "tasks", rows=5, chat=True))
    assert limited["scores"][0]["rows"] == 5


def test_an_unknown_task_has_a_near_name(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no task 'my_choise'") as caught:
        harness(job(finished, tasks=["my_choise"], tasks_folder=str(tasks(tmp_path))))
    assert caught.value.code is ExitCode.PROFILE
    assert caught.value.hint == "did you mean 'my_choice'?"


def test_a_template_does_not_leave_its_sandbox(finished: Path, tmp_path: Path) -> None:
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(EngineError, match="SecurityError: access to attribute"):
        harness(wanted(finished, tasks(tmp_path, text=reach)))


def test_a_metric_that_is_a_script_is_not_loaded(finished: Path, tmp_path: Path) -> None:
    script = tmp_path / "evil" / "evil.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    with pytest.raises(EngineError, match="is a script to be loaded and run") as caught:
        harness(wanted(finished, tasks(tmp_path, metric=str(script.parent))))
    assert "--allow-task-code" in caught.value.hint
    assert not (tmp_path / "canary").exists()


def test_data_that_are_not_there_are_said(finished: Path, tmp_path: Path) -> None:
    folder = tasks(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(EngineError, match="could not run my_choice") as caught:
        harness(wanted(finished, folder))
    assert caught.value.code is ExitCode.DATA
