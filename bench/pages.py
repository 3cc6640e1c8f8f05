"""`python -m bench.pages`: the files that code writes; with `--check` it only says which are out of date.

Pictures of the deck (`python -m tui.shots docs`) and docs/journey.md (`python bench/journey.py docs`) take a terminal
and minutes, and stay out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import catalog, cli_page, families, published_sizes
from bench.gpu import page as benchmarks
from engine.profile import docs as profile

ROOT = Path(__file__).resolve().parents[1]
PAGES: Mapping[str, Callable[[str], str]] = {
    "engine/models/catalog.json": lambda _: catalog.compiled_json(),
    "engine/models/listed.py": lambda _: catalog.compiled_specs(),
    "docs/cli.md": lambda _: cli_page.text(),
    "docs/profile.md": lambda _: profile.reference(),
    "docs/benchmarks.md": benchmarks.page_text,
    "docs/training.md": benchmarks.training_text,
    "docs/families.md": lambda page: published_sizes.page_text(families.page_text(page)),
}
"""Each page with what makes it, given what the page says now: of some only a part is made.

Later ones are made from the first."""


def outdated(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """New texts of the pages that differ from what code would write, one after the other."""
    for name, make in PAGES.items():
        old = _read(root / name)
        new = make(old)
        if new != old:
            yield name, new


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write the pages that changed, or with `--check` name them and return 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a page is out of date")
    check = parser.parse_args(arguments).check
    found = False
    for name, text in outdated(root):
        found = True
        if check:
            sys.stderr.write(f"{name} is out of date: run 'make docs' and commit it\n")
        else:
            (root / name).write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}\n")
    return int(check and found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
