"""`engine selftest`: check that results, predictions and speed are right on this machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.common import json_option, line, note, print_error, print_json, width
from engine.libraries import check_libraries

if TYPE_CHECKING:
    from engine.selftest.checks import Finding
    from engine.selftest.plan import SelftestPlan
    from engine.selftest.record import Record, StepRecord


def _number(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse `nan`, which passes click's range check."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number of minutes; the range is 0.1<=x<=240.")
    return value


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0.1, 240),
    callback=_number,
    help="Minutes for the whole test; default: 3 on a processor, 10 on a GPU.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to test; default: the one that runs use.")
@click.option("--plan", "only_plan", is_flag=True, help="Show the checks and their times, and run none.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a report for an issue, without names of machine or user.",
)
@json_option
def selftest(minutes: float | None, device: str | None, only_plan: bool, report: Path | None, as_json: bool) -> None:
    """Check on this machine that fast kernels compute correctly, every precision trains, and predictions hold.

    'engine fit' uses the measured speeds from then on. Exit code 9: a wrong result, a failure to train, a slow
    path, or nothing could be checked; 5: only memory predictions were too low; 8: stopped. docs/selftest.md
    explains the report.
    """
    from engine.hardware.probe import probe_machine
    from engine.selftest.checks import place_of
    from engine.selftest.plan import plan_selftest
    from engine.selftest.report import check_report_path

    if report is not None:
        check_report_path(report)
    if not only_plan:
        check_libraries(lambda code, message: note(f"warning: {message}"))
    plan = plan_selftest(place_of(probe_machine(), device), minutes)
    if only_plan:
        _show_plan(plan, as_json)
        return
    code = _run(plan, report, as_json)
    if code:
        raise click.exceptions.Exit(code)


def _show_plan(plan: SelftestPlan, as_json: bool) -> None:
    from engine.selftest.page import plan_lines
    from engine.selftest.plan import to_json

    if as_json:
        print_json(to_json(plan))
        return
    for text in plan_lines(plan, width()):
        line(text)


def _run(plan: SelftestPlan, report: Path | None, as_json: bool) -> int:
    from engine.selftest import settings
    from engine.selftest.page import count_line, progress_line, result_lines
    from engine.selftest.record import exit_code, to_json
    from engine.selftest.run import NO_TIME, run_selftest

    columns = width()

    def tell(record_of_step: StepRecord, finding: Finding) -> None:
        ran = finding.text != NO_TIME and finding.name != settings.NAME
        if record_of_step.step.alone and record_of_step.step.items and ran:
            note(count_line(record_of_step))

    record = run_selftest(plan, lambda step: note(progress_line(step)), tell)
    unwritten = _write(report, record) if report is not None else 0
    if as_json:
        print_json(to_json(record))
    else:
        for text in result_lines(record, columns):
            line(text)
    note(f"saved: {record.path}")
    return int(exit_code(record)) or unwritten


def _write(report: Path, record: Record) -> int:
    """Write the report; 0, or the exit code if that failed. Messages go to stderr, since stdout has the result."""
    from engine.errors import EngineError
    from engine.selftest.record import to_json
    from engine.selftest.report import write_report

    try:
        write_report(report, to_json(record))
    except EngineError as error:
        print_error(error, as_json=False)
        return int(error.code)
    note(f"report for an issue, without names of machine or user: {report}")
    return 0
