"""Dates in words, and the task that the demonstration teaches: to rewrite them as ISO 8601.

The base model knows every way of `STYLES` to write a date, but has never seen an ISO date, nor the questions
of `ASKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from engine.demo.words import MONTHS, WEEKDAYS

FIRST_DAY = date(1900, 1, 1)
DAY_COUNT = (date(2100, 1, 1) - FIRST_DAY).days

ASKS = (
    "Rewrite this date as ISO 8601: {}",
    "Convert to ISO 8601: {}",
    "What is {} in ISO 8601?",
    "Give the ISO date for {}.",
    "Write {} as an ISO date.",
    "ISO date, please: {}",
)
"""Phrasings of the tuning task."""


def any_date(rng: Random) -> date:
    """A day of the twentieth or twenty-first century, all equally likely."""
    return FIRST_DAY + timedelta(days=rng.randrange(DAY_COUNT))


def ordinal(day: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    suffix = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def _month(day: date) -> str:
    return MONTHS[day.month - 1]


STYLES: dict[str, Callable[[date], str]] = {
    "American": lambda d: f"{_month(d)} {d.day}, {d.year}",
    "British": lambda d: f"{d.day} {_month(d)} {d.year}",
    "formal": lambda d: f"the {ordinal(d.day)} of {_month(d)}, {d.year}",
    "ordinal": lambda d: f"{_month(d)} {ordinal(d.day)}, {d.year}",
    "short": lambda d: f"{d.day} {_month(d)[:3]} {d.year}",
    "slash": lambda d: f"{d.day:02d}/{_month(d)[:3]}/{d.year}",
    "full": lambda d: f"{WEEKDAYS[d.weekday()]}, {d.day} {_month(d)} {d.year}",
}
"""Name of a way to write dates -> the date written that way. Names appear in the base model's questions."""


def any_style(rng: Random, day: date) -> str:
    """`day` written in one of the styles."""
    return STYLES[rng.choice(tuple(STYLES))](day)


def iso_rows(seed: int, train_count: int, test_count: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows `{"prompt", "completion"}` of the tuning task; no date stands in both lists."""
    rng = Random(seed)
    days = rng.sample(range(DAY_COUNT), train_count + test_count)
    rows = [_iso_row(rng, FIRST_DAY + timedelta(days=offset)) for offset in days]
    return rows[:train_count], rows[train_count:]


def _iso_row(rng: Random, day: date) -> dict[str, str]:
    return {"prompt": rng.choice(ASKS).format(any_style(rng, day)), "completion": day.isoformat()}
