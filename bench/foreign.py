"""`python -m bench.foreign TOOL FOLDER`: what import makes of every key of another tool's example files.

TOOL is llamafactory or axolotl, FOLDER a checkout of its repository. Prints the table of docs/import.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import EngineError
from engine.profile.foreign.closing import accounts
from engine.profile.foreign.draft import Draft, listed
from engine.profile.foreign.read import read_draft
from engine.text import sanitize

TITLES = {
    "carried": "Carried over",
    "changed": "Carried over, not quite the same",
    "not needed": "Harmless, by reason",
    "left out": "Listed as not carried over, by reason",
}
_STAND_INS = ({}, {"data": Path("demo:dates")}, {"model": "demo"}, {"model": "demo", "data": Path("demo:dates")})


def drafts(tool: str, files: Sequence[Path], data: Path) -> Iterator[tuple[Path, Draft | str]]:
    """Each file as a draft, or why it is refused; a model and data stand in where it names none."""
    for file in files:
        answer: Draft | str = ""
        for given in _STAND_INS:
            try:
                answer = read_draft([file], dialect=tool, dataset_dir=data if data.is_dir() else None, **given)  # type: ignore[arg-type]
                break
            except EngineError as error:
                answer = error.message
        yield file, answer


def reason_of(draft: Draft, place: str) -> str:
    """What the notes say of a place or of what is around it, without the value."""
    around = [place[:end] for end in range(len(place), 0, -1) if end == len(place) or place[end] == "."]
    for name in around:
        for note in draft.notes:
            if note.key == name:
                value = listed(_value(draft, name), name)
                return note.message.removeprefix(f"{value}: ").removeprefix(f"split {value}: ")
    return ""


def _value(draft: Draft, place: str) -> object:
    if place in draft.told:
        return draft.told[place]
    root = next((name for name in draft.told if place.startswith(f"{name}.")), "")
    value: object = draft.told.get(root)
    for step in place.removeprefix(f"{root}.").split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step) if isinstance(value, dict) else None
    return value


def page(tool: str, folder: Path) -> str:
    """The table in Markdown."""
    files = sorted(path for kind in ("yaml", "yml") for path in (folder / "examples").rglob(f"*.{kind}"))
    kinds: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    totals: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for _, draft in drafts(tool, files, folder / "data"):
        if isinstance(draft, str):
            refused[draft] += 1
            continue
        for place, kind in accounts(draft).items():
            totals[kind] += 1
            key = ".".join(step for step in place.split(".") if not step.isdigit())
            kinds[kind][reason_of(draft, place) if kind in ("not needed", "left out") else ""][key] += 1
    lines = [
        f"{len(files)} files, {sum(totals.values())} keys and items in them:",
        "",
        "| outcome | keys |",
        "|---|---|",
    ]
    lines += [f"| {title.lower()} | {totals[kind]} |" for kind, title in TITLES.items()]
    lines += [f"| lost without a word | {totals['']} |", ""]
    lines += [f"Refused whole, so that nothing is lost: {count} ({reason})." for reason, count in refused.items()]
    for kind, title in TITLES.items():
        lines += ["", f"#### {title}", ""]
        for reason, keys in sorted(kinds[kind].items(), key=lambda item: -sum(item[1].values())):
            names = ", ".join(f"`{_shown(key)}` {count}" for key, count in sorted(keys.items()))
            lines.append(f"- {_shown(reason)}: {names}" if reason else names)
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    return sanitize(text, max_chars=160, single_line=True).replace("|", "/").replace("`", "'")


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.foreign", description=__doc__)
    parser.add_argument("tool", choices=["llamafactory", "axolotl"])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    sys.stdout.write(page(asked.tool, asked.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
