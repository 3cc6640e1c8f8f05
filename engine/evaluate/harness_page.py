"""What lm-evaluation-harness found, as a page of text in 80 columns. No torch here."""

from __future__ import annotations

from typing import Any

from engine.text import aligned, format_duration, sanitize, wrap

_DIRECTIONS = {1: "better", 0: "", -1: "worse"}


def harness_page(report: dict[str, Any]) -> str:
    """Heading and one line a task and metric."""
    return "\n".join(harness_lines(report)) + "\n"


def harness_lines(report: dict[str, Any]) -> list[str]:
    """The lines of `harness_page`."""
    limit = f", first {report['limit']} questions of each" if report["limit"] else ""
    asked = "in the chat template" if report["chat_template"] else "as the tasks write them"
    head = (
        f"{report['run']}: lm-evaluation-harness {report['lm_eval']}{limit}, prompts {asked}"
        f" ({report['dtype']}, {report['device']}, {format_duration(report['seconds'])})"
    )
    rows = [("", "n", "base", "tuned", "change [95 %]"), *map(_row, report["scores"])]
    return [*wrap(sanitize(head, single_line=True)), "", *aligned(rows)]


def _row(entry: dict[str, Any]) -> tuple[str, str, str, str, str]:
    name = f"{entry['task']} {entry['metric']}"
    if entry["filter"] not in ("", "none"):
        name += f" ({entry['filter']})"
    change = ""
    if entry["delta"] is not None:
        low, high = entry["interval"]
        change = f"{entry['delta']:+.3f}  [{low:+.3f}, {high:+.3f}]  {_DIRECTIONS[entry['direction']]}".rstrip()
    base = "" if entry["base"] is None else f"{entry['base']:.4g}"
    return (
        sanitize(name, max_chars=26, single_line=True),
        str(entry["rows"] or ""),
        base,
        f"{entry['tuned']:.4g}",
        change,
    )
