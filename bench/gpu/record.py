"""The findings of a results folder as one JSON document a card, which the tables and docs/benchmarks.md are made of.

Its parts: what the card is and can do, `speed` rows (with their floors), `variants`, `big`, `memory` cases, `profile`,
and `checks`. A part that was not run is not there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.gpu.floor import beside_floor
from bench.gpu.parts import jobs_of

RESULTS = Path(__file__).resolve().parents[1] / "results"
_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b")
_CHECKS = ("tests", "calibration", "probe", "demo")


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """A step's finding; None where there is none."""
    file = folder / f"{name}.json"
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def record_of(folder: Path) -> dict[str, Any]:
    """Everything in a results folder. Raises SystemExit where not even the card is known."""
    card = read(folder, "card")
    if card is None:
        raise SystemExit(f"{folder} has no card.json: run a part first")
    card.pop("took_s", None)
    tiny = bool((read(folder, "settings") or {}).get("tiny"))
    record = {**card, "tiny": tiny, "rows": (read(folder, "rows") or {}).get("rows")}
    record["speed"] = speed_rows(folder, card["ceilings"], tiny=tiny)
    record["variants"] = [
        {**row, "model": found["model"], "micro_batch": found["micro_batch"], "length": found["length"]}
        for name in ("variants", "compiled")
        if (found := read(folder, name))
        for row in found["variants"]
    ]
    record["big"] = big_rows(folder, card["ceilings"])
    record["memory"] = (read(folder, "memory") or {}).get("memory", [])
    record["profile"] = read(folder, "profile")
    record["checks"] = {name: found for name in _CHECKS if (found := read(folder, name))}
    record["failed"] = {file.name.split(".")[0]: first_lines(file) for file in sorted(folder.glob("*.failed.txt"))}
    return {key: value for key, value in record.items() if value not in (None, [], {})}


def speed_rows(folder: Path, ceilings: dict[str, Any], *, tiny: bool) -> list[dict[str, Any]]:
    """Each speed run with its setting and floor."""
    rows = []
    for part in ("peers", "short"):
        for name, job in jobs_of(part, tiny=tiny).items():
            if found := read(folder, name):
                rows.append(beside_floor({"name": name, **job.setting(), **found}, ceilings))
    return rows


def big_rows(folder: Path, ceilings: dict[str, Any]) -> list[dict[str, Any]]:
    """What `big` found; a case that does not fit is there with its reason."""
    found = [(file.stem, read(folder, file.stem) or {}) for file in sorted(folder.glob("big-*.json"))]
    return [
        {"name": name, **row} if "error" in row else beside_floor({"name": name, "tool": "tunedeck", **row}, ceilings)
        for name, row in found
    ]


def first_lines(file: Path) -> str:
    """Why a step failed: the first line, and the last one of its log that names an error."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    named = [line for line in lines[1:] if _ERROR.match(line)]
    return "; ".join([lines[0], *(line[:300] for line in named[-1:])])


def file_name(card: str, suffix: str = "") -> str:
    """`gpu-nvidia-h200.json`."""
    return f"gpu-{re.sub('[^a-z0-9]+', '-', card.lower()).strip('-')}{suffix}.json"


def write(path: Path, record: dict[str, Any]) -> None:
    """One document; lists of figures stay on their lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([-0-9.e+,\s]+?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
    path.write_text(text + "\n", encoding="utf-8")
