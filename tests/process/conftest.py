"""Commands run as a user runs them, in a state directory of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FAST = """
[model]
name_or_path = "demo"
max_length = 128
dtype = "fp32"
[tuning]
method = "lora"
[lora]
r = 4
[data]
datasets = [{ path = "demo:dates.train.jsonl", format = "prompt-completion" }]
max_samples = 60
validation_fraction = 0.1
[train]
per_device_train_batch_size = 4
gradient_accumulation_steps = 1
learning_rate = 2e-3
max_steps = 6
eval_steps = 3
save_steps = 2
[evaluate]
max_samples = 4
max_new_tokens = 16
[launch]
device = "cpu"
threads = 1
"""
"""A profile that trains the built-in model in seconds."""


@dataclass(frozen=True)
class Result:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs `engine` with a private home; `folder` is where it runs."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        return {
            **os.environ,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "NO_COLOR": "1",
        }

    @property
    def runs(self) -> list[Path]:
        """Run directories, oldest first."""
        root = self.folder / "state" / "tunedeck" / "runs"
        return sorted(root.iterdir()) if root.is_dir() else []

    def engine(self, *arguments: str, timeout: float = 180) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "engine", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, text: str) -> str:
        """A file in `folder`; returns its name."""
        (self.folder / name).write_text(text)
        return name


@pytest.fixture(scope="session")
def device_rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first run measured of this device, for runs of later tests."""
    return tmp_path_factory.mktemp("device-rates")


@pytest.fixture
def shell(tmp_path: Path, device_rates: Path, request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A shell in a folder of its own; where workers are warm, so is what they measure once of each device."""
    shell = Shell(tmp_path)
    kept = shell.folder / "state" / "tunedeck" / "calibration"
    if "warm_workers" not in request.fixturenames:
        yield shell
        return
    shutil.copytree(device_rates, kept)
    yield shell
    for path in kept.glob("*.rates.json"):
        shutil.copy(path, device_rates)


@pytest.fixture
def events() -> Callable[[Path], list[dict[str, Any]]]:
    """Events of a run directory."""
    from engine.runs.events import read_events

    return lambda run: read_events(run / "events.jsonl")[0]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.process.finished_runs import make_base

    return make_base(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    from tests.process.finished_runs import make_run

    return make_run(tmp_path_factory.mktemp("runs") / "finished", base)


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    """A run of one's own to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
