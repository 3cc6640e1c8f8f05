"""Every branch that a CUDA card takes, forward and backward, on a machine without one.

    python bench/cuda_dry.py --setup DIR        an environment with torch for CUDA and this project, once (6 GB)
    DIR/bin/python bench/cuda_dry.py            all branches on cards of capability 7.5, 8.0, 9.0 and 10.0
    DIR/bin/python bench/cuda_dry.py --cards 9.0 --json FILE

torch with CUDA compiled in finds a card that a small library stands in for, and works on fake tensors: device, dtype
and shape without values. Everything up to the kernels runs: the engine's choice of kernels by capability, torch's own
checks of what they are given, autograd, checkpointing, streams and events. Not shown: values, what a kernel itself
refuses when it is launched, Triton programs (Liger's are stood in for), and time. Ends with 1 where a branch fails
that is not among the expected limits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARDS = ("7.5", "8.0", "9.0", "10.0")
TIMEOUT_S = 900
SQUARES = "squares"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limit:
    """What is known not to work, or to build squares of scores, and why."""

    branch: str
    """How the branch's name begins."""
    reason: str
    cards: tuple[str, ...] = CARDS
    dtypes: tuple[str, ...] = ("bf16", "fp16", "fp32")

    def covers(self, row: Row) -> bool:
        """Whether it is about this row."""
        named = str(row["branch"]).startswith(self.branch)
        return named and row["card"] in self.cards and row["dtype"] in self.dtypes


LIMITS = (Limit("attention: soft cap without flex", "the way of a card that cannot compile flex attention"),)


def main() -> int:
    """Set up, or run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", type=Path, metavar="DIR")
    parser.add_argument("--cards", nargs="+", default=list(CARDS), metavar="CAPABILITY")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rows there")
    options = parser.parse_args()
    if options.setup is not None:
        set_up(options.setup)
        return 0
    rows = [row for card in options.cards for row in run_card(card)]
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    for line in table(rows):
        print(line)
    wrong = [row for row in rows if is_wrong(row)]
    print(f"\n{len(rows)} branches, {len(wrong)} wrong")
    return 1 if wrong else 0


def set_up(folder: Path) -> None:
    """A virtual environment with this project, whose torch is the registry's: on Linux the one for CUDA."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", f"{ROOT}[kernels]"], check=True)


def run_card(capability: str) -> list[Row]:
    """Every branch on a card of this capability, in a process of its own."""
    sys.path.insert(0, str(ROOT))
    from bench.dry import card

    with tempfile.TemporaryDirectory() as folder:
        variables = card.environment(card.build(Path(folder)), capability)
        variables["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "bench.dry.branches"]
        done = subprocess.run(
            command, env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not rows:
        raise SystemExit(
            f"card {capability}: ended with {done.returncode} after {len(rows)} branches\n{done.stderr[-2000:]}"
        )
    return [{"card": capability, **row} for row in rows]


def is_limited(row: Row) -> bool:
    """A failure, or squares of scores."""
    return "error" in row or SQUARES in row["kernels"]


def is_wrong(row: Row) -> bool:
    """Limited without a limit that explains it."""
    return is_limited(row) and not any(limit.covers(row) for limit in LIMITS)


def told(row: Row) -> str:
    """What became of a branch, in a cell."""
    found = str(row["error"]).replace("|", "/") if "error" in row else " ".join(row["kernels"]) or "done"
    if not is_limited(row):
        return found
    reasons = [limit.reason for limit in LIMITS if limit.covers(row)]
    return f"{found} (expected: {reasons[0]})" if reasons else f"WRONG: {found}"


def table(rows: Iterable[Row]) -> list[str]:
    """Branch and dtype against cards, as Markdown."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["branch"], row["dtype"]), {})[row["card"]] = told(row)
    cards = list(dict.fromkeys(card for found in cells.values() for card in found))
    lines = [
        "| branch | dtype | " + " | ".join(f"sm {card}" for card in cards) + " |",
        "|---|---|" + "---|" * len(cards),
    ]
    for (branch, dtype), found in cells.items():
        lines.append(f"| {branch} | {dtype} | " + " | ".join(found.get(card, "") for card in cards) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
