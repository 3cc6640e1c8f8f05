"""`engine data check|preview`: show how a profile's data is read, tokenized and packed, before training.

Both resolve the profile here and run in a worker, the only process that loads a tokenizer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine.cli.common import color, json_option, line, note, print_json, table, warn
from engine.cli.flags import group_flags
from engine.cli.profile_argument import profile_argument, set_option
from engine.data.choices import LengthChoices, choices_of
from engine.data.unread import Unread, named
from engine.text import format_count, sanitize

_SHOWN_TOKEN_CHARS = 60
_COLORS = {"thoughts": "magenta", "calls": "cyan", "results": "yellow"}
LEGEND = "⟦…⟧ is trained on, ⟨…⟩ is not; T = a thought, C = a call, R = the result of a tool"


@click.group()
@group_flags
def data() -> None:
    """Check a data set, or preview its tokens and mask."""


@data.command()
@profile_argument()
@set_option
@json_option
def check(profile: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Read, tokenize and pack the data of PROFILE as training does, and report what was kept, cut and dropped."""
    result = _run("data_check", profile, overrides, as_json)
    report = result["report"]
    if as_json:
        print_json({**report, "at_lengths": result["lengths"]})
        return
    for text in [*report_lines(report), "", *length_lines(choices_of(result["lengths"]))]:
        line(text)
    for warning in report["warnings"]:
        warn(warning)


@data.command()
@profile_argument()
@set_option
@click.option("--rows", type=click.IntRange(1, 1000), default=2, show_default=True, help="Rows to show.")
@click.option("--from", "first_row", type=click.IntRange(1), default=1, show_default=True, help="Row to begin with.")
@click.option("--dataset", type=click.IntRange(1, 1000), help="Only rows of that data set; default: some of each.")
@click.option("--words", default="", metavar="WORDS", help="Only rows that have all of these words.")
@click.option("--tokens", "by_token", is_flag=True, help="One token a line, with its id.")
@json_option
def preview(
    profile: Path,
    overrides: tuple[str, ...],
    rows: int,
    first_row: int,
    dataset: int | None,
    words: str,
    by_token: bool,
    as_json: bool,
) -> None:
    """Show the first rows of PROFILE as the model sees them. ⟦…⟧ encloses the trained tokens.

    Where rows have more than text, T⟦…⟧ is a thought, C⟦…⟧ a call, R⟨…⟩ the result of a tool; ⟨…⟩ is not trained on.
    """
    asked = {"rows": rows, "first_row": first_row, "words": words, "dataset": dataset or 0}
    result = _run("data_preview", profile, overrides, as_json, **asked)
    if as_json:
        print_json(result)
        return
    line(f"template  {result['template']['name']} ({result['template']['why']})")
    if any(token["part"] for document in result["documents"] for token in document["tokens"]):
        line(LEGEND)
    for document in result["documents"]:
        _show_document(document, result["max_length"], by_token=by_token)
    if not result["documents"] and not result["problems"]:
        note("no row is like that: --from and --words say which rows are shown")
    for problem in result["problems"]:
        note(f"{problem['path']}, row {problem['row']}: {problem['cause']} {problem['detail']}")
    for warning in result["warnings"]:
        warn(warning)


def _run(job: str, profile: Path, overrides: tuple[str, ...], as_json: bool, **params: Any) -> dict[str, Any]:
    from engine.cli.progress import Progress
    from engine.hardware.probe import probe_machine
    from engine.profile.load import load_profile
    from engine.resolve.resolve import resolve_profile
    from engine.runs.launch import run_job

    resolved = resolve_profile(load_profile(profile, overrides), probe_machine(processes=False))
    progress = Progress(quiet=as_json)
    try:
        return run_job({"job": job, "run_json": resolved.to_run_json(), **params}, progress)
    finally:
        progress.close()


def report_lines(report: dict[str, Any]) -> list[str]:
    """Format the report for a terminal: files, dropped rows with causes, sets, lengths."""
    lines: list[str] = []
    for dataset in report["datasets"]:
        lines += _dataset_lines(dataset)
    header = ("", "rows", "sequences", "tokens", "trained on", "filled")
    sets = [_set_row("train", report["train"])]
    if report["validation"]:
        sets.append(_set_row("validation", report["validation"]))
    lines += ["", *table(sets, header=header, right=(1, 2, 3, 4, 5)), ""]
    lines.append(f"template    {report['template']} ({report['template_why']}); ends: {' '.join(report['ends'])}")
    spread = "  ".join(f"{name} {value}" for name, value in report["lengths"]["percentiles"].items())
    lines.append(f"lengths     {spread}  (max_length {report['max_length']})")
    lines.append(f"duplicates  {report['duplicates']}")
    if report["from_cache"]:
        lines.append("prepared    earlier, from the same rows and settings; read from the cache")
    lines.append(f"held out    {report['validation_source'] if report['validation'] else 'nothing'}")
    return lines


