"""What a profile's data become, as text: report, problems, examples with the trained tokens marked. Pure functions.

Drawn by `screens/data.py`; the facts come from the jobs `data_check` and `data_preview` of a worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from textual.content import Content

from engine.errors import EngineError
from engine.text import format_count, sanitize
from tui.text import Part, fit, fit_right, line, safe, short_path

BEGIN, END = "⟦", "⟧"
_LOOKS = {"thoughts": "$secondary", "calls": "$accent", "results": "$warning"}
_LEGEND = "T⟦…⟧ a thought  C⟦…⟧ a call  R⟨…⟩ a tool's result  ⟨…⟩ not trained on"
EXAMPLE_CHARS = 4000
_NAME_CELLS = 12


def report_content(report: Mapping[str, Any]) -> Content:
    """Files, formats, what was dropped and why, sets, lengths, template, warnings."""
    lines: list[Content] = []
    for dataset in report["datasets"]:
        lines += _dataset(dataset)
    lines += [Content(""), *_sets(report), Content("")]
    lines.append(_row("template", f"{report['template']} ({report['template_why']})"))
    lines.append(_row("answers end", " ".join(report["ends"])))
    spread = "  ".join(f"{name} {value:,}" for name, value in report["lengths"]["percentiles"].items())
    lines.append(_row("tokens", f"{spread}  of at most {report['max_length']:,}"))
    lines.append(_row("held out", report["validation_source"] if report["validation"] else "nothing"))
    if report["duplicates"]:
        lines.append(_row("duplicates", f"{report['duplicates']:,}"))
    lines += [line(("warning     ", "$warning"), safe(text, 400)) for text in report["warnings"]]
    return Content("\n").join(lines)


def _row(name: str, text: object) -> Content:
    return line((fit(name, _NAME_CELLS), "dim"), safe(text, 400))


def _dataset(dataset: Mapping[str, Any]) -> list[Content]:
    lost = sum(drop["rows"] for drop in dataset["dropped"])
    lines = [
        line((short_path(dataset["path"]), "bold")),
        _row("format", dataset["why"]),
        _row(
            "rows", f"{dataset['rows_read']:,} read, {dataset['kept']:,} kept, {dataset['cut']:,} cut, {lost:,} dropped"
        ),
    ]
    for drop in dataset["dropped"]:
        rows = ", ".join(map(str, drop["first_rows"])) + (", …" if drop["rows"] > len(drop["first_rows"]) else "")
        detail = f" ({safe(drop['detail'], 120)})" if drop["detail"] else ""
        words = f"{drop['rows']:,} × {safe(drop['cause'], 120)}{detail}: row {rows}"
        lines.append(line((fit("dropped", _NAME_CELLS), "$warning"), words))
    lines += [_row("note", text) for text in dataset["notes"]]
    return lines + _unread(dataset.get("unread", ()))


def _unread(unread: Sequence[Mapping[str, Any]]) -> list[Content]:
    """Columns and message keys that nobody reads; those that matter first and marked."""
    found = []
    for matters in (True, False):
        named = [
            f"{one['name'] if one['what'] == 'column' else one['what'] + ' ' + one['name']} ({one['rows']:,} rows)"
            for one in unread
            if one["matters"] is matters
        ]
        style = "$warning" if matters else "dim"
        if named:
            found.append(line((fit("not read", _NAME_CELLS), style), safe(", ".join(named), 400)))
    return found


_HEADS = (("", 11), ("rows", 9), ("sequences", 11), ("tokens", 11), ("trained on", 18), ("filled", 9))


def _sets(report: Mapping[str, Any]) -> list[Content]:
    lines = [Content.styled("".join(fit_right(name, cells) for name, cells in _HEADS), "dim")]
    for name in ("train", "validation"):
        part = report[name]
        if part:
            share = part["trained_tokens"] / max(1, part["tokens"])
            trained = f"{format_count(part['trained_tokens'])} ({share:.0%})"
            cells = (f"{part['rows']:,}", f"{part['sequences']:,}", format_count(part["tokens"]), trained)
            texts = (*cells, f"{part['packing_efficiency']:.1%}")
            row = "".join(fit_right(text, width) for text, (_, width) in zip(texts, _HEADS[1:], strict=True))
            lines.append(line((fit(name, _HEADS[0][1]), "bold"), row))
    return lines


def keys_line(has_lengths: bool, searched: bool, width: int) -> Content:
    """The keys of the pane; what does not fit is left out, last first."""
    keys = [("esc", "close"), ("/", "search"), ("g", "row"), ("n", "next found" if searched else "next rows")]
    line_keys = [("←→", "length"), ("enter", "take it")] if has_lengths else []
    shown: list[Part] = []
    for key, word in [*keys[:1], *line_keys, *keys[1:], ("r", "read again")]:
        more: list[Part] = [(key, "bold $accent"), f" {word}  "]
        if line(*shown, *more).cell_length <= width + 2:
            shown += more
    return line(*shown)


def examples_content(preview: Mapping[str, Any], row: int = 1, words: str = "") -> Content:
    """Rows as the model reads them, from `row` on and with `words` where asked; what is in brackets is trained on."""
    asked = (f"from row {row:,} " if row > 1 else "") + (f"with '{safe(words, 40)}' " if words else "")
    shown: list[Content] = [
        line(("examples ", "bold"), asked, (f"as the model reads them; {BEGIN}…{END} is trained on", "dim")),
    ]
    if any(token.get("part") for document in preview["documents"] for token in document["tokens"]):
        shown.append(Content.styled(_LEGEND, "dim"))
    if not preview["documents"]:
        shown.append(Content(f"no row {asked or 'can be used'}".rstrip()))
    for document in preview["documents"]:
        shown += [Content(""), *_document(document, int(preview["max_length"]))]
    for problem in preview["problems"]:
        text = (
            f"{short_path(problem['path'])}, row {problem['row']}: {safe(problem['cause'])} {safe(problem['detail'])}"
        )
        shown.append(line(("not usable  ", "$warning"), text))
    shown += [line(("warning  ", "$warning"), safe(text, 400)) for text in preview["warnings"]]
    return Content("\n").join(shown)


def _document(document: Mapping[str, Any], max_length: int) -> list[Content]:
    over = f", cut to {max_length:,}" if document["length"] > max_length else ""
    head = f"row {document['row']}  {document['length']:,} tokens{over}, {document['trained_tokens']:,} trained on"
    tokens = [token for token in document["tokens"] if token["kept"]]
    return [Content.styled(head, "dim"), marked(tokens)]


def marked(tokens: Sequence[Mapping[str, Any]]) -> Content:
    """Tokens as text, each run of trained ones in brackets, with a letter and color for what it is."""
    parts: list[Part] = []
    room = EXAMPLE_CHARS
    for (trained, part), run in itertools.groupby(tokens, _look):
        text = sanitize("".join(str(token["text"]) for token in run), max_chars=EXAMPLE_CHARS)
        if room <= 0:
            parts.append(("…", "dim"))
            break
        room -= cell_len(text)
        letter = "" if part in ("", "text") else part[0].upper()
        if trained:
            parts.append((f"{letter}{BEGIN}{text}{END}", _LOOKS.get(part, "$success")))
        else:
            parts.append((f"{letter}⟨{text}⟩", _LOOKS.get(part, "dim")) if part else (text, "dim"))
    return line(*parts)


def _look(token: Mapping[str, Any]) -> tuple[bool, str]:
    return bool(token["trained"]), str(token.get("part", ""))


def trouble_content(error: EngineError) -> Content:
    """Why the data cannot be used, every problem with its row and remedy."""
    shown = [line((safe(error.message, 600), "bold $error"))]
    if error.where:
        shown.append(_row("where", short_path(error.where)))
    for problem in error.problems[:200]:
        place = safe(problem.where or problem.key)
        shown.append(line((f"{place}  ", "bold"), safe(problem.message, 600), (f"  {safe(problem.hint, 400)}", "dim")))
    if error.hint:
        shown.append(_row("remedy", error.hint))
    return Content("\n").join(shown)
