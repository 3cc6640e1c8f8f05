"""What is not called better: answers that no longer depend on their prompts, and a gain that cost what was known."""

from __future__ import annotations

import json
import random

import pytest

from engine.demo.corpus import corpus_rows
from engine.demo.paths import data_file
from tests.process.conftest import FAST

pytestmark = pytest.mark.usefixtures("warm_workers")


def rows(name):
    return [json.loads(line) for line in data_file(name).read_text().splitlines()]


@pytest.fixture
def held_out(shell):
    """A few of the rows that the demo keeps for its tests."""
    shell.write("held-out.jsonl", "".join(json.dumps(row) + "\n" for row in rows("dates.test")[:48]))


@pytest.mark.usefixtures("held_out")
def test_shuffled_answers_are_not_better(shell):
    """They lower the perplexity and share more words with the references, as the manner is learnt."""
    train = rows("dates.train")[:600]
    answers = [row["completion"] for row in train]
    random.Random(0).shuffle(answers)
    mixed = [{**row, "completion": answer} for row, answer in zip(train, answers, strict=True)]
    (shell.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    text = FAST.replace("demo:dates.train.jsonl", "rows.jsonl").replace("validation_fraction = 0.1", "")
    text = text.replace("max_samples = 60", 'validation_path = "held-out.jsonl"')
    text = text.replace("max_steps = 6", "max_steps = 30").replace("max_samples = 4", "max_samples = 24")
    text = text.replace("eval_steps = 3", "eval_steps = 30").replace("save_steps = 2", "save_steps = 30")
    done = shell.engine("train", shell.write("p.toml", text), "--json")
    assert done.code == 0, done.err
    report = shell.engine("evaluate", "last", "--json")
    assert report.code == 0, report.err
    found = report.json
    assert found["tuned"]["perplexity"] < found["base"]["perplexity"]
    assert not found["verdict"].startswith("better"), found["verdict_reason"]


@pytest.mark.usefixtures("held_out")
@pytest.mark.parametrize(("rate", "verdict"), [("5e-3", "better, but forgetting"), ("2e-4", "better")])
def test_a_rate_that_is_too_high_is_found_out(shell, rate, verdict):
    """Every weight learns dates; what else the model could do is lost at the high rate and stays at the low one."""
    others = [json.dumps(row) for row in corpus_rows(7, 120)]
    (shell.folder / "other.jsonl").write_text("".join(f"{row}\n" for row in others if "date" not in row.lower()))
    text = FAST.replace('method = "lora"', 'method = "full"').replace("learning_rate = 2e-3", f"learning_rate = {rate}")
    text = text.replace("max_samples = 60\nvalidation_fraction = 0.1", 'validation_path = "held-out.jsonl"')
    text = text.replace("[lora]\nr = 4\n", "").replace("max_steps = 6", "max_steps = 20")
    text = text.replace("eval_steps = 3", "eval_steps = 20").replace("save_steps = 2", "save_steps = 20")
    text = text.replace("max_samples = 4", 'max_samples = 20\nmetrics = ["perplexity", "retention"]')
    text = text.replace("[launch]", 'retention_path = "other.jsonl"\n[launch]')
    done = shell.engine("train", shell.write("p.toml", text), "--json")
    assert done.code == 0, done.err
    report = shell.engine("evaluate", "last")
    assert report.code == 0, report.err
    found = json.loads(next(shell.runs[0].glob("eval/report.json")).read_text())
    assert found["verdict"] == verdict, found["verdict_reason"]
    assert found["retention"]["forgetting"] is (verdict != "better")
    assert found["delta"]["retention"] == pytest.approx(found["retention"]["rise"])
    assert f"verdict: {verdict} - " in report.out
    assert "loss on other text" in report.out
