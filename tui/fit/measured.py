"""What runs measured on this machine: read as a page, and forgotten after a question. Commands of the fit screen.

The files are read when a key asks for them: 64 measurements take a few milliseconds. Not here: what they do to a
prediction (`engine.memory.calibration`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from engine.api import fit
from engine.errors import EngineError
from tui.text import line, safe
from tui.widgets.dialogs import Confirm, Reader

if TYPE_CHECKING:
    from engine.api.fit import MeasuredDevice
    from tui.fit.screen import FitScreen

NOTHING = "nothing was measured here yet: a run measures itself after its second step"


def read_measured(screen: FitScreen) -> None:
    """Open the page."""
    found = _found(screen)
    if found:
        screen.app.push_screen(Reader("Measured on this machine", measured_page(found)))


def ask_to_forget(screen: FitScreen) -> None:
    """Ask, delete, and rank anew."""
    found = _found(screen)
    if not found:
        return

    def answer(yes: bool | None) -> None:
        if yes:
            _forget(screen, found)

    screen.app.push_screen(Confirm(question(found), "forget", final=True), answer)


def _found(screen: FitScreen) -> tuple[MeasuredDevice, ...]:
    machine = screen.deck.machine
    found = fit.measured_devices(machine) if machine is not None else ()
    if not found:
        screen.say(NOTHING)
    return found


def _forget(screen: FitScreen, found: tuple[MeasuredDevice, ...]) -> None:
    try:
        for one in found:
            fit.forget_measured(one)
    except EngineError as error:
        screen.say(safe(f"{error.message} - {error.hint}", 300), error=True)
        return
    screen.do_probe()
    screen.say("forgotten: predictions are those of the formulas again")


def question(found: tuple[MeasuredDevice, ...]) -> str:
    """What would be deleted."""
    count = sum(len(one.measurements) + one.others for one in found)
    names = ", ".join(one.name for one in found)
    what = f"{count} measurement{'' if count == 1 else 's'} of runs on {safe(names, 200)}"
    return f"Forget {what}? Memory and speed are then predicted by the formulas alone, until the next run."


def measured_page(found: tuple[MeasuredDevice, ...]) -> Content:
    """Each device with its measurements, the newest first."""
    parts: list[Content] = []
    for one in found:
        speed = "its speed was measured; " if one.rates else ""
        parts.append(line((safe(one.name, 80), "bold"), (f"  {speed}{len(one.measurements)} runs count", "dim")))
        for measured in reversed(one.measurements):
            date, model, how, rows, took, pace = (safe(cell, 60) for cell in fit.measured_words(measured))
            parts.append(line(f"{date}  {model}  ", (f"{how}, {rows} tokens", "dim")))
            parts.append(line(f"  GiB {took}", (f"   tokens/s {pace}", "dim")))
        if one.others:
            parts.append(Content.styled(f"{one.others} more are of other versions of the software", "dim"))
        if one.note:
            parts.append(Content.styled(safe(one.note, 300), "$warning"))
        parts.append(Content(""))
    parts.append(Content.styled("M on the fit screen forgets them; 'engine measured' prints them", "dim"))
    return Content("\n").join(parts)
