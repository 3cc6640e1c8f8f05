"""What a check may do to its process: called by name in child processes of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.selftest.checks import FAILED, PASSED, Finding


def passes(params):
    return Finding("", PASSED, f"in {os.getpid()}", {"number": float("nan") if params.get("nan") else 1.0})


def passes_second(params):
    mark = Path(params["mark"])
    tried = mark.exists()
    mark.touch()
    return Finding("", PASSED if tried else FAILED, "slow")


def measures(params):
    return Finding("", PASSED, "measured", {"tokens_per_second": params["speed"]})


def hangs(params):
    """With a grandchild, whose id is left in a file."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(params["folder"], "grandchild").write_text(str(other.pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def crashes(params):
    os.kill(os.getpid(), signal.SIGSEGV)


def is_killed(params):
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(params):
    raise EngineError("there is no room", code=ExitCode.RESOURCES, hint="make some")


def loses_the_card(params):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
