"""lm-evaluation-harness: what is refused before it runs, how results are compared, and the page. Without lm_eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.evaluate import evaluate
from engine.errors import EngineError, ExitCode
from engine.evaluate import harness_tasks
from engine.evaluate.harness import scores
from engine.evaluate.harness_page import harness_lines
from engine.evaluate.harness_tasks import check_tasks

PLAIN = 'task: mine\ndataset_path: json\ndoc_to_text: "{{question}}"\nmetric_list:\n  - metric: acc\n'


def folder(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "tasks").mkdir()
    for name, text in files.items():
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text)
    return tmp_path / "tasks"


def test_not_installed_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness_tasks, "find_spec", lambda name: None)
    found = CliRunner().invoke(evaluate, ["last", "--harness", "arc_easy"])
    assert isinstance(found.exception, EngineError)
    assert found.exception.code is ExitCode.ENVIRONMENT
    assert "is not installed" in found.exception.message
    assert "pip install 'tunedeck[harness]'" in found.exception.hint


def test_a_plain_task_is_let_through(tmp_path: Path) -> None:
    check_tasks(folder(tmp_path, mine=PLAIN, more="include: mine.yaml\ntask: more\n"), allow_code=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN + "process_docs: !function utils.process\n", "!function runs code"),
        (PLAIN + "process_docs:\n  deep:\n    - !function utils.process\n", "!function runs code"),
        ("%TAG !f! !func\n---\ntask: x\nprocess_docs: !f!tion utils.process\n", "!function runs code"),
        ("task: x\nprocess_docs: !<!function> utils.process\n", "!function runs code"),
        ("task: x\nprocess_docs: !!python/name:os.system\n", "python/name:os.system runs code"),
        ("include: /somewhere/else.yaml\ntask: x\n", "outside the folder"),
        ("include: [../else.yaml]\ntask: x\n", "outside the folder"),
        ("task: [\n", "cannot be read"),
    ],
)
def test_a_task_with_code_is_refused_unless_allowed(tmp_path: Path, text: str, words: str) -> None:
    tasks = folder(tmp_path, good=PLAIN, bad=text)
    with pytest.raises(EngineError) as caught:
        check_tasks(tasks, allow_code=False)
    assert caught.value.code is ExitCode.PROFILE
    assert words in caught.value.message
    assert "bad.yaml" in caught.value.where
    assert caught.value.hint
    check_tasks(tasks, allow_code=True)


def test_every_place_is_listed(tmp_path: Path) -> None:
    tasks = folder(tmp_path, a="a: !function x.y\nb: !function x.z\n", b="c: !function x.y\n")
    with pytest.raises(EngineError, match="3 problems") as caught:
        check_tasks(tasks, allow_code=False)
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == [
        "a.yaml:1",
        "a.yaml:2",
        "b.yaml:1",
    ]


def test_folders_that_hold_no_task(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", folder(tmp_path)):
        with pytest.raises(EngineError):
            check_tasks(place, allow_code=True)


def result(values: list[float], **more: Any) -> dict[str, Any]:
    samples = [{"doc_id": number, "filter": "none", "acc": value} for number, value in enumerate(values)]
    return {
        "results": {"t": {"alias": "t", "acc,none": sum(values) / len(values), "acc_stderr,none": 0.1} | more},
        "higher_is_better": {"t": {"acc": True, "ppl": False}},
        "samples": {"t": samples},
    }


def test_scores_are_paired_by_question() -> None:
    base, tuned = [0.0] * 8 + [1.0] * 12, [1.0] * 18 + [0.0] * 2
    found = scores({"base": result(base, **{"ppl,none": 9.0}), "tuned": result(tuned, **{"ppl,none": 4.0})})
    acc, ppl = found
    assert (acc["metric"], acc["base"], acc["tuned"], acc["rows"]) == ("acc", 0.6, 0.9, 20)
    assert acc["delta"] == pytest.approx(0.3)
    assert acc["interval"][0] < 0.3 < acc["interval"][1]
    assert (ppl["better"], ppl["delta"], ppl["interval"], ppl["direction"]) == (-1, None, None, 0)
    (only,) = scores({"tuned": result(tuned)})
    assert (only["base"], only["delta"]) == (None, None)


def test_the_page_fits_80_columns() -> None:
    entries = scores({"base": result([0.0] * 20), "tuned": result([1.0] * 20)})
    report = {
        "run": "20260101-000000-a-run-with-a-long-name-abcd",
        "limit": 20,
        "chat_template": True,
        "lm_eval": "0.4.13",
        "dtype": "bf16",
        "device": "cuda",
        "seconds": 9.0,
        "scores": [*entries, entries[0] | {"task": "a_task_with_a_very_long_name_indeed\x1b[2J", "filter": "flexible"}],
    }
    lines = harness_lines(report)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert any(line.startswith("t acc") and line.endswith("better") for line in lines)
