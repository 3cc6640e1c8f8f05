"""A run on shuffled answers is not called better: its answers no longer depend on their prompts."""

from __future__ import annotations

import json
import random

from engine.demo.paths import data_file
from tests.process.conftest import FAST


def rows(name):
    return [json.loads(line) for line in data_file(name).read_text().splitlines()]


def test_shuffled_answers_are_not_better(shell):
    """They lower the perplexity and share more words with the references, as the manner is learnt."""
    train = rows("dates.train")[:600]
    answers = [row["completion"] for row in train]
    random.Random(0).shuffle(answers)
    mixed = [{**row, "completion": answer} for row, answer in zip(train, answers, strict=True)]
    (shell.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    text = FAST.replace("demo:dates.train.jsonl", "rows.jsonl").replace("validation_fraction = 0.1", "")
    text = text.replace("max_samples = 60", 'validation_path = "demo:dates.test.jsonl"')
    text = text.replace("max_steps = 6", "max_steps = 60").replace("max_samples = 4", "max_samples = 40")
    text = text.replace("eval_steps = 3", "eval_steps = 60").replace("save_steps = 2", "save_steps = 60")
    done = shell.engine("train", shell.write("p.toml", text), "--json")
    assert done.code == 0, done.err
    report = shell.engine("evaluate", "last", "--json")
    assert report.code == 0, report.err
    found = report.json
    assert found["tuned"]["perplexity"] < found["base"]["perplexity"]
    assert found["verdict"] != "better", found["verdict_reason"]
