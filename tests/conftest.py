"""Settings for every test process; set before anything imports torch."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm.use import use_template

# Two processes with two OpenMP threads each on two cores run a hundred times slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).parents[1]

# What a person's own runs measured and kept, and models of their own list, must not change what tests expect.
_HOME = tempfile.TemporaryDirectory(prefix="tunedeck-test-home-")
os.environ["XDG_STATE_HOME"] = os.path.join(_HOME.name, "state")
os.environ["XDG_CACHE_HOME"] = os.path.join(_HOME.name, "cache")
os.environ["XDG_CONFIG_HOME"] = os.path.join(_HOME.name, "config")


# Python looks through all objects again and again: with torch and Textual loaded, a sixth of the suite's time.
gc.set_threshold(100_000, 50, 1000)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end of a run no worker is left alone with one of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a file of tests leaves behind is looked through once, not again for each of the next ones."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def worker_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """The socket of a process that has imported what workers need (`tests/warm/template.py`); None outside Linux."""
    if sys.platform != "linux":
        yield None
        return
    path = tmp_path_factory.mktemp("warm") / "socket"
    command = [sys.executable, "-m", "tests.warm.template", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield path
    process.stdin.close()
    process.wait(10)


@pytest.fixture
def warm_workers(worker_template: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers begin with their libraries imported: for tests of what a job does, not of how its process begins."""
    use_template(worker_template, monkeypatch)
