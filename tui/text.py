"""Text made ready for widgets: sanitised, cut to cells, styled without markup; bars and short numbers.

Every string that came from a file passes `safe` here. Nothing in the deck hands data to Textual as
markup: a `[/x]` in a log line would raise, a `[@click=…]` would be a link.
"""

from __future__ import annotations

import os

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from engine.api.fit import GIB, Plan
from engine.text import sanitize

Part = str | tuple[str, str]

VERDICT_STYLES = {"OK": "$success", "TIGHT": "$warning", "NO": "$error"}
STATE_STYLES = {
    "running": "$accent",
    "starting": "$accent",
    "stopping": "$warning",
    "completed": "$success",
    "failed": "$error",
    "not started": "$error",
    "lost": "$error",
}


def safe(text: object, max_chars: int = 300) -> str:
    """One line of anything, without control characters."""
    return sanitize(str(text), max_chars=max_chars, single_line=True)


def trouble(error: Exception) -> str:
    """What happened, where and what to do, as one safe line: a notice that is cut names the key that reads it whole."""
    parts = (str(error), getattr(error, "where", ""), getattr(error, "hint", ""))
    return safe(" · ".join(part for part in parts if part), 900)


def short_path(path: object) -> str:
    """A path as one safe line, the home folder as `~`."""
    text, home = str(path), os.path.expanduser("~")
    inside = len(home) > 1 and (text == home or text.startswith(home + os.sep))
    return safe("~" + text[len(home) :] if inside else text, 400)


def clip(text: str, cells: int) -> str:
    """`text` in at most `cells` columns, with an ellipsis where something was cut."""
    if cells <= 0:
        return ""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…"


def middle(text: str, cells: int) -> str:
    """`text` in at most `cells` columns, cut in its middle: names that begin alike differ at their end."""
    if cells <= 0:
        return ""
    if cell_len(text) <= cells:
        return text
    end = min(cells // 2, 14) if cells > 8 else cells // 2
    return set_cell_size(text, cells - 1 - end) + tail(text, end + 1)


def tail(text: str, cells: int) -> str:
    """The end of `text` in at most `cells` columns: of keys and paths it tells more than the beginning."""
    while cell_len(text) > cells:
        text = "…" + text[2:]
    return text


def fit(text: str, cells: int) -> str:
    """`text` in exactly `cells` columns, left-aligned."""
    return set_cell_size(clip(text, cells), max(0, cells))


def fit_right(text: str, cells: int) -> str:
    """`text` in exactly `cells` columns, right-aligned."""
    shown = clip(text, cells)
    return " " * (cells - cell_len(shown)) + shown


def line(*parts: Part) -> Content:
    """A line of parts, each plain or with a style; never read as markup."""
    return Content.assemble(*parts)


def spread(left: list[Part], right: list[Part], cells: int) -> Content:
    """`left` and `right` at the two ends of `cells` columns; what does not fit is cut from the left part."""
    right_content = Content.assemble(*right)
    room = max(0, cells - right_content.cell_length - 1)
    left_content = Content.assemble(*left).truncate(room, ellipsis=True)
    gap = max(1, cells - left_content.cell_length - right_content.cell_length)
    return Content.assemble(left_content, " " * gap, right_content)


def bar(fraction: float, cells: int, style: str = "$accent") -> list[Part]:
    """A horizontal bar; above 1 it is full and hatched."""
    if fraction > 1.0:
        return [("▓" * cells, style)]
    full = min(cells, max(0, round(fraction * cells)))
    if fraction > 0 and full == 0:
        full = 1
    return [("█" * full, style), ("░" * (cells - full), "dim")]


def thin_bar(fraction: float, cells: int, style: str) -> list[Part]:
    """A horizontal bar for rows under each other, where solid blocks would run into one."""
    full = min(cells, max(1 if fraction > 0 else 0, round(fraction * cells)))
    return [("━" * full, style), ("─" * (cells - full), "dim")]


def gib(count: float | None, digits: int = 1) -> str:
    """GiB as a bare number, `n/a` when unknown."""
    if count is None:
        return "n/a"
    value = count / GIB
    return f"{value:.{2 if abs(value) < 1 and digits else digits}f}"


def number(value: float | None, spec: str = ".3f") -> str:
    """A number, or `n/a`."""
    return "n/a" if value is None or value != value else format(value, spec)


def rate(value: float | None) -> str:
    """Tokens per second: `4,100`, `12.5`, `–`."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def age(seconds: float) -> str:
    """`3 s`, `12 min`, `5 h`, `2 d`: how long ago, in one unit."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds // size))} {unit}"
    return f"{int(seconds // 86400)} d"


def plan_device(plan: Plan) -> str:
    """`GPU 1`, `CPU`."""
    return safe(plan.card) or ("CPU" if plan.device_index is None else "GPU")
