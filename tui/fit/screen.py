"""Screen 1: what this machine can fine-tune. Machine, ranked models, and the reasons for one of them.

The screen puts the machine, the `ModelsPane` and the plan under the cursor together; the `Ranker` keeps what is asked
and ranks. The texts are in `view.py`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer

from engine.api import fit
from engine.api.fit import Machine, Plan
from engine.errors import EngineError
from tui.background import Lane
from tui.fit.commands import FIT_COMMANDS
from tui.fit.detail import long_detail, short_detail
from tui.fit.device_view import device_lines, left_out
from tui.fit.filter import FILTER_HELP
from tui.fit.machine import machine_height, machine_lines, notes_content
from tui.fit.making import make_profile
from tui.fit.measured import ask_to_forget, read_measured
from tui.fit.models_pane import ModelsPane
from tui.fit.ranker import Ranker
from tui.fit.ranking import Device, chosen_key, devices, imagine, plans_by_device
from tui.fit.view import (
    CONTEXTS,
    TASKS,
    device_words,
    fit_command,
    looking_line,
    nothing_line,
    short_model,
    task_line,
    told_whole_line,
)
from tui.frame.commands import bindings
from tui.frame.copying import copy_short
from tui.frame.screen import DeckScreen
from tui.text import safe, trouble
from tui.widgets.dialogs import Ask
from tui.widgets.lines import Drawn, Ends, Rule
from tui.widgets.panes import forward
from tui.widgets.rows import Rows

PROBE_EVERY_S = 2.0
FIRST_S = 9.0
"""Keys that act on models wait so long for the first ranking, which a busy machine is slow to make; not for ever, as a
driver may hang."""


def _machine_and_measured() -> tuple[Machine, float]:
    """The machine now, and when a run last measured something on it."""
    return fit.probe_machine(), fit.last_measured_s()


class FitScreen(DeckScreen):
    """The machine, the models ranked for it, and the plan under the cursor."""

    NAME = "fit"
    FIELD_WORDS: ClassVar = {"filter": ("list", "clear")}
    BINDINGS: ClassVar = bindings(FIT_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self.ranker = Ranker(
            self, on_ranking=self._show_all, on_explained=self._show_explained, on_failed=self._say_failure
        )
        self._probe = Lane(self, "probe")
        self._timer: Timer | None = None
        self._patient_until = time.monotonic() + FIRST_S

    def compose_body(self) -> ComposeResult:
        """Machine above; models and details below, beside each other where there is room."""
        yield Ends(id="top")
        yield Drawn(id="machine")
        yield Rule()
        with Horizontal(id="work"):
            yield ModelsPane()
            with Vertical(id="detail"):
                yield Rule(id="detail-rule")
                yield Drawn(id="plan")

    @property
    def models(self) -> ModelsPane:
        """The ranked models."""
        return self.query_one(ModelsPane)

    @property
    def ready(self) -> bool:
        """There is a ranking, or it takes too long."""
        return self.ranker.ranking is not None or time.monotonic() > self._patient_until

    def ready_for(self, event: events.Event) -> bool:
        """Keys of every screen need no ranking."""
        keys = self.deck_app.commands.keys_of("", self.deck.keys)
        return self.ready or (isinstance(event, events.Key) and event.key in keys)

    def on_mount(self) -> None:
        """Paint first, then look."""
        self.query_one(Rows).focus()
        self._timer = self.set_interval(PROBE_EVERY_S, self._look, pause=True)
        self.call_after_refresh(self._look)

    def on_screen_resume(self) -> None:
        """Look at the machine while the screen is seen."""
        if self._timer:
            self._timer.resume()
        self._show_top()

    def on_screen_suspend(self) -> None:
        """Rest while it is not."""
        if self._timer:
            self._timer.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        self.call_after_refresh(self._show_all)

    def _look(self) -> None:
        if not self._probe.busy:
            self._probe.submit(_machine_and_measured, self._saw, self._say_failure)

    def _saw(self, found: tuple[Machine, float]) -> None:
        machine, measured_s = found
        self.deck.machine = machine
        self.ranker.saw(machine, measured_s)
        self._show_top()
        self._show_machine()

    def _say_failure(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        self.say(trouble(error), error=True)

    # Showing

    def _show_all(self) -> None:
        self._show_machine()
        self.models.show(self.ranker.ranking, self.ranker.trouble)
        self._show_top()
        self._show_plan()

    @on(ModelsPane.Filtered)
    def _show_top(self) -> None:
        machine, ranker = self.deck.machine, self.ranker
        facts = [safe(machine.hostname, 30)] if machine else []
        if machine and machine.driver_version:
            facts.append(f"driver {safe(machine.driver_version, 20)}")
        self.show_top(*facts)
        device = device_words(ranker.requirements, ranker.machine, ranker.ranking)
        self.query_one("#task", Drawn).show(task_line, ranker.requirements, device, self.models.count)

    def _show_machine(self) -> None:
        machine, name, widget = self.ranker.machine, self.ranker.imagined, self.query_one("#machine", Drawn)
        if machine is None:
            widget.show(looking_line)
            return
        most = 2 if self.size.height < 20 else 4 if self.size.height < 34 else 10
        widget.styles.height = machine_height(machine, most, name, self.size.width - 2)
        widget.show(machine_lines, machine, most, name)

    def _show_plan(self) -> None:
        widget, plan, trouble = self.query_one("#plan", Drawn), self.deck.plan, self.ranker.trouble
        if plan is None:
            widget.show(told_whole_line, trouble) if trouble else widget.show(nothing_line)
            return
        tall = self.has_class("-wide") or self.size.height >= 50
        widget.show(long_detail if tall else short_detail, self.ranker.known(plan))

    @on(ModelsPane.Highlighted)
    def _on_highlighted(self, message: ModelsPane.Highlighted) -> None:
        if message.plan is not self.deck.plan:
            self.deck.plan = message.plan
            self.refresh_keys()
        if message.plan is not None:
            self.ranker.explain(message.plan)
        self._show_plan()

    @on(ModelsPane.Chosen)
    def _on_chosen(self) -> None:
        self.deck_app.action_command("open")

    def _show_explained(self, plan: Plan) -> None:
        from tui.fit.estimate import EstimateScreen

        if isinstance(self.app.screen, EstimateScreen):
            self.app.screen.explained(plan)
        self._show_plan()

    def help_here(self) -> tuple[str, Content] | None:
        """How to filter, or what the highlighted model is."""
        if self.models.filter_has_keyboard:
            return "filter", Content(FILTER_HELP)
        plan, machine = self.deck.plan, self.ranker.machine
        notes = notes_content(machine) if machine is not None else Content("")
        if plan is None:
            return ("", notes) if notes.plain else None
        about = short_detail(self.ranker.known(plan), 10_000)
        return safe(plan.model.name, 60), Content("\n\n").join([about, notes]) if notes.plain else about

    def seek(self, name: str) -> None:
        """Go to the row of a model."""
        self.models.seek(name)

    # Commands

    do_filter = forward(ModelsPane, ModelsPane.open_filter)
    do_measured = read_measured
    do_forget_measured = ask_to_forget

    def do_order_models(self, place: int | None = None) -> None:
        """The next order, or that of a column that was clicked."""
        self.models.order_by(place)

    def do_probe(self) -> None:
        """Rank anew with what is free now."""
        self._look()
        self.ranker.rank_again()
        self.say("looked again: ranked by what is free now")

    def do_goal(self) -> None:
        """Quality or speed."""
        requirements = self.ranker.requirements
        goal = "speed" if requirements.goal == "quality" else "quality"
        self.ranker.ask(replace(requirements, goal=goal))
        self._show_top()

    def do_context(self) -> None:
        """The next context length."""
        now = self.ranker.requirements.max_length
        index = CONTEXTS.index(now) if now in CONTEXTS else 0
        self.ranker.ask(replace(self.ranker.requirements, max_length=CONTEXTS[(index + 1) % len(CONTEXTS)]))
        self._show_top()

    def do_task(self) -> None:
        """The next complexity of the task."""
        index = TASKS.index(self.ranker.requirements.complexity)
        self.ranker.ask(replace(self.ranker.requirements, complexity=TASKS[(index + 1) % len(TASKS)]))
        self._show_top()

    def do_device(self) -> None:
        """Choose among the devices of this machine, or of the imagined one."""
        machine, requirements = self.ranker.machine, self.ranker.requirements
        known = devices(machine) if machine else ()
        if machine is None or len(known) < 2:
            self.say("this machine has one device to train on")
            return
        from tui.fit.devices import DevicesScreen

        model = self.deck.plan.model if self.deck.plan else None
        plans = plans_by_device(machine, requirements, model)
        title = f"Device for {short_model(model.name)}" if model else "Device"
        lines = device_lines(known, machine, plans, chosen_key(requirements))
        self.app.push_screen(DevicesScreen(title, lines, left_out(machine)), partial(self._use_device, known))

    def _use_device(self, known: tuple[Device, ...], key: str | None) -> None:
        for device in known:
            if device.key == key:
                self.ranker.use(device)
                self._show_top()

    def do_what_if(self) -> None:
        """Ask for a card; nothing typed goes back to this machine."""

        def check(text: str) -> str:
            try:
                if text:
                    imagine(text)
            except EngineError as error:
                return safe(f"{error.message} - {error.hint}")
            return ""

        note = "RTX 4090 · 2 x A100 80GB · H100; empty = this machine"
        value = self.ranker.imagined.replace("×", "x")
        self.app.push_screen(Ask("What if the card were", note, value, check), self._imagine)

    def _imagine(self, text: str | None) -> None:
        if text is not None:
            self.ranker.imagine(text)
            self._tell_notes()
            self._show_top()
            self._show_machine()

    def _tell_notes(self) -> None:
        """What was chosen for a name that means several cards; a small window shows it nowhere else."""
        machine = self.ranker.machine
        for note in machine.gpus[0].notes if machine is not None and self.ranker.imagined else ():
            self.say(safe(note))

    def do_copy_fit(self) -> None:
        """The same answer in a shell, to the clipboard."""
        command = fit_command(self.deck.plan, self.ranker.requirements, self.ranker.machine, self.ranker.imagined)
        copy_short(self, command)

    def step_back(self) -> bool:
        """Clear the filter, then leave the imagined machine."""
        if not self.models.close_filter() and self.ranker.imagined:
            self._imagine("")
        return True

    def do_open(self) -> None:
        """The estimate of the plan under the cursor, term by term; from there to a profile."""
        from tui.fit.estimate import EstimateScreen

        plan = self.deck.plan
        if plan is not None:
            known = self.ranker.known(plan)
            self.app.push_screen(EstimateScreen(known), lambda yes: self.do_make() if yes else None)

    def do_make(self) -> None:
        """A new profile from the plan under the cursor."""
        if self.deck.plan is not None:
            make_profile(self, self.deck.plan, self.ranker.requirements)
