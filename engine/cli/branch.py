"""`engine runs branch RUN`: a new run that begins with the state of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import NO_FIT, json_option, line, note, print_json, warn
from engine.cli.lifecycle import tell_begun
from engine.cli.names import complete_runs
from engine.cli.profile_argument import set_option
from engine.cli.train import finish, told_by_worker, wait_until_it_trains
from engine.runs import store

if TYPE_CHECKING:
    from engine.resolve.branch import Branch


@click.command(epilog=NO_FIT)
@click.argument("run_id", metavar="RUN", shell_complete=complete_runs)
@set_option
@click.option(
    "--checkpoint",
    "which",
    default="last",
    show_default=True,
    metavar="STEP|best|last",
    help="Where to begin: a step that is kept, the best evaluation, or the last step.",
)
@click.option("--name", help="Name of the new run; default: the profile's.")
@click.option("--dry-run", is_flag=True, help="Show the differences and start nothing.")
@click.option("--detach", is_flag=True, help="Return once training has started; it goes on in the background.")
@json_option
def branch(
    run_id: str,
    overrides: tuple[str, ...],
    which: str,
    name: str | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Start a new run with the weights of a finished or stopped one: more steps, another rate, other data.

    Edits in RUN's profile.toml count, then --set. The differences are shown before it starts. Weights are kept, and the
    optimizer's moments unless optimizer, dtype or objective change; steps, learning rate and data order begin anew.
    """
    from engine.hardware.probe import probe_machine
    from engine.resolve.branch import plan_branch, start_branch

    parent = store.find_run(run_id)
    planned = plan_branch(parent, overrides, which, probe_machine(processes=False))
    for warning in planned.resolved.warnings:
        warn(warning)
    told = {"parent": planned.start.to_json(), "remarks": list(planned.remarks)}
    if dry_run and as_json:
        print_json(told)
    elif not as_json:
        _tell(planned, say=line if dry_run else note)
    if dry_run:
        return
    run, process = start_branch(planned, name)
    known = frozenset(told_by_worker(warning) for warning in planned.resolved.warnings)
    if detach:
        wait_until_it_trains(run, process, quiet=as_json, known=known)
        tell_begun("run", run, as_json=as_json, pid=store.worker_pid(run), **told)
        return
    finish(run, process, as_json=as_json, known=known, more=told)


def _tell(planned: Branch, say: Any) -> None:
    say(f"branch of {planned.parent.id}")
    for text in planned.differences or ("no setting differs",):
        say(f"  {text}")
    for text in planned.remarks:
        say(f"  {text}")
