"""Talking to a trained run: from a pipe, streamed, silenced, and never left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from engine.errors import EngineError
from engine.runs.store import find_run
from engine.runs.talk import Talk
from tests.process.conftest import FAST, Shell
from tests.warm.use import use_template

OPTIONS = {"base": False, "max_new_tokens": 40, "temperature": 0.0, "top_p": 0.95, "seed": None}
QUESTION = [{"role": "user", "content": "Write 16 Jul 1992 as an ISO date."}]


@pytest.fixture(scope="module")
def hot(tmp_path_factory, worker_template):
    """A run whose rate was so high that every answer is another one."""
    shell = Shell(tmp_path_factory.mktemp("chat"))
    profile = FAST.replace("learning_rate = 2e-3", "learning_rate = 3e-2")
    with pytest.MonkeyPatch.context() as patch:
        use_template(worker_template, patch)
        done = shell.engine("train", shell.write("p.toml", profile), "--json")
    assert done.code == 0, done.err
    return shell


@pytest.fixture
def trained(hot, monkeypatch):
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, hot.environment[name])
    return hot


@pytest.mark.usefixtures("warm_workers")
def test_lines_of_a_pipe_are_answered_one_by_one(trained):
    command = [sys.executable, "-m", "engine", "chat", "last", "--max-new-tokens", "8", "--json"]
    lines = "Write 16 Jul 1992 as an ISO date.\n\nWhat is 1 May 2020 in ISO 8601?\n"
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, env=trained.environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["prompt"] for answer in answers] == [line for line in lines.split("\n") if line]
    assert all(0 < answer["tokens"] <= 8 or answer["stopped"] for answer in answers)


@pytest.mark.usefixtures("warm_workers")
def test_answers_stream_can_be_ended_and_differ_from_the_base(trained):
    with Talk(find_run("last")) as talk:
        assert [event["type"] for event in talk.wait_ready()][-1] == "ready"
        *parts, answer = talk.ask(QUESTION, **OPTIONS)
        assert "".join(part["text"] for part in parts).strip() == answer["text"].strip()
        assert list(talk.ask(QUESTION, **OPTIONS))[-1]["text"] == answer["text"]
        assert list(talk.ask(QUESTION, **{**OPTIONS, "base": True}))[-1]["text"] != answer["text"]
        hot = {**OPTIONS, "temperature": 1.5, "max_new_tokens": 24}
        sampled = [list(talk.ask(QUESTION, **{**hot, "seed": seed}))[-1]["text"] for seed in (1, 1, 2)]
        assert sampled[0] == sampled[1] != sampled[2]
        long = talk.ask(QUESTION, **{**hot, "base": True, "max_new_tokens": 5000, "seed": 5})
        first = next(long)
        talk.silence()
        last = [first, *long][-1]
        assert last["silenced"] or last["stopped"] or last["tokens"] == 5000
        place, worker = talk.place, talk._process
        (refused,) = talk.ask([{"role": "user", "content": "word " * 30_000}], **OPTIONS)
        assert (refused["type"], "context" in refused["message"]) == ("refused", True)
    assert worker.poll() == 0
    assert not place.exists()


@pytest.mark.usefixtures("warm_workers")
def test_a_worker_whose_owner_is_gone_ends(trained):
    code = (
        "import os, sys; from engine.runs.talk import Talk; from engine.runs.store import find_run\n"
        "talk = Talk(find_run('last')); list(talk.wait_ready()); print(talk._process.pid, flush=True); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=trained.environment, timeout=90
    )
    worker = int(done.stdout)
    until = time.monotonic() + 20
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie" and time.monotonic() < until:
        time.sleep(0.2)
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie"


@pytest.mark.usefixtures("warm_workers")
def test_a_run_without_weights_is_told(shell, hot, monkeypatch):
    shutil.copytree(hot.folder, shell.folder, dirs_exist_ok=True)
    (run,) = shell.runs
    (run / "adapter" / "adapter_model.safetensors").unlink()
    done = shell.engine("chat", "last", "--json")
    assert done.code == 4
    assert "left no trained weights" in done.json["error"]["message"]
    monkeypatch.setenv("XDG_STATE_HOME", shell.environment["XDG_STATE_HOME"])
    with Talk(find_run("last")) as talk, pytest.raises(EngineError, match="left no trained weights"):
        list(talk.wait_ready())
