"""The parity report as text: for `parity.txt`, the terminal and the cards. No torch here.

Everything that came from data or a model is sanitised.
"""

from __future__ import annotations

import textwrap

from engine.export.report import ExportReport, FormatReport, OllamaReport
from engine.text import format_bytes, sanitize

_HEADER = ("format", "size", "memory", "logits off", "same token", "perplexity", "answers")
TEXT_CHARS = 200


def table_lines(report: ExportReport) -> list[str]:
    """A line a format, within 80 columns: size, memory, error of the logits, agreement, perplexity, equal answers."""
    rows = [_HEADER, *(_row(made) for made in report.formats)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _row(made: FormatReport) -> tuple[str, ...]:
    return (
        sanitize(made.format, max_chars=14, single_line=True),
        format_bytes(made.size_bytes),
        format_bytes(made.memory_bytes),
        _percent(made.figures.relative_rms),
        f"{made.figures.top1_agreement:.1%}",
        _perplexity(made.perplexity),
        answers_told(made),
    )


def answers_told(made: FormatReport) -> str:
    """`3/3 equal`: answers that are the merged model's to the letter; without one, how many ended by themselves."""
    answers = made.answers
    if any(found.same_as_merged is None for found in answers):
        return f"{sum(found.stopped for found in answers)}/{len(answers)} ended"
    return f"{sum(bool(found.same_as_merged) for found in answers)}/{len(answers)} equal"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"


def _perplexity(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}" if value < 1e5 else f"{value:.1e}"


def legend(report: ExportReport) -> list[str]:
    """What the columns were measured on, in lines of 80 columns."""
    first = report.formats[0]
    told = textwrap.wrap(
        f"{len(first.rows)} texts ({report.source}), {first.figures.positions} positions, read back by transformers "
        f"{report.transformers}. 'logits off' is their error as a share of their spread, 'answers' compares greedy "
        "answers with the merged model's.",
        80,
    )
    return told + (textwrap.wrap(ollama_told(report.ollama), 80) if report.ollama else [])


def ollama_told(report: OllamaReport) -> str:
    """What the Modelfile's TEMPLATE was proved on, in one sentence."""
    if not report.written:
        return "The Modelfile has no TEMPLATE: Ollama's templates cannot write what the chat template writes."
    if not report.compared:
        return "The Modelfile's TEMPLATE passes texts on as they are: the model has no chat template."
    covers = f" ({', '.join(report.covers)} among them)" if report.covers else ""
    lost = f" It writes no {' and no '.join(report.lost)}." if report.lost else ""
    same = f"{report.equal} of {report.compared} conversations"
    return sanitize(
        f"The Modelfile's TEMPLATE writes {same}{covers} as the chat template does.{lost}", single_line=True
    )


def page(report: ExportReport) -> str:
    """parity.txt: the table, then each format with its rows, stored types and answers."""
    parts = [
        "\n".join(table_lines(report)),
        "\n".join(legend(report)),
        *(_details(report, made) for made in report.formats),
    ]
    return "\n\n".join(parts) + "\n"


def _details(report: ExportReport, made: FormatReport) -> str:
    figures = made.figures
    allowed = "" if made.tolerance is None else f", {made.tolerance:.2g} allowed"
    lines = [
        f"{made.format}  against {made.against}: largest difference {figures.max_abs_diff:.3g}, "
        f"mean {figures.mean_abs_diff:.3g}; off by {_percent(figures.relative_rms)}{allowed}"
    ]
    if made.reloaded_max_abs_diff is not None:
        lines.append(f"  loaded again it differs from what was saved by {made.reloaded_max_abs_diff:.2g}")
    if made.misplaced is not None:
        lines.append(f"  PEFT alone misplaces {made.misplaced} of its tensors: its card says how it is loaded")
    if made.largest_weight_error is not None:
        lines.append(f"  no tensor is off by more than {_percent(made.largest_weight_error)} of its size")
    lines.append(f"  stored as {', '.join(f'{name} ({count:,} values)' for name, count in made.stored.items())}")
    lines.append(f"  chat template {_told(made.template_survives)}, stop token {_told(made.stops_survive)}")
    for number, row in enumerate(made.rows, 1):
        lines.append(
            f"  text {number}: {row.positions} positions, off by {_percent(row.relative_rms)}, same token "
            f"{row.top1_agreement:.1%}, perplexity {_perplexity(row.perplexity)}"
        )
    for prompt, found in zip(report.prompts, made.answers, strict=False):
        end = "ended by itself" if found.stopped else "ran to its limit"
        same = {None: "", True: ", as merged", False: ", unlike merged"}[found.same_as_merged]
        lines.append(f"  asked {_quoted(prompt)}")
        lines.append(f"    {_quoted(found.text)} ({found.tokens} tokens, {end}{same})")
    return "\n".join(lines)


def _told(survives: bool) -> str:
    return "kept" if survives else "LOST"


def _quoted(text: str) -> str:
    return repr(sanitize(text, max_chars=TEXT_CHARS, single_line=True))
