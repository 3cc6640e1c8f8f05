"""`engine fit` and `engine recommend`: what this machine can tune, how, and why.

Only options, layout and exit codes; the answers come from `engine.recommend`. Everything is imported
inside the functions: a cold `engine fit` has a quarter of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.common import json_option, line, note, print_json, table, width
from engine.errors import EngineError, ExitCode
from engine.text import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from engine.hardware.machine import Machine
    from engine.recommend.plan import Plan, Requirements

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TABLE_ROWS = 20
_NAME_WIDTH = 31
_METHODS = ("lora", "full")
_QUANTIZATIONS = ("none", "nf4", "fp4", "int8")


def _filters(function: _Function) -> _Function:
    options = (
        click.option("--gpu", metavar="NAME", help="Plan for this card instead of the ones here, e.g. 'RTX 4090'."),
        click.option("--count", type=click.IntRange(1, 64), default=1, help="How many of --gpu."),
        click.option("--context", type=click.IntRange(16, 1_048_576), help="Tokens of one sequence."),
        click.option("--goal", type=click.Choice(["quality", "speed"]), default="quality", help="What ranks first."),
        click.option("--complexity", type=click.Choice(["simple", "medium", "high", "extreme"]), help="Of the task."),
        click.option("--batch", type=click.IntRange(1, 65_536), default=16, help="Sequences of an optimizer step."),
        click.option("--method", type=click.Choice(_METHODS), help="Adapters, or every weight."),
        click.option("--quantization", type=click.Choice(_QUANTIZATIONS), help="Storage of frozen weights."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@_filters
@click.option("--why", is_flag=True, help="Show terms, reasons and alternatives of every model.")
@click.option("--limit", type=click.IntRange(0), help="Rows to show; 0 = all.")
@json_option
def fit(
    models: tuple[str, ...],
    gpu: str | None,
    count: int,
    why: bool,
    limit: int | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Rank models on this machine, or show one model's estimate term by term.

    MODEL is a directory, a .gguf file, 'demo', a hub id or a name from the list. Exit code 1 when an
    asked model does not fit.
    """
    from engine.recommend.search import plan_model, rank_models

    machine, requirements = _machine(gpu, count), _requirements(filters)
    specs = _resolve(models)
    if len(specs) == 1 or (specs and why):
        plans = [plan_model(spec, machine, requirements) for spec in specs]
    else:
        plans = rank_models(machine, requirements, specs or None)
    shown = plans if limit == 0 or specs else plans[: limit or (len(plans) if as_json else _TABLE_ROWS)]
    if why and not specs:
        shown = [plan_model(plan.model, machine, requirements) for plan in shown]
    if as_json:
        print_json(_document(machine, shown, len(plans)))
    else:
        _show(machine, shown, len(plans), detailed=why or len(specs) == 1)
    if specs and any(plan.verdict == "NO" for plan in plans):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("model", required=False)
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

    Without MODEL the best of the list is taken. With --write the file is made anew; one that is
    there is never overwritten.
    """
    from engine.recommend.search import plan_model, rank_models

    machine, requirements = _machine(gpu, count), _requirements(filters)
    spec = _resolve((model,))[0] if model else rank_models(machine, requirements)[0].model
    plan = plan_model(spec, machine, requirements)
    if target is not None and plan.verdict != "NO":
        _write(plan, target, data_path)
    if as_json:
        print_json({**_document(machine, [plan], 1), "written": str(target) if target else None})
    else:
        _show_choices(machine, plan, target)
    if plan.verdict == "NO":
        raise click.exceptions.Exit(1) if target is None else _does_not_fit(plan)


def _machine(gpu: str | None, count: int) -> Machine:
    from engine.hardware.probe import hypothetical_machine, probe_machine

    if gpu is None and count != 1:
        raise click.UsageError("--count needs --gpu NAME")
    return hypothetical_machine(gpu, count) if gpu else probe_machine()


def _requirements(filters: dict[str, Any]) -> Requirements:
    from engine.recommend.plan import Requirements

    return Requirements(
        max_length=filters["context"],
        complexity=filters["complexity"],
        goal=filters["goal"],
        total_batch=filters["batch"],
        method=filters["method"],
        quantization=filters["quantization"],
    )


def _resolve(names: Sequence[str]) -> list[Any]:
    from engine.models.resolve import resolve_model

    return [resolve_model(name) for name in names]


def _write(plan: Plan, target: Path, data_path: Path | None) -> None:
    if target.exists():
        raise EngineError(
            "the file is there already", code=ExitCode.PROFILE, where=str(target), hint="name another, or remove it"
        )
    if data_path is not None and not data_path.is_file():
        raise EngineError("no such data file", code=ExitCode.DATA, where=str(data_path), hint="check the path")
    from engine.profile.resolve import plan_to_profile
    from engine.profile.save import write_profile

    relative = os.path.relpath(data_path, target.parent or ".") if data_path else "train.jsonl"
    write_profile(target, plan_to_profile(plan, relative))
    if data_path is None:
        note(f"no --data: {target} names train.jsonl beside it, to be put there or changed")


def _does_not_fit(plan: Plan) -> EngineError:
    short = format_bytes(-plan.headroom_bytes) if plan.headroom_bytes < 0 else "nothing"
    hint = plan.alternatives[0] if plan.alternatives else "see 'engine fit' for models that fit"
    return EngineError(
        f"{plan.model.name} does not fit on {plan.device_name}: {short} short, so no profile was written",
        code=ExitCode.RESOURCES,
        hint=hint,
    )


def _show(machine: Machine, plans: Sequence[Plan], total: int, *, detailed: bool) -> None:
    for text in _machine_lines(machine, plans):
        line(text)
    line()
    if detailed:
        for plan in plans:
            _show_detail(plan)
    else:
        for text in table([_row(plan) for plan in plans], header=_HEADER, right=(4, 5)):
            line(text)
    if len(plans) < total:
        line(f"… {total - len(plans)} more: --limit 0 shows all")


_HEADER = ("Model", "How", "Memory", "Fits", "Needs", "tok/s")


def _row(plan: Plan) -> list[str]:
    short = plan.model.name.rstrip("/").rpartition("/")[2]
    name = short if len(short) <= _NAME_WIDTH else short[: _NAME_WIDTH - 1] + "…"
    missing = plan.headroom_bytes < 0
    needs = f"+{format_bytes(-plan.headroom_bytes)}" if missing else format_bytes(plan.estimate.device_bytes)
    return [name, _how(plan), _bar(plan, 8), plan.verdict, needs, _speed(plan)]


def _how(plan: Plan) -> str:
    shape = plan.shape
    if shape.method == "full":
        return f"full {shape.compute_dtype}"
    return f"LoRA {shape.compute_dtype}" if shape.quantization == "none" else f"QLoRA {shape.quantization}"


def _speed(plan: Plan) -> str:
    speed = plan.tokens_per_second
    return "–" if speed is None or plan.verdict == "NO" else f"{speed:,.0f}"


def _bar(plan: Plan, cells: int) -> str:
    if plan.headroom_bytes < 0 or plan.available_bytes <= 0:
        return "▓" * cells
    filled = max(1, round(cells * plan.estimate.device_bytes / plan.available_bytes))
    return "█" * filled + "░" * (cells - filled)


def _machine_lines(machine: Machine, plans: Sequence[Plan]) -> list[str]:
    from engine.recommend.budget import available_bytes, holders

    lines = []
    for number, gpu in enumerate(machine.gpus):
        memory = _free_memory(gpu.free_bytes, gpu.total_bytes, available_bytes(machine, gpu))
        found = " (named)" if gpu.hypothetical else ""
        lines.append(f"GPU {number}  {gpu.name.removeprefix('NVIDIA ')}{found}  {memory}")
        if gpu.processes:
            lines.append(f"       held by {holders(gpu.processes)}")
    if not plans or plans[0].device_index is None:
        usable = available_bytes(machine, None)
        lines.append(f"CPU  {machine.cpu.name}, {machine.cpu.physical_cores} cores")
        lines.append(f"RAM  {_free_memory(machine.ram_available_bytes, machine.ram_total_bytes, usable)}")
        lines.append("     practical for small models only; TIGHT here also means under 30 tokens/s")
    if len(machine.gpus) > 1:
        index = plans[0].device_index if plans else None
        lines.append("a run uses one GPU" + (f": GPU {index} here" if index is not None else ""))
    return lines


def _free_memory(free: int | None, total: int | None, usable: int) -> str:
    return f"{format_bytes(free)} of {format_bytes(total)} free, {format_bytes(usable)} to use"


def _show_detail(plan: Plan) -> None:
    from engine.models.resolve import describe_parameters

    spec, estimate = plan.model, plan.estimate
    facts = [f"{format_count(estimate.total_parameters)} parameters ({describe_parameters(spec)})"]
    facts += [f"context {spec.max_position_embeddings:,}", spec.licence, "gated" if spec.gated else ""]
    line(spec.name)
    line("  " + " · ".join(fact for fact in facts if fact))
    where = format_bytes(plan.available_bytes)
    spare = f"{format_bytes(plan.headroom_bytes)} {'spare' if plan.headroom_bytes >= 0 else 'short'}".lstrip("-")
    line(f"  {plan.verdict}  {_bar(plan, 20)}  {format_bytes(estimate.device_bytes)} of {where}, {spare}")
    if plan.tokens_per_second and plan.verdict != "NO":
        million = format_duration(1e6 / plan.tokens_per_second)
        line(f"  about {plan.tokens_per_second:,.0f} tokens/s, {million} for a million tokens (estimated)")
    _show_terms(plan)
    line("chosen")
    _show_settings(plan)
    if plan.alternatives:
        line("nearest changes that fit" if plan.verdict == "NO" else "alternatives")
        for text in plan.alternatives:
            line(f"  {text}")
    line()


def _show_terms(plan: Plan) -> None:
    estimate = plan.estimate
    line(f"memory at its peak ({_PHASES[estimate.peak_phase]})")
    _show_pairs([(term.name, format_bytes(term.bytes), term.detail) for term in estimate.terms])
    parts = (("allocated", estimate.allocated_bytes), ("reserved", estimate.reserved_bytes))
    shown = ", ".join(f"{name} {format_bytes(count)}" for name, count in parts)
    share = estimate.trainable_parameters / max(1, estimate.total_parameters)
    line(f"  {shown}, on the device {format_bytes(estimate.device_bytes)}")
    line(f"  {format_count(estimate.trainable_parameters)} parameters learn ({share:.2%})")
    for text in estimate.notes:
        line(f"  note: {text}")


_PHASES = {"load": "loading", "layer": "backward pass of a layer", "loss": "loss", "optimizer": "optimizer step"}


def _show_pairs(rows: Sequence[tuple[str, str, str]]) -> None:
    """Name, value and words; the words wrap under themselves."""
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    for name, value, words in rows:
        head = f"  {name.ljust(first)}  {value.rjust(second)}  "
        room = max(24, width() - len(head))
        wrapped = click.wrap_text(words, room).split("\n") if words else [""]
        line((head + wrapped[0]).rstrip())
        for text in wrapped[1:]:
            line(" " * len(head) + text)


def _show_settings(plan: Plan) -> None:
    """`key = value  reason`, the reasons wrapped below where they are long."""
    for choice in plan.choices:
        _show_wrapped(f"  {choice.key} = {_value(choice.value)}", choice.reason)


def _show_wrapped(head: str, words: str) -> None:
    if len(head) + 3 + len(words) <= width():
        line(f"{head} · {words}")
        return
    line(head)
    for text in click.wrap_text(words, width() - 6).split("\n"):
        line(f"      {text}")


def _value(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _show_choices(machine: Machine, plan: Plan, target: Path | None) -> None:
    for text in _machine_lines(machine, [plan]):
        line(text)
    line()
    needed, usable = format_bytes(plan.estimate.device_bytes), format_bytes(plan.available_bytes)
    line(f"{plan.model.name}  {_how(plan)}  {plan.verdict}  {needed} of {usable}  {_speed(plan)} tokens/s")
    _show_settings(plan)
    for text in plan.alternatives:
        line(f"  or {text}")
    if target is not None and plan.verdict != "NO":
        line(f"written: {target}")


def _document(machine: Machine, plans: Sequence[Plan], total: int) -> dict[str, Any]:
    gpus = [
        {"name": gpu.name, "uuid": gpu.uuid, "free_bytes": gpu.free_bytes, "total_bytes": gpu.total_bytes}
        for gpu in machine.gpus
    ]
    ram = {"ram_available_bytes": machine.ram_available_bytes, "ram_total_bytes": machine.ram_total_bytes}
    return {
        "machine": {"hostname": machine.hostname, "gpus": gpus, "cpu": machine.cpu.name, **ram},
        "total": total,
        "models": [_plan_document(plan) for plan in plans],
    }


def _plan_document(plan: Plan) -> dict[str, Any]:
    shape, estimate = plan.shape, plan.estimate
    return {
        "model": plan.model.name,
        "licence": plan.model.licence,
        "gated": plan.model.gated,
        "quality": plan.model.quality,
        "verdict": plan.verdict,
        "device": plan.device_name,
        "device_index": plan.device_index,
        "available_bytes": plan.available_bytes,
        "device_bytes": estimate.device_bytes,
        "reserved_bytes": estimate.reserved_bytes,
        "allocated_bytes": estimate.allocated_bytes,
        "headroom_bytes": plan.headroom_bytes,
        "peak_phase": estimate.peak_phase,
        "tokens_per_second": plan.tokens_per_second,
        "parameters": {"total": estimate.total_parameters, "trainable": estimate.trainable_parameters},
        "method": shape.method,
        "quantization": shape.quantization,
        "dtype": shape.compute_dtype,
        "terms": {term.name: {"bytes": term.bytes, "detail": term.detail} for term in estimate.terms},
        "choices": {choice.key: {"value": choice.value, "reason": choice.reason} for choice in plan.choices},
        "alternatives": list(plan.alternatives),
        "notes": list(estimate.notes),
    }
