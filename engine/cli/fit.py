"""`engine fit` and `engine recommend`: what this machine can tune, how, and why.

Only options, layout and exit codes; the plans come from `engine.recommend`. Functions import what they
need, because a cold `engine fit` must answer within a quarter of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.common import NO_FIT, device_option, json_option, line, note, print_json, warn
from engine.cli.fit_detail import show_choices, show_detail
from engine.cli.fit_table import machine_lines, show_table
from engine.cli.names import complete_models
from engine.errors import EngineError, ExitCode
from engine.recommend.fit_report import FitReport, document
from engine.recommend.room import limit_words

if TYPE_CHECKING:
    from engine.hardware.machine import Gpu, Machine
    from engine.memory.exact import ExactMemory
    from engine.recommend.plan import Plan, Requirements

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TABLE_ROWS = 20
_METHODS = ("lora", "freeze", "full")
_QUANTIZATIONS = ("none", "nf4", "fp4", "int8")


def _filters(function: _Function) -> _Function:
    options = (
        click.option("--gpu", metavar="NAME", help="Plan for this card, e.g. 'RTX 4090' or '2 x H100'."),
        device_option,
        click.option("--count", type=click.IntRange(1, 64), default=1, help="Number of --gpu cards."),
        click.option("--context", type=click.IntRange(16, 1_048_576), help="Tokens in one sequence."),
        click.option("--goal", type=click.Choice(["quality", "speed"]), default="quality", help="What ranks first."),
        click.option(
            "--complexity", type=click.Choice(["simple", "medium", "high", "extreme"]), help="Complexity of the task."
        ),
        click.option("--memory", metavar="GIB", type=click.FloatRange(0.25), help="Most device memory to use, in GiB."),
        click.option("--batch", type=click.IntRange(1, 65_536), default=16, help="Sequences in an optimizer step."),
        click.option("--method", type=click.Choice(_METHODS), help="Adapters, the last two layers, or every weight."),
        click.option("--micro-batch", type=click.IntRange(1, 4096), help="Sequences in one pass; default: searched."),
        click.option("--latency-ms", type=click.FloatRange(1), help="Longest wait for the first token of an answer."),
        click.option("--tokens", type=click.IntRange(1), help="Tokens in the training data, to estimate the time."),
        click.option("--epochs", type=click.FloatRange(0.01, 1000), default=1.0, help="Passes over --tokens."),
        click.option("--rank", type=click.IntRange(1, 1024), default=16, help="Rank of the adapters."),
        click.option("--quantization", type=click.Choice(_QUANTIZATIONS), help="Storage of frozen weights."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(epilog=NO_FIT)
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_models)
@_filters
@click.option("--why", is_flag=True, help="Show terms, reasons and alternatives of every model.")
@click.option("--exact", is_flag=True, help="Also simulate a step of each MODEL: about ten seconds, needs torch.")
@click.option("--limit", type=click.IntRange(0), help="Rows to show; 0 = all.")
@json_option
def fit(
    models: tuple[str, ...],
    gpu: str | None,
    count: int,
    why: bool,
    exact: bool,
    limit: int | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Rank models on this machine, or show one model's estimate term by term.

    MODEL is a directory, a .gguf file, 'demo', a hub id or a name from the list.
    """
    from engine.models.catalog import load_catalog
    from engine.recommend.search import plan_model, rank_models

    if exact and not models:
        raise click.UsageError("--exact needs a MODEL")
    machine = _machine(gpu, count, filters["device"])
    requirements = _requirements(filters, machine)
    specs = _resolve(models, simulated=exact)
    rows = limit if limit is not None or as_json else _TABLE_ROWS
    detailed = why or exact or len(specs) == 1
    if specs and detailed:
        plans = [plan_model(spec, machine, requirements) for spec in specs]
    else:
        plans = rank_models(machine, requirements, specs or None, most=None if specs else rows or None)
    listed, total = plans, len(specs) or len(load_catalog())
    if why and not specs:
        listed = [plan_model(plan.model, machine, requirements) for plan in listed]
    data = filters["tokens"], filters["epochs"]
    answers = [
        FitReport(plan, _simulated(machine, plan) if exact else None, *data, *_cards(machine, plan)) for plan in listed
    ]
    if as_json:
        print_json(document(machine, answers, total))
    else:
        _show(machine, answers, total, detailed=detailed)
    if specs and any(answer.verdict == "NO" for answer in answers):
        raise click.exceptions.Exit(int(ExitCode.RESOURCES))


