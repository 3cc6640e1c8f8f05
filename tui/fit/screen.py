"""Screen 1: what this machine can fine-tune. Machine, ranked models, and the reasons for one of them."""

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
from textual.widgets import Input, OptionList

from engine.api import fit
from engine.api.fit import Machine, Plan, Requirements
from engine.errors import EngineError
from tui.background import Lane
from tui.fit.commands import FIT_COMMANDS
from tui.fit.detail import long_detail, short_detail
from tui.fit.device_view import device_lines, left_out
from tui.fit.filter import FILTER_HELP, Filter, matches, parse_filter
from tui.fit.machine import machine_height, machine_lines
from tui.fit.making import make_profile
from tui.fit.ranking import (
    Device,
    Ranking,
    chosen_key,
    device_trouble,
    devices,
    explain,
    free_changed,
    imagine,
    plans_by_device,
    rank,
)
from tui.fit.view import (
    CONTEXTS,
    TASKS,
    device_words,
    fit_command,
    heading,
    looking_line,
    model_row,
    none_found_line,
    nothing_line,
    short_model,
    task_line,
    told_line,
    told_whole_line,
)
from tui.frame.commands import bindings
from tui.frame.screen import DeckScreen
from tui.text import safe
from tui.widgets.dialogs import Ask
from tui.widgets.lines import Drawn, Ends, Rule
from tui.widgets.rows import Row, Rows

PROBE_EVERY_S = 2.0
FIRST_S = 3.0
"""Keys typed while the deck opens wait so long for the first ranking; a driver that hangs must not hold them."""


