"""`engine measured`: what runs measured on this machine, which corrects later predictions, and how to forget it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from engine.cli.common import json_option, line, note, print_json, table
from engine.errors import EngineError, ExitCode

if TYPE_CHECKING:
    from engine.memory.measured_here import MeasuredDevice


@click.command()
@click.option("--forget", "forgets", is_flag=True, help="Delete it: predictions are those of the formulas again.")
@click.option("--device", metavar="NAME", help="Only devices with NAME in their name, such as 'GPU 1' or CPU.")
@json_option
def measured(forgets: bool, device: str | None, as_json: bool) -> None:
    """Show what runs measured on this machine's devices, beside what was predicted for them.

    A run that took more memory than predicted raises later predictions for its device, one of the same model and
    settings replaces them, and speeds are corrected by what was reached.
    """
    from engine.hardware.probe import probe_machine
    from engine.memory.measured_here import forget_measured, measured_devices

    known = measured_devices(probe_machine())
    chosen = [one for one in known if device is None or device.lower() in one.name.lower()]
    if device is not None and known and not chosen:
        names = ", ".join(one.name for one in known)
        raise EngineError(
            f"nothing is kept of a device named '{device}'",
            code=ExitCode.PROFILE,
            where="--device",
            hint=f"kept: {names}",
        )
    if forgets:
        for one in chosen:
            forget_measured(one)
    if as_json:
        print_json([_tree(one, forgotten=forgets) for one in chosen])
        return
    if not chosen:
        line("nothing was measured here yet: a run measures itself after its second step")
    for one in chosen:
        if forgets:
            line(f"forgotten: {_count(one)} of {one.name}")
        else:
            _show(one)


def _tree(one: MeasuredDevice, *, forgotten: bool) -> dict[str, object]:
    return {**asdict(one), "path": str(one.path), "forgotten": forgotten}


def _count(one: MeasuredDevice) -> str:
    count = len(one.measurements) + one.others
    return f"{count} measurement{'' if count == 1 else 's'}" + (" and the device's speed" if one.rates else "")


def _show(one: MeasuredDevice) -> None:
    from engine.memory.measured_here import HEADS, measured_words

    line(f"{one.name}: {_count(one)}")
    if one.measurements:
        for text in table([measured_words(each) for each in reversed(one.measurements)], header=HEADS):
            line(f"  {text}")
    if one.others:
        line(f"  {one.others} more were made with other versions of the software and are not used")
    if one.note:
        note(f"warning: {one.note}")
    line(f"  {one.path}")
