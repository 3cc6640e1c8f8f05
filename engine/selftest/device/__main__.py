"""`python -m engine.selftest.device JOB OUT`: call the functions that JOB names in turn, tell of each in OUT.

Started by `engine.selftest.children`. A function takes its parameters and returns a `Finding` or raises; whatever it
raises is a failed check in words. After an error that leaves the CUDA context useless the process ends itself, so that
a fresh one goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, is_out_of_memory
from engine.selftest.checks import FAILED, SPENT, Finding

_WATCH_S = 0.5
_LOST_CONTEXT = ("CUDA error", "CUBLAS_STATUS", "illegal memory access", "device-side assert")


def main(arguments: list[str]) -> int:
    """Work through the job; returns the exit code."""
    job = json.loads(Path(arguments[0]).read_text())
    threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()
    with open(arguments[1], "a", encoding="utf-8") as out:
        for item in job["items"]:
            began = time.monotonic()
            finding, usable = _found(item, {**item["params"], "folder": job["folder"]})
            line = replace(finding, name=item["name"], seconds=round(time.monotonic() - began, 2)).to_dict()
            out.write(json.dumps(line, default=str) + "\n")
            out.flush()
            if not usable:
                return SPENT
    return 0


def _found(item: dict[str, Any], params: dict[str, Any]) -> tuple[Finding, bool]:
    """What a check found, and whether this process can go on."""
    module, _, name = item["run"].partition(":")
    try:
        function: Callable[[dict[str, Any]], Finding] = getattr(importlib.import_module(module), name)
        return function(params), True
    except Exception as error:
        traceback.print_exc()
        text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
        lost = any(sign in str(error) for sign in _LOST_CONTEXT) and not is_out_of_memory(error)
        return Finding(item["name"], FAILED, str(error) if isinstance(error, EngineError) else text), not lost


def _follow_parent(parent: int) -> None:
    """End this group when the command that started it is gone."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
