"""Going on: a run from an adapter, and a run from the state of another, from the shell."""

from __future__ import annotations

import pytest

from tests.process.conftest import FAST

SHORT = FAST.replace("max_steps = 6", "max_steps = 2").replace("eval_steps = 3", "eval_steps = 2")


@pytest.mark.usefixtures("warm_workers")
def test_a_branch_and_an_adapter_begin_where_the_run_ended(shell, events):
    def evals(run):
        return [event["loss"] for event in events(run) if event["type"] == "eval"]

    assert shell.engine("train", shell.write("p.toml", SHORT), "--json").code == 0
    (first,) = shell.runs
    end = evals(first)[-1]
    begun = SHORT.replace('method = "lora"', f'adapter = "{first.name}"').replace("[lora]\nr = 4\n", "")
    done = shell.engine("train", shell.write("q.toml", begun), "--name", "on", "--json")
    assert done.code == 0, done.err
    on = shell.runs[-1]
    assert evals(on)[0] == pytest.approx(end, abs=1e-6)
    assert evals(on)[-1] < end

    branched = shell.engine("runs", "branch", on.name, "--set", "train.learning_rate=1e-3", "--name", "more", "--json")
    assert branched.code == 0, branched.err
    parent = branched.json["parent"]
    assert (parent["run"], parent["step"], parent["moments"]) == (on.name, 2, True)
    assert parent["differences"] == [{"key": "train.learning_rate", "was": 0.002, "now": 0.001}]
    more = shell.runs[-1]
    assert evals(more)[0] == pytest.approx(evals(on)[-1], abs=1e-6)
    assert evals(more)[-1] < evals(on)[-1]