def length_lines(choices: LengthChoices | None) -> list[str]:
    """What powers of two as `max_length` would do, beside the profile's own and the one that cuts nothing."""
    if choices is None:
        return []
    told = {choices.max_length, choices.longest}
    shown = [at for at in choices.at if at.max_length in told or at.max_length & (at.max_length - 1) == 0]
    rows = [
        (
            f"{at.max_length:,}" + " *" * (at.max_length == choices.max_length),
            f"{at.rows_cut:,}",
            f"{at.rows_dropped:,}",
            format_count(at.tokens_lost),
            f"{at.sequences:,}",
            f"{at.filled:.1%}",
        )
        for at in shown
    ]
    header = ("max_length", "rows cut", "dropped", "tokens lost", "sequences", "filled")
    return table(rows, header=header, right=(1, 2, 3, 4, 5))


def _dataset_lines(dataset: dict[str, Any]) -> list[str]:
    lost = sum(drop["rows"] for drop in dataset["dropped"])
    counts = f"{dataset['rows_read']} rows read, {dataset['kept']} kept, {dataset['cut']} of them cut, {lost} dropped"
    lines = [dataset["path"], f"  {dataset['why']}", f"  {counts}"]
    for drop in dataset["dropped"]:
        rows = ", ".join(map(str, drop["first_rows"])) + (", …" if drop["rows"] > len(drop["first_rows"]) else "")
        detail = f" ({drop['detail']})" if drop["detail"] else ""
        lines.append(f"  {drop['rows']} dropped: {drop['cause']}{detail}: row {rows}")
    lines += [f"  {text}" for text in dataset["notes"]]
    return lines + unread_lines(dataset["unread"])


def unread_lines(unread: Sequence[dict[str, Any]]) -> list[str]:
    """Columns and message keys that nobody reads: those that matter on a line of their own, before the others."""
    found = [Unread(one["what"], one["name"], one["rows"], one["matters"]) for one in unread]
    lost, rest = [one for one in found if one.matters], [one for one in found if not one.matters]
    lines = [f"  not read, and it may matter: {named(lost)}"] if lost else []
    return lines + ([f"  not read: {named(rest)}"] if rest else [])


def _set_row(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    tokens, trained = part["tokens"], part["trained_tokens"]
    return (
        name,
        str(part["rows"]),
        str(part["sequences"]),
        format_count(tokens),
        f"{format_count(trained)} ({trained / max(tokens, 1):.0%})",
        f"{part['packing_efficiency']:.1%}",
    )


def _show_document(document: dict[str, Any], max_length: int, *, by_token: bool) -> None:
    line()
    over = f", cut to {max_length}" if document["length"] > max_length else ""
    counts = f"{document['length']} tokens{over}, {document['trained_tokens']} trained on"
    line(f"{Path(document['path']).name}, row {document['row']}: {counts}")
    tokens = [token for token in document["tokens"] if token["kept"]]
    if by_token:
        rows = [(_enclosed("", *_look(token)), str(token["id"]), _visible(token["text"])) for token in tokens]
        for text in table(rows, header=("trained", "id", "text"), right=(1,)):
            line(text)
        return
    runs_text = [
        _run_text("".join(token["text"] for token in run), *look) for look, run in itertools.groupby(tokens, _look)
    ]
    click.echo("".join(runs_text))


def _look(token: dict[str, Any]) -> tuple[bool, str]:
    return bool(token["trained"]), str(token["part"])


def _run_text(text: str, trained: bool, part: str) -> str:
    shown = _enclosed(sanitize(text, max_chars=100_000), trained, part)
    return color(shown, _COLORS.get(part, "green")) if trained or part else shown


def _enclosed(text: str, trained: bool, part: str) -> str:
    """Text in the brackets of what is trained on or not, with the letter of its part."""
    letter = "" if part in ("", "text") else part[0].upper()
    if trained:
        return f"{letter}⟦{text}⟧"
    return f"{letter}⟨{text}⟩" if part else text


def _visible(text: str) -> str:
    """Quote a token, so that blanks show; a token without text of its own continues a character."""
    return repr(text[:_SHOWN_TOKEN_CHARS]) if text else "(continues the character before)"
