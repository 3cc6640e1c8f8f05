"""`engine demo`: probe, recommend, train, evaluate and export, offline, with the code of those commands.

The built-in model learns a task that it cannot do before; `--model` does the same with a real model.
The run stays in the store, where the deck and `engine runs` find it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from engine.cli.common import NO_FIT, json_option, line, note, print_json
from engine.cli.profile_argument import set_option
from engine.errors import ExitCode
from engine.runs import launch
from engine.runs.ranks import refuse_ranks
from engine.runs.store import Run
from engine.text import format_bytes, format_duration

_REAL_MODEL = (
    "model.max_length=256",
    "data.max_samples=600",
    "train.num_train_epochs=1",
    'train.learning_rate="auto"',
    "evaluate.max_samples=40",
)
"""Overrides that let a real model finish the demo on a processor."""
_SHOWN = ("exact_match", "perplexity", "rougeL", "bleu")


@click.command(epilog=NO_FIT)
@click.option("--model", metavar="PATH", help="Directory, .gguf file or hub id instead of the built-in model.")
@set_option
@json_option
def demo(model: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Teach a small model to write dates as ISO 8601 and score it: no network, a minute or two."""
    from engine.cli.evaluate import evaluate_run
    from engine.cli.export import export_run

    refuse_ranks()
    began = time.monotonic()
    machine, resolved, text = _prepare(model, overrides)
    _tell_machine(machine, quiet=as_json)
    run = _train(resolved, text, quiet=as_json)
    report = evaluate_run(run, quiet=as_json)
    exported = export_run(run, quiet=as_json)
    result = _result(machine, resolved, run, report, exported, time.monotonic() - began)
    if as_json:
        print_json(result)
        return
    _tell(result)


def _prepare(model: str | None, overrides: tuple[str, ...]) -> tuple[Any, Any, str]:
    from engine.hardware.probe import probe_machine
    from engine.models.resolve import local_path
    from engine.profile.load import load_profile
    from engine.profile.shipped import shipped_profile
    from engine.resolve.resolve import resolve_profile

    changes = list(overrides)
    if model is not None:
        local = local_path(model)
        name = str(local.resolve()) if local.exists() else model
        changes = [f"model.name_or_path={_quoted(name)}", *_REAL_MODEL, *overrides]
    loaded = load_profile(shipped_profile("demo").path, changes)
    machine = probe_machine(processes=False)
    return machine, resolve_profile(loaded, machine), loaded.text


def _quoted(text: str) -> str:
    """Quote `text` as a TOML basic string."""
    import json

    return json.dumps(text, ensure_ascii=False)


def _train(resolved: Any, text: str, *, quiet: bool) -> Run:
    """Train in the foreground. Ctrl-C saves a checkpoint and stops. Raises the worker's error."""
    from engine.cli.progress import Progress
    from engine.cli.train import follow_to_end

    run, process = launch.start_run("demo", resolved.to_run_json(), text)
    if follow_to_end(run, process, Progress(quiet=quiet)) != "completed":
        raise click.exceptions.Exit(int(ExitCode.INTERRUPTED))
    return run


def _tell_machine(machine: Any, *, quiet: bool) -> None:
    """Print the machine and the three best plans for it."""
    if quiet:
        return
    from engine.recommend.search import rank_models

    note(f"machine: {_machine_line(machine)}")
    note("this machine could tune, best first:")
    for plan in rank_models(machine, most=3):
        how = plan.shape.quantization if plan.shape.quantization != "none" else plan.shape.compute_dtype
        needs = format_bytes(plan.estimate.device_bytes)
        note(f"  {plan.model.name:34s} {plan.shape.method} {how:5s} {plan.verdict:6s}{needs:>10s}")


def _machine_line(machine: Any) -> str:
    ram = f"{format_bytes(machine.ram_available_bytes)} RAM free"
    cards = ", ".join(f"{gpu.name} ({format_bytes(gpu.free_bytes)} free)" for gpu in machine.gpus)
    return f"{cards or 'no GPU'} · {machine.cpu.name}, {machine.cpu.physical_cores} cores · {ram}"


def _result(
    machine: Any, resolved: Any, run: Run, report: dict[str, Any], exported: dict[str, Any], seconds: float
) -> dict[str, Any]:
    chosen = {
        key: entry
        for key, entry in resolved.provenance.items()
        if str(entry.get("source", "")).startswith("auto") and entry.get("reason")
    }
    return {
        "machine": _machine_line(machine),
        "model": resolved.settings.model.name_or_path,
        "chosen": chosen,
        "run": run.id,
        "base": report["base"],
        "tuned": report["tuned"],
        "verdict": report.get("verdict"),
        "samples": report.get("samples", [])[:3],
        "export": exported,
        "seconds": round(seconds, 1),
    }


def _tell(result: dict[str, Any]) -> None:
    line(f"machine   {result['machine']}")
    line("settings")
    for key, entry in result["chosen"].items():
        line(f"  {key} = {entry['value']}  ({entry['reason']})")
    line(f"scores    {'':14s}{'base':>10s}{'tuned':>10s}")
    for name in _SHOWN:
        before, after = result["base"].get(name), result["tuned"].get(name)
        if before is not None or after is not None:
            line(f"          {name:14s}{_score(before):>10s}{_score(after):>10s}")
    for sample in result["samples"][:2]:
        line(f"sample    {sample['prompt']!r}")
        line(f"          base {sample['base']!r}   tuned {sample['tuned']!r}   wanted {sample['reference']!r}")
    for name in ("adapter", "merged", "card"):
        if result["export"].get(name):
            line(f"{name:9s} {result['export'][name]}")
    line(f"run       {result['run']}  ({format_duration(result['seconds'])})")
    line(f"deck      {deck_command(Path(sys.executable), shutil.which('tunedeck'), Path.cwd())}")


def deck_command(python: Path, on_path: str | None, here: Path) -> str:
    """The command that opens the deck on the newest run from this shell: by name, by path or as a module.

    `make demo` installs it in `.venv/bin`, which is not on `PATH`.
    """
    beside = python.with_name("tunedeck")
    if on_path is not None and (not beside.exists() or beside.samefile(on_path)):
        return "tunedeck last"
    if not beside.exists():
        return f"{shlex.quote(str(python))} -m tui.main last"
    path = beside.relative_to(here) if beside.is_relative_to(here) else beside
    return f"{shlex.quote(str(path))} last"


def _score(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else "n/a"
