"""Screen 2: the settings of a run. Every value says where it came from, and the prediction moves as you type."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import OptionList

from engine import api
from engine.api import Machine
from engine.errors import EngineError, Problem
from tui.background import Lane
from tui.commands import bindings
from tui.form import Form, Preview, form_fields, launch, preview
from tui.profileview import answer_parts, finding_line, group_of, hint, memory_lines, row_state, side_content
from tui.screens.base import DeckScreen
from tui.screens.modals import Pick
from tui.text import line, safe
from tui.widgets.field import FieldRow
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

DEBOUNCE_S = 0.15
NO_FORM = (
    "o opens a profile, N makes one for the built-in demo,\nenter on a model of screen 1 makes one for that model."
)


class Fields(VerticalScroll, can_focus=False, inherit_bindings=False):
    """Holds the rows; the arrows move between them instead of scrolling."""


class ProfileScreen(DeckScreen):
    """See the module."""

    NAME = "profile"
    BINDINGS: ClassVar = [
        *bindings("profile"),
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("home", "move(-999)", show=False),
        Binding("end", "move(999)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.found = Preview()
        self.advanced = False
        self._form: Form | None = None
        self._lane = Lane(self, "resolve")
        self._starter = Lane(self, "start")
        self._typed: dict[str, Any] = {}
        self._debounce: Timer | None = None
        self._visited = 0

    def compose_body(self) -> ComposeResult:
        """The answer above, the form, what the field is, what is wrong."""
        yield Ends(id="answer")
        yield Drawn(id="membar")
        yield Rule()
        with Horizontal(id="columns"):
            yield Fields(id="form")
            yield Drawn(id="side")
        yield Rule()
        yield Line(id="hint")
        yield Rows(id="problems", marked_unfocused=False)

    def on_mount(self) -> None:
        """Nothing is shown until a profile is open."""
        self._show_answer()

    def on_screen_resume(self) -> None:
        """Take over a form that another screen opened."""
        if self._form is not self.deck.form:
            self._form = self.deck.form
            self.found, self._typed = Preview(), {}
            self.call_after_refresh(self._build)
        self._show_answer()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        super().on_resize(event)
        self.call_after_refresh(self._show)

    @property
    def rows(self) -> list[FieldRow]:
        """The rows from top to bottom."""
        return list(self.query(FieldRow))

    @property
    def row(self) -> FieldRow | None:
        """The row that has the keyboard, or holds the field that has it."""
        widget = self.focused
        while widget is not None and not isinstance(widget, FieldRow):
            widget = widget.parent if widget.parent is not self else None  # type: ignore[assignment]
        return widget

    async def _build(self, focus: str = "") -> None:
        """Make the rows of the open form."""
        holder = self.query_one("#form")
        form = self._form
        with self.app.batch_update():
            await holder.query(FieldRow).remove()
            if form is None:
                return
            shown = [
                spec
                for spec in form_fields(form)
                if self.advanced or not spec.advanced or form.given(spec.key) is not None
            ]
            await holder.mount(*(FieldRow(spec) for spec in shown))
        self._show()
        rows = self.rows
        target = [row for row in rows if row.spec.key == focus] or rows[:1]
        for row in target:
            row.focus()
        self._resolve()

    # The prediction

    def _resolve(self) -> None:
        form = self._form
        if form is None:
            return
        try:
            text = form.text(self._typed)
        except EngineError as error:
            self._resolved(Preview(error.problems or (Problem(error.message, error.hint),)))
            return
        machine = self.deck.machine
        self._lane.submit(partial(_preview, text, form, machine), self._resolved, self._failed)

    def _resolved(self, result: Preview) -> None:
        self.found = result
        self._show()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        self.say(safe(error, 400), error=True)
        if error.problems:
            self._resolved(Preview(error.problems))

    # Showing

    def _show(self) -> None:
        form = self._form
        if form is not None:
            group = ""
            for row in self.rows:
                name = group_of(row.spec)
                row.show(row_state(row.spec, form, self.found, "" if name == group else name))
                group = name
        self._show_answer()
        self._show_problems()
        self._show_hint()

    def _show_answer(self) -> None:
        form, plan = self._form, self.found.plan
        answer = self.query_one("#answer", Ends)
        if form is None:
            answer.show(self.tabs(), [("no profile is open", "dim")])
            self.query_one("#hint", Line).show(Content(NO_FORM))
            return
        name = safe(form.name, 60)
        mark = " *" if form.dirty else ""
        right = answer_parts(plan, len(self.found.problems), self._lane.busy)
        tabs = [*self.tabs(), "   "] if self.has_class("-wide") else []
        answer.show([*tabs, (name, "bold"), (mark, "bold $warning")], right)
        self.query_one("#membar", Drawn).show(memory_lines, plan)
        self.query_one("#side", Drawn).show(side_content, plan, self.found)

    def _show_problems(self) -> None:
        rows = self.query_one("#problems", Rows)
        warnings = set(self.found.warnings)
        rows.display = bool(self.found.findings)
        rows.styles.height = min(len(self.found.findings), 2 if self.size.height < 24 else 5)
        rows.set_rows(
            [
                Row(f"{index} {problem.key}", partial(finding_line, problem, problem in warnings))
                for index, problem in enumerate(self.found.findings)
            ]
        )
        self.refresh_keys()

    def _show_hint(self) -> None:
        if self._form is not None and self.row is not None:
            self.query_one("#hint", Line).show(hint(self.row.spec))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The hint is about the row that has the keyboard."""
        self._show_hint()

    # Editing

    @on(FieldRow.Typed)
    def _on_typed(self, message: FieldRow.Typed) -> None:
        self._typed = {message.row.spec.key: message.value}
        if self._debounce is not None:
            self._debounce.stop()
        self._debounce = self.set_timer(DEBOUNCE_S, self._resolve)

    @on(FieldRow.Left)
    def _on_left(self) -> None:
        self._typed = {}
        self._resolve()

    @on(FieldRow.Committed)
    def _on_committed(self, message: FieldRow.Committed) -> None:
        self._typed = {}
        self._edit(message.row, message.value)
        if message.step:
            self.action_move(message.step)

    def _edit(self, row: FieldRow, value: Any) -> None:
        if self._form is None:
            return
        given = self._form.given(row.spec.key)
        untouched = given is None and value == row.spec.default
        if untouched or not self._form.set(row.spec.key, value):
            return
        self._show()
        self._resolve()

    @on(FieldRow.Pick)
    def _on_pick(self, message: FieldRow.Pick) -> None:
        row = message.row
        choices = row.spec.choices
        now = "auto" if row.state.source.startswith("auto") else row.state.value

        def take(index: int | None) -> None:
            if index is not None:
                self._edit(row, choices[index])

        index = choices.index(now) if now in choices else 0
        lines = [Content(choice) for choice in choices]
        self.app.push_screen(Pick(row.spec.key, lines, index, safe(row.spec.description, 300)), take)

    def action_move(self, step: int) -> None:
        """Go `step` rows down."""
        rows = self.rows
        if not rows:
            return
        row = self.row
        index = rows.index(row) if row in rows else 0
        target = rows[max(0, min(len(rows) - 1, index + step))]
        target.focus()
        if target is rows[0]:
            self.query_one("#form", Fields).scroll_home(animate=False)

    @on(OptionList.OptionSelected, "#problems")
    def _jump(self, event: OptionList.OptionSelected) -> None:
        self._go_to(self.found.findings[event.option_index])

    def _go_to(self, problem: Problem) -> None:
        for row in self.rows:
            if problem.key and (row.spec.key == problem.key or row.spec.key.startswith(problem.key + ".")):
                row.focus()
                return
        if not self.advanced and any(spec.key == problem.key for spec in api.profile_fields()):
            self.advanced = True
            self.call_later(self._build, problem.key)
            return
        self.say(f"no field for this one: edit {self._form.path.name if self._form else 'the file'}, {problem.where}")

    # Commands

    def do_save(self) -> None:
        """Write the file."""
        self._save()

    def _save(self) -> bool:
        form = self._form
        if form is None:
            return False
        try:
            self.say(form.save())
        except EngineError as error:
            self._failed(error)
            return False
        self._show()
        return True

    def do_start(self) -> None:
        """Save what was edited, then start a detached run and show it."""
        form = self._form
        if form is None or self._starter.busy:
            return
        if self.found.problems:
            self.say(f"not started: {safe(self.found.problems[0].message)}", error=True)
            self._visited = 0
            self.do_problem()
            return
        if form.dirty and not self._save():
            return
        self._starter.submit(partial(launch, form.text(), form.path), self._started, self._failed)

    def _started(self, result: Any) -> None:
        run, process = result
        self.deck_app.attach(run, process)

    def do_undo(self) -> None:
        """Take the last edit back and go to its field."""
        if self._form is None:
            return
        key = self._form.undo()
        self._show()
        self._resolve()
        for row in self.rows:
            if row.spec.key == key:
                row.focus()

    def do_auto(self) -> None:
        """Leave the setting out: automatic, or its default."""
        row, form = self.row, self._form
        if row is None or form is None:
            return
        if row.spec.required:
            self.say(f"{row.spec.key} has to be given")
            return
        if form.set(row.spec.key, None):
            self._show()
            self._resolve()
        if not row.spec.auto:
            self.say(f"{row.spec.key} has no auto: back to its default")

    def do_advanced(self) -> None:
        """Show or hide advanced settings."""
        self.advanced = not self.advanced
        self.call_later(self._build, self.row.spec.key if self.row else "")
        self.say("advanced settings shown" if self.advanced else "advanced settings hidden")

    def do_problem(self) -> None:
        """Go round the problems."""
        if not self.found.findings:
            self.say("nothing is wrong with this profile")
            return
        self._go_to(self.found.findings[self._visited % len(self.found.findings)])
        self._visited += 1

    def do_new(self) -> None:
        """A profile for the demo."""
        from tui.newprofile import demo_form

        self._take(demo_form())

    def _take(self, form: Form) -> None:
        self.deck_app.open_form(form)
        self.on_screen_resume()

    def do_load(self) -> None:
        """Choose among the profiles of this folder and the shipped ones."""
        from tui import documents
        from tui.newprofile import file_form, nearby, shipped_form

        files, texts = nearby(), documents.shipped()
        choices = [line(safe(path.name), ("  here", "dim")) for path in files]
        choices += [line(safe(name), ("  shipped", "dim")) for name, _ in texts]

        def open_one(index: int | None) -> None:
            if index is None:
                return
            try:
                form = file_form(files[index]) if index < len(files) else shipped_form(*texts[index - len(files)])
            except EngineError as error:
                self._failed(error)
                return
            self._take(form)

        self.app.push_screen(Pick("Open a profile", choices), open_one)


def _preview(text: str, form: Form, machine: Machine | None) -> Preview:
    return preview(text, form.path, machine or api.probe_machine(processes=False))
