"""Each objective from the shell: it trains, tells its scores, and leaves an adapter."""

from __future__ import annotations

import json

import pytest

from tests.process.conftest import FAST

pytestmark = pytest.mark.usefixtures("warm_workers")

DATES = [(f"{day} March {year}", f"{year}-03-{day:02d}") for day in range(1, 29) for year in (1999, 2024)]


def rows_for(objective):
    for number, (written, iso) in enumerate(DATES):
        prompt = f"Write the date {written} as year-month-day."
        if objective == "pretrain":
            yield {"text": f"{prompt} {iso}"}
        elif objective == "kto":
            yield {"prompt": prompt, "completion": iso if number % 2 else written, "label": bool(number % 2)}
        else:
            yield {"prompt": prompt, "chosen": iso, "rejected": written}


def profile_for(shell, objective):
    (shell.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_for(objective)))
    text = FAST.replace('{ path = "demo:dates.train.jsonl", format = "prompt-completion" }', '{ path = "rows.jsonl" }')
    return shell.write("p.toml", text.replace("[train]\n", f'[train]\nobjective = "{objective}"\n'))


@pytest.mark.parametrize("objective", ["pretrain", "dpo", "orpo", "kto", "reward"])
def test_an_objective_trains_and_its_loss_falls(shell, events, objective):
    done = shell.engine("train", profile_for(shell, objective), "--json")
    assert done.code == 0, done.err
    told = events(shell.runs[0])
    evaluated = [event for event in told if event["type"] == "eval"]
    assert evaluated[-1]["loss"] < evaluated[0]["loss"]
    assert (shell.runs[0] / "adapter" / "adapter_model.safetensors").is_file()
    if objective != "pretrain":
        first, *_, last = [event for event in told if event["type"] == "train_step"]
        ahead = [event["reward_preferred"] - event["reward_other"] for event in (first, last)]
        assert ahead[1] > ahead[0]
        assert ("accuracy" in last) == (objective != "kto")
    phases = [event["name"] for event in told if event["type"] == "phase"]
    assert ("reference" in phases) == (objective in ("dpo", "kto"))
    if objective == "reward":
        refused = shell.engine("evaluate", "last", "--json")
        assert refused.code == 2
        assert "scores answers and writes none" in refused.json["error"]["message"]


def test_the_last_layers_alone_train_and_are_saved_whole(shell, events):
    (shell.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_for("pretrain")))
    text = FAST.replace('method = "lora"', 'method = "freeze"\ntrainable_layers = 1').replace("[lora]\nr = 4\n", "")
    done = shell.engine("train", shell.write("p.toml", text), "--json")
    assert done.code == 0, done.err
    (started,) = [event for event in events(shell.runs[0]) if event["type"] == "started"]
    assert 0 < started["trainable_parameters"] < 0.5 * started["total_parameters"]
    assert list((shell.runs[0] / "model").glob("*.safetensors"))
    report = shell.engine("evaluate", "last", "--json")
    assert report.code == 0, report.err
    assert report.json["tuned"]["loss"] < report.json["base"]["loss"]


def test_rows_without_a_comparison_are_a_data_error(shell):
    profile = profile_for(shell, "dpo")
    (shell.folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 4)
    done = shell.engine("train", profile, "--json")
    assert done.code == 3
    assert "preference" in done.json["error"]["message"]