class FitScreen(DeckScreen):
    """See the module."""

    NAME = "fit"
    BINDINGS: ClassVar = bindings(FIT_COMMANDS)

    def __init__(self) -> None:
        super().__init__()
        self.requirements = Requirements()
        self.ranking: Ranking | None = None
        self.asked = Filter()
        self._probe = Lane(self, "probe")
        self._rank = Lane(self, "rank")
        self._explain = Lane(self, "explain")
        self._explained: dict[str, Plan] = {}
        self._shown: dict[str, Plan] = {}
        self._timer: Timer | None = None
        self._what_if: tuple[Machine, str] | None = None
        self._card = ""
        """What the chosen card was called: it may vanish."""
        self._trouble = ""
        """Why the chosen card cannot be planned for."""
        self._patient_until = time.monotonic() + FIRST_S

    def compose_body(self) -> ComposeResult:
        """Machine above; models and details below, beside each other where there is room."""
        yield Ends(id="top")
        yield Drawn(id="machine")
        yield Rule()
        with Horizontal(id="work"):
            with Vertical(id="list"):
                yield Drawn(id="task")
                field = Input(
                    placeholder="words, -word, mem<24 size>=7b ctx>=32k tok>500 first<0.5; esc clears",
                    compact=True,
                    id="filter",
                )
                field.cursor_blink = False
                yield field
                yield Drawn(id="heading")
                yield Rows(id="models")
            with Vertical(id="detail"):
                yield Rule(id="detail-rule")
                yield Drawn(id="plan")

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

    @property
    def ready(self) -> bool:
        """There is a ranking, or it takes too long."""
        return self.ranking is not None or time.monotonic() > self._patient_until

    def on_screen_suspend(self) -> None:
        """Rest while it is not."""
        if self._timer:
            self._timer.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        self.call_after_refresh(self._show_all)

    # Looking and ranking

    def _look(self) -> None:
        if not self._probe.busy:
            self._probe.submit(fit.probe_machine, self._seen, self._failed)

    def _seen(self, machine: Machine) -> None:
        before, self.deck.machine = self.deck.machine, machine
        if self._what_if is None and (before is None or free_changed(before, machine)):
            self._rank_now()
        self._show_top()
        self._show_machine()

    def _rank_now(self) -> None:
        machine, name = self._what_if or (self.deck.machine, "")
        if machine is None:
            return
        trouble, before = device_trouble(machine, self.requirements, self._card), self._trouble
        self._trouble = trouble
        if trouble:
            self._ranked(None)
            if trouble != before:
                self.say(safe(trouble, 400), error=True)
        else:
            self._rank.submit(partial(rank, machine, self.requirements, name), self._ranked, self._failed)

    def _ranked(self, ranking: Ranking | None) -> None:
        if ranking is not None and self._trouble:
            return
        self.ranking = ranking
        self._explained.clear()
        self._show_all()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        self.say(safe(error, 400), error=True)

    # Showing

    def _show_all(self) -> None:
        self._show_top()
        self._show_machine()
        self._show_models()
        self._show_plan()

    def _show_top(self) -> None:
        machine = self.deck.machine
        facts = [safe(machine.hostname, 30)] if machine else []
        if machine and machine.driver_version and self.size.width >= 76:
            facts.append(f"driver {safe(machine.driver_version, 20)}")
        self.query_one("#top", Ends).show(self.tabs(), [(" · ".join(facts), "dim")])
        seen = self._what_if[0] if self._what_if else machine
        device = device_words(self.requirements, seen, self.ranking)
        self.query_one("#task", Drawn).show(task_line, self.requirements, device, self._count())

    def _count(self) -> str:
        if self.ranking is None:
            return ""
        fits = sum(plan.verdict != "NO" for plan in self.ranking.plans)
        shown = f"{len(self._shown)} shown, " if self.asked else ""
        return f"{shown}{fits} of {len(self.ranking.plans)} fit"

    def _show_machine(self) -> None:
        machine, name = self._what_if or (self.deck.machine, "")
        if machine is not None:
            most = 2 if self.size.height < 20 else 4 if self.size.height < 34 else 10
            widget = self.query_one("#machine", Drawn)
            widget.styles.height = machine_height(machine, most, name, self.size.width - 2)
            widget.show(machine_lines, machine, most, name)
        else:
            self.query_one("#machine", Drawn).show(looking_line)

    def _show_models(self) -> None:
        rows = self.query_one(Rows)
        plans = [plan for plan in self.ranking.plans if matches(plan, self.asked)] if self.ranking else []
        self._shown = {plan.model.name: plan for plan in plans}
        rows.set_rows([Row(plan.model.name, partial(model_row, plan)) for plan in plans])
        found, problem = bool(plans) or self.ranking is None, self._trouble or self.asked.problem
        self._show_top()
        self.query_one("#heading", Drawn).show(
            partial(told_line, problem) if problem else heading if found else none_found_line
        )
        if not plans:
            self._highlight(None)

    def _show_plan(self) -> None:
        widget = self.query_one("#plan", Drawn)
        plan = self.deck.plan
        if plan is None:
            widget.show(told_whole_line, self._trouble) if self._trouble else widget.show(nothing_line)
            return
        tall = self.has_class("-wide") or self.size.height >= 50
        widget.show(long_detail if tall else short_detail, self._explained.get(plan.model.name, plan))

    def _highlight(self, plan: Plan | None) -> None:
        if plan is not self.deck.plan:
            self.deck.plan = plan
            self.refresh_keys()
        if plan is not None and self.ranking is not None and plan.model.name not in self._explained:
            work = partial(explain, plan, self.ranking.machine, self.requirements)
            self._explain.submit(work, self._explained_one, self._failed)
        self._show_plan()

    def _explained_one(self, plan: Plan) -> None:
        from tui.fit.estimate import EstimateScreen

        self._explained[plan.model.name] = plan
        if isinstance(self.app.screen, EstimateScreen):
            self.app.screen.explained(plan)
        self._show_plan()

    @on(OptionList.OptionHighlighted, "#models")
    def _moved(self) -> None:
        current = self.query_one(Rows).current
        self._highlight(self._shown.get(current.key) if current else None)

    @on(OptionList.OptionSelected, "#models")
    def _chosen(self) -> None:
        self.deck_app.action_command("open")

    def help_here(self) -> tuple[str, Content] | None:
        """How to filter, or what the highlighted model is."""
        if self.focused is self.query_one("#filter", Input):
            return "filter", Content(FILTER_HELP)
        plan = self.deck.plan
        if plan is None:
            return None
        shown = short_detail(self._explained.get(plan.model.name, plan), 10_000)
        return safe(plan.model.name, 60), shown

    # Commands

    def do_probe(self) -> None:
        """Rank anew with what is free now."""
        self._look()
        self._rank_now()
        self.say("looked again: ranked by what is free now")

    def do_goal(self) -> None:
        """Quality or speed."""
        goal = "speed" if self.requirements.goal == "quality" else "quality"
        self._ask_for(replace(self.requirements, goal=goal))

    def do_context(self) -> None:
        """The next context length."""
        now = self.requirements.max_length
        index = CONTEXTS.index(now) if now in CONTEXTS else 0
        self._ask_for(replace(self.requirements, max_length=CONTEXTS[(index + 1) % len(CONTEXTS)]))

    def do_task(self) -> None:
        """The next complexity of the task."""
        index = TASKS.index(self.requirements.complexity)
        self._ask_for(replace(self.requirements, complexity=TASKS[(index + 1) % len(TASKS)]))

    def do_device(self) -> None:
        """Choose among the devices of this machine, or of the imagined one."""
        machine = self._what_if[0] if self._what_if else self.deck.machine
        known = devices(machine) if machine else ()
        if machine is None or len(known) < 2:
            self.say("this machine has one device to train on")
            return
        from tui.fit.devices import DevicesScreen

        model = self.deck.plan.model if self.deck.plan else None
        plans = plans_by_device(machine, self.requirements, model)
        title = f"Device for {short_model(model.name)}" if model else "Device"
        lines = device_lines(known, machine, plans, chosen_key(self.requirements))
        self.app.push_screen(DevicesScreen(title, lines, left_out(machine)), partial(self._take_device, known))

    def _take_device(self, known: tuple[Device, ...], key: str | None) -> None:
        for device in known:
            if device.key == key:
                self._card = safe(fit.card_title(device.gpu)) if device.gpu else ""
                self._ask_for(device.asked(self.requirements))

    def _ask_for(self, requirements: Requirements) -> None:
        self.requirements = requirements
        self._show_top()
        self._rank_now()

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
        value = "" if self._what_if is None else self._what_if[1]
        self.app.push_screen(Ask("What if the card were", note, value.replace("×", "x"), check), self._imagine)

    def _imagine(self, text: str | None) -> None:
        if text is not None:
            self._what_if = imagine(text) if text else None
            self._ask_for(replace(self.requirements, gpu_uuid=None, device=None))
            self._show_machine()

    def do_copy_fit(self) -> None:
        """The same answer in a shell, to the clipboard."""
        machine, what_if = self._what_if or (self.deck.machine, "")
        command = fit_command(self.deck.plan, self.requirements, machine, what_if)
        self.app.copy_to_clipboard(command)
        self.say(f"copied: {safe(command)}")

    def do_filter(self) -> None:
        """Type words to filter by."""
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.asked = parse_filter(event.value)
        self._show_models()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.set_class(bool(self.asked), "-filtering")
        self.query_one(Rows).focus()

    def step_back(self) -> bool:
        """Clear the filter, then leave the imagined machine."""
        if self.has_class("-filtering"):
            self.query_one("#filter", Input).value = ""
            self.remove_class("-filtering")
            self.query_one(Rows).focus()
        elif self._what_if is not None:
            self._imagine("")
        return True

    def do_open(self) -> None:
        """The estimate of the plan under the cursor, term by term; from there to a profile."""
        from tui.fit.estimate import EstimateScreen

        plan = self.deck.plan
        if plan is not None:
            known = self._explained.get(plan.model.name, plan)
            self.app.push_screen(EstimateScreen(known), lambda yes: self.do_make() if yes else None)

    def do_make(self) -> None:
        """A new profile from the plan under the cursor."""
        if self.deck.plan is not None:
            make_profile(self, self.deck.plan, self.requirements)