@click.command(epilog=NO_FIT)
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--data", "data_path", type=click.Path(path_type=Path), help="File of training examples.")
@click.option("--write", "target", type=click.Path(path_type=Path), help="Write the choices as a profile (TOML).")
@_filters
@json_option
def recommend(
    model: str | None,
    data_path: Path | None,
    target: Path | None,
    gpu: str | None,
    count: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """Choose settings for this machine and write a profile.

    Without MODEL, the best of the list is used. --write makes a new file and never overwrites one.
    """
    from engine.recommend.search import plan_model, rank_models

    machine = _machine(gpu, count, filters["device"])
    requirements = _requirements(filters, machine)
    spec = _resolve((model,))[0] if model else rank_models(machine, requirements, most=1)[0].model
    plan = plan_model(spec, machine, requirements)
    error = _does_not_fit(plan, target) if plan.verdict == "NO" else None
    if target is not None and error is None:
        _write(plan, target, data_path, requirements)
    answer = FitReport(plan, None, filters["tokens"], filters["epochs"], *_cards(machine, plan))
    if as_json:
        _print_recommendation(document(machine, [answer], 1), target, error)
    else:
        show_choices(machine, answer, target)
    if error is not None:
        raise click.exceptions.Exit(int(error.code)) if as_json else error


def _print_recommendation(fields: dict[str, Any], target: Path | None, error: EngineError | None) -> None:
    """Print one document; if the model does not fit, the error is part of it, so that stdout is one JSON value."""
    written = str(target) if target is not None and error is None else None
    print_json({**fields, "written": written, **({"error": error.to_dict()} if error else {})})


def _machine(gpu: str | None, count: int, device: str) -> Machine:
    from engine.hardware.probe import hypothetical_machine, probe_machine

    if gpu is None and count != 1:
        raise click.UsageError("--count needs --gpu NAME")
    if gpu is not None and device.lower() not in ("auto", "cpu"):
        raise click.UsageError("--device names a GPU of this machine, --gpu another card: use one of them")
    return hypothetical_machine(gpu, count) if gpu else probe_machine()


def _requirements(filters: dict[str, Any], machine: Machine) -> Requirements:
    from engine.memory.shape import GIB
    from engine.recommend.device import on_device
    from engine.recommend.plan import Requirements

    requirements = Requirements(
        max_length=filters["context"],
        complexity=filters["complexity"],
        goal=filters["goal"],
        total_batch=filters["batch"],
        method=filters["method"],
        quantization=filters["quantization"],
        micro_batch=filters["micro_batch"],
        lora_r=filters["rank"],
        latency_ms=filters["latency_ms"],
        memory_bytes=None if filters["memory"] is None else int(filters["memory"] * GIB),
    )
    return on_device(requirements, machine, filters["device"])


def _resolve(names: Sequence[str], *, simulated: bool = False) -> list[Any]:
    from engine.models.catalog import catalog_problem
    from engine.models.resolve import resolve_model

    if problem := catalog_problem():
        warn(problem)
    return [resolve_model(name, simulated=simulated) for name in names]


def _simulated(machine: Machine, plan: Plan) -> ExactMemory:
    from engine.memory.exact import exact_memory

    note(f"simulating a step of {plan.model.name} …")
    return exact_memory(plan.model, plan.shape, _cards(machine, plan)[0])


def _cards(machine: Machine, plan: Plan) -> tuple[Gpu | None, tuple[Gpu, ...]]:
    """The plan's card, and all cards of the machine."""
    from engine.hardware.cards import listed_gpus

    return None if plan.device_index is None else machine.gpus[plan.device_index], listed_gpus(machine)


def _write(plan: Plan, target: Path, data_path: Path | None, asked: Requirements) -> None:
    if target.exists():
        raise EngineError(
            "the file exists", code=ExitCode.PROFILE, where=str(target), hint="name another, or remove it"
        )
    if data_path is not None and not data_path.is_file():
        raise EngineError("no such data file", code=ExitCode.DATA, where=str(data_path), hint="check the path")
    from engine.profile.save import write_profile
    from engine.resolve.resolve import plan_to_profile

    relative = os.path.relpath(data_path, target.parent or ".") if data_path else "train.jsonl"
    write_profile(target, plan_to_profile(plan, relative, asked))
    if data_path is None:
        note(f"no --data: {target} names train.jsonl beside it; put your data there, or change the path")


def _does_not_fit(plan: Plan, target: Path | None) -> EngineError:
    short = limit_words(plan)
    hint = plan.alternatives[0] if plan.alternatives else "see 'engine fit' for models that fit"
    message = f"{plan.model.name} does not fit on {plan.device_title}: {short}"
    if target is not None:
        message += ", so no profile was written"
    return EngineError(message, code=ExitCode.RESOURCES, hint=hint)


def _show(machine: Machine, answers: Sequence[FitReport], total: int, *, detailed: bool) -> None:
    for text in machine_lines(machine, [answer.plan for answer in answers]):
        line(text)
    line()
    if detailed:
        for answer in answers:
            show_detail(answer)
    else:
        show_table([answer.plan for answer in answers], answers[0].tokens_seen if answers else None)
    if len(answers) < total:
        line(f"… {total - len(answers)} more: --limit 0 shows all")
