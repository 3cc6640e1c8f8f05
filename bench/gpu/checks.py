"""`python -m bench.gpu.checks WHAT`: tests and commands of the project on the card, as JSON.

`tests`: what runs beside other work; `calibration`: the test that measures the card and needs it alone; `probe`:
`engine probe --measure`; `demo`: `engine demo`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from bench.gpu.job import told
from bench.gpu.steps import ROOT

_ALONE = "measures_the_card"
_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu", "-k")
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected)")
_KEPT_LINES = 40


def pytest(chosen: str, *options: str) -> dict[str, Any]:
    """Counts of a pytest run, and the lines that name what failed."""
    done = _python(*_PYTEST, chosen, *options)
    lines = done.stdout.splitlines()
    counts = {name: int(count) for count, name in _COUNTS.findall(lines[-1] if lines else "")}
    told_lines = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    if not counts:
        raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return {**counts, "exit": done.returncode, "lines": told_lines[-_KEPT_LINES:]}


def probe() -> dict[str, Any]:
    """What the card was measured to do by the project itself."""
    done = _python("-m", "engine", "probe", "--measure", "--json")
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return {key: found.get(key) for key in ("gpus", "driver_version", "torch_version", "measured", "notes")}


def demo() -> dict[str, Any]:
    """The last lines of the demo, which hold both scores."""
    done = _python("-m", "engine", "demo")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return {"exit": done.returncode, "lines": lines[-_KEPT_LINES:], "log": done.stderr.splitlines()[-5:]}


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def main(what: str) -> None:
    """Run one of them."""
    if what == "tests":
        parallel = ("-n", "5") if find_spec("xdist") else ()
        told(pytest(f"not {_ALONE}", *parallel))
    elif what == "calibration":
        told(pytest(_ALONE))
    else:
        told({"probe": probe, "demo": demo}[what]())


if __name__ == "__main__":
    main(sys.argv[1])
