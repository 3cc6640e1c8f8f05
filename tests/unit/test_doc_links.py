"""Pages in Markdown: every one can be found, and every relative link leads somewhere."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.md")])


def prose(page: Path) -> str:
    """Its text without code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def links(page: Path) -> list[str]:
    """Targets of links and pictures inside this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link can name behind `#`."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dropped = str.maketrans("", "", string.punctuation.replace("-", "").replace("_", ""))
    return {head.lower().translate(dropped).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name}: no file {target}"
        assert place.is_relative_to(ROOT), f"{page.name}: {target} leaves the repository"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page.name}: no heading {target}"


def test_the_index_lists_every_page_once() -> None:
    listed = [target for target in links(ROOT / "docs/README.md") if "/" not in target]
    in_tables = re.findall(r"^\| \[[^]]+\]\(([^)/]+)\)", (ROOT / "docs/README.md").read_text(), re.MULTILINE)
    there = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(listed) == there
    assert sorted(in_tables) == sorted(there - {"glossary.md"})


def test_the_readme_leads_to_the_index() -> None:
    assert "docs/README.md" in links(ROOT / "README.md")


def test_every_picture_is_shown_on_a_page() -> None:
    shown = {Path(target).name for page in PAGES for target in links(page)}
    assert {picture.name for picture in (ROOT / "docs").glob("*.svg")} - shown == set()
