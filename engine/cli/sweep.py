"""`engine sweep PROFILE`: print the cost of a search over settings, then run it, in front or detached."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.common import NO_FIT, json_option, line, note, print_json, warn
from engine.cli.lifecycle import tell_begun
from engine.cli.profile_argument import profile_argument, set_option
from engine.cli.progress import Progress
from engine.runs.ranks import refuse_ranks
from engine.runs.store import Run

if TYPE_CHECKING:
    from engine.profile.load import LoadedProfile
    from engine.sweep.prepare import PreparedSweep


@click.command(epilog=NO_FIT)
@profile_argument()
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUES",
    help="Values to try: lora.r=8,16 or train.learning_rate=1e-5..1e-3:log.",
)
@set_option
@click.option("--name", help="Name of the sweep and its runs; default: the profile's.")
@click.option("--bill", "bill_only", is_flag=True, help="Show the cost, and start nothing.")
@click.option("--detach", is_flag=True, help="Return once the search has started; it goes on in the background.")
@click.option(
    "--storage", metavar="FILE|URL", help="Share the study with other machines: a file on a shared disk, or a database."
)
@click.option("--study", metavar="NAME", help="Name of the shared study; default: the sweep's.")
@json_option
def sweep(
    profile: Path,
    vary: tuple[str, ...],
    overrides: tuple[str, ...],
    name: str | None,
    bill_only: bool,
    detach: bool,
    storage: str | None,
    study: str | None,
    as_json: bool,
) -> None:
    """Train PROFILE with the settings of its [sweep] space or of --vary, and rank the results.

    Each trial is a run. Ctrl-C saves the trials and stops the search; 'engine sweeps resume' goes on.
    """
    from engine.cli.sweeps import finish
    from engine.hardware.probe import probe_machine
    from engine.sweep.launch import start_sweep
    from engine.sweep.prepare import prepare_sweep, shared_study

    if not bill_only:
        refuse_ranks()
    loaded = _loaded(profile, vary, overrides)
    title = name or (loaded.profile.name if loaded.profile else None) or profile.stem
    shared = shared_study(storage, study, title)
    progress = Progress(quiet=as_json)
    prepared = prepare_sweep(loaded, probe_machine(processes=False), progress)
    progress.close()
    for warning in prepared.warnings:
        warn(warning)
    if bill_only or not as_json:
        _show_bill(prepared, as_json=as_json and bill_only, to_stdout=bill_only)
    if bill_only:
        return
    started, process = start_sweep(prepared, title, shared)
    if detach:
        _tell_detached(started, as_json)
        return
    finish(started, process, as_json=as_json)


def _loaded(profile: Path, vary: tuple[str, ...], overrides: tuple[str, ...]) -> LoadedProfile:
    from engine.profile.load import load_profile
    from engine.profile.values import inline_toml
    from engine.resolve.search_space import entries, space_of
    from engine.sweep.prepare import with_overrides

    loaded = load_profile(profile)
    changes = list(overrides)
    if vary and loaded.partial is not None:
        space = {**dict(entries(loaded.partial.sweep.space)), **space_of(vary)}
        changes.append(f"sweep.space={inline_toml(space)}")
    return with_overrides(loaded, changes)


def _show_bill(prepared: PreparedSweep, *, as_json: bool, to_stdout: bool) -> None:
    """Print trials, time, memory and disk, then the combinations left out, with reasons."""
    cost = prepared.cost
    if as_json:
        print_json(
            {
                "method": prepared.plan.method,
                "metric": prepared.plan.sweep.metric,
                **cost.to_dict(),
                "cells": [one.params for one in prepared.combinations],
                "left_out": [{"params": one.params, "why": one.why} for one in prepared.left_out],
                "warnings": list(prepared.warnings),
            }
        )
        return
    from engine.sweep.page import cost_lines

    say = line if to_stdout else note
    for text in cost_lines(prepared):
        say(text)


def _tell_detached(started: Run, as_json: bool) -> None:
    tell_begun("sweep", started, as_json=as_json)
    if not as_json:
        note(f"the search goes on without this terminal; watch: engine sweeps watch {started.id}")
