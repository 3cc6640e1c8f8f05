"""Screen 2: the settings of a run. Every value says where it came from, and the prediction moves as you type.

The screen puts the parts together: `FormPane` holds the rows and what is typed, `ProblemsPane` what is wrong,
`ProfileFiles` reads and writes, `Starter` starts runs and searches. It draws what lies around the rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from engine.api.profiles import RunTime, run_time
from tui.documents.form import Form, Preview
from tui.frame.commands import bindings
from tui.frame.screen import DeckScreen
from tui.profile.commands import PROFILE_COMMANDS
from tui.profile.field import FieldRow
from tui.profile.files import ProfileFiles
from tui.profile.filter_bar import FilterBar
from tui.profile.form_filter import FILTER_HELP, FILTER_MORE, NOTHING_FOUND
from tui.profile.form_pane import FormPane
from tui.profile.problems_pane import ProblemsPane
from tui.profile.starting import Starter
from tui.profile.view import answer_parts, field_help, hint, memory_lines, section_hint, side_content
from tui.text import safe
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.panes import forward

if TYPE_CHECKING:
    from tui.profile.data_screen import DataAnswer, DataSeen

DISK_EVERY_S, CLOCK_EVERY_S = 2.0, 1.0
MAX_LENGTH = "model.max_length"
NO_FORM = "o opens a profile, N makes one of the demo, p on screen 1\nmakes one for the model under the cursor."


class ProfileScreen(DeckScreen):
    """The answer above, the form with what its settings come to, what is wrong below."""

    NAME = "profile"
    FIELD_WORDS: ClassVar = {"find-words": ("list", "clear")}
    BINDINGS: ClassVar = [
        *bindings(PROFILE_COMMANDS),
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup,ctrl+u", "move(-10)", show=False),
        Binding("pagedown,ctrl+d", "move(10)", show=False),
        Binding("home,g", "move(-999)", show=False),
        Binding("end,G", "move(999)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.form_pane = FormPane()
        self.filter = FilterBar(self.form_pane)
        self.problems = ProblemsPane(self.form_pane)
        self.files = ProfileFiles(self.form_pane)
        self.starter = Starter(self.form_pane, self.problems, self.files, self._show_answer)
        self._data: tuple[Form, DataSeen] | None = None
        """What was read of the data of a form."""
        self._disk: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """The answer above, the form, what the field is, what is wrong."""
        yield Ends(id="top")
        yield Ends(id="answer")
        yield Drawn(id="membar")
        yield Rule(id="form-rule")
        yield self.filter
        with Horizontal(id="columns"):
            yield self.form_pane
            yield Drawn(id="side")
        yield Rule()
        yield Line(id="hint")
        yield self.problems

    @property
    def ready(self) -> bool:
        """Whether the rows are there, and no command waits for a check."""
        return self.form_pane.ready

    # Life

    def on_mount(self) -> None:
        """Nothing is shown until a profile is open."""
        self.set_interval(CLOCK_EVERY_S, self._tick)
        self._disk = self.set_interval(DISK_EVERY_S, self.files.check_disk, pause=True)
        self._show()

    def on_screen_resume(self) -> None:
        """Take over a form that another screen opened."""
        self.form_pane.open(self.deck.form)
        if self._disk is not None:
            self._disk.resume()
        self.files.check_disk()
        self._show_answer()
        self.call_after_refresh(self.starter.ask_now)

    def _tick(self) -> None:
        if self.starter.doing:
            self._show_answer()

    def on_screen_suspend(self) -> None:
        """Leave the file alone while another screen is open."""
        if self._disk is not None:
            self._disk.pause()

    def on_resize(self, event: events.Resize) -> None:
        """Lay the lines out for the new width."""
        self.call_after_refresh(self._show)

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        """The keyboard leaves an open field only when what was typed there could be taken."""
        row = self.form_pane.editor if widget is not None else None
        if widget is None or row is None or row in widget.ancestors_with_self or self.settle_editor():
            super().set_focus(widget, scroll_visible, from_app_focus)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The hint is about the row that has the keyboard."""
        self._show_hint()

    @on(FormPane.FieldClosed)
    def _on_field_closed(self) -> None:
        self.starter.ask_now()

    def settle_editor(self) -> bool:
        """Take what was typed into the open field, or say that it cannot be taken."""
        return self.form_pane.settle()

    def step_back(self) -> bool:
        """Give up what is typed into an open field, then the filter."""
        return self.form_pane.give_up() or self.filter.close()

    def seek(self, name: str) -> None:
        """Go to the field of a setting."""
        self.form_pane.seek(name)

    # Showing

    @on(FormPane.Changed)
    def _show(self) -> None:
        self._show_answer()
        self.problems.show(2 if self.size.height < 24 else 5)
        self.filter.show()
        self._show_hint()
        self.refresh_keys()

    def _show_answer(self) -> None:
        form, found = self.form_pane.form, self.form_pane.found
        self.show_top()
        answer = self.query_one("#answer", Ends)
        if form is None:
            answer.show([("no profile is open", "dim")], [])
            self.query_one("#hint", Line).show(Content(NO_FORM))
            return
        mark = (" *" if form.dirty else "") + (" changed on disk" if form.stale else "")
        right = answer_parts(found.plan, len(found.problems), self.form_pane.prediction.is_busy, self.size.width)
        right = [(self.starter.doing, "$accent")] if self.starter.doing else right
        answer.show([(safe(form.name, 60), "bold"), (mark, "bold $warning")], right)
        self.query_one("#membar", Drawn).show(memory_lines, found.plan, self.time())
        self.query_one("#side", Drawn).show(side_content, found.plan, found)

    def _show_hint(self) -> None:
        stop, line = self.form_pane.stop, self.query_one("#hint", Line)
        if self.filter.has_keyboard:
            found = self.form_pane.counts[0]
            line.show(Content.styled(FILTER_MORE if found else NOTHING_FOUND, "dim" if found else "$warning"))
        elif self.form_pane.form is None or stop is None:
            return
        elif isinstance(stop, FieldRow):
            line.show(hint(stop.spec, stop.completes))
        else:
            line.show(section_hint(stop.state.title, stop.state.labels))

    def help_here(self) -> tuple[str, Content] | None:
        """Everything about the setting that has the keyboard, or how to filter."""
        if self.filter.has_keyboard:
            return "filter", Content(FILTER_HELP)
        form, row = self.form_pane.form, self.form_pane.row
        if form is None or row is None:
            return None
        return row.spec.key, field_help(row.spec, form, self.form_pane.found)

    # The data

    def time(self) -> RunTime | None:
        """How long a run would take, as far as that is known."""
        form, found = self.form_pane.form, self.form_pane.found
        if form is None or found.plan is None or not found.provenance:
            return None
        seen = self._seen(form)
        counted = seen is not None and seen.settings == data_settings(found)
        report = seen.report if seen is not None and counted else None
        return run_time(found.plan, found.provenance, report, form.path.parent)

    def _seen(self, form: Form) -> DataSeen | None:
        """What was read of this form's data."""
        return self._data[1] if self._data is not None and self._data[0] is form else None

    def do_data(self) -> None:
        """The data pane: report and examples with the trained tokens marked."""
        self.form_pane.prediction.when_checked(self._show_data)

    def _show_data(self) -> None:
        from tui.profile.data_screen import DataScreen

        form = self.form_pane.form
        if form is None or not self.problems.allow("not read"):
            return

        def take(answer: DataAnswer | None) -> None:
            seen = answer.seen if answer is not None else None
            self._data = (form, seen) if seen is not None else None
            self._show_answer()
            if answer is not None and answer.max_length is not None:
                self.form_pane.take(MAX_LENGTH, answer.max_length)

        settings = data_settings(self.form_pane.found)
        self.app.push_screen(DataScreen(form.name, form.text(), form.path, settings, self._seen(form)), take)

    # Commands that the parts carry out

    do_undo = forward(FormPane, FormPane.undo)
    do_redo = forward(FormPane, FormPane.redo)
    do_auto = forward(FormPane, FormPane.set_auto)
    do_advanced = forward(FormPane, FormPane.toggle_advanced)
    do_sections = forward(FormPane, FormPane.toggle_sections)
    do_find_setting = forward(FilterBar, FilterBar.open)
    do_problem = forward(ProblemsPane, ProblemsPane.visit_next)

    def action_move(self, step: int) -> None:
        """Go `step` rows down."""
        self.form_pane.move(step)

    def do_next_section(self) -> None:
        """Go to the next section."""
        self.form_pane.cursor.move_sections(1)

    def do_previous_section(self) -> None:
        """Go to the beginning of this section, then to the one before."""
        self.form_pane.cursor.move_sections(-1)

    def do_save(self) -> None:
        """Write the file."""
        self.files.save()

    def do_save_as(self) -> None:
        """Ask for a name, write there, and go on with that file."""
        self.files.save_as()

    def do_reload(self) -> None:
        """Take over what the file says now, edits on top."""
        self.files.reload()

    def do_edit(self) -> None:
        """Open the file in the person's own editor."""
        self.files.edit()

    def do_diff(self) -> None:
        """What differs from the file, or from a profile that comes with the program."""
        self.files.compare()

    def do_new(self) -> None:
        """A profile for the demo."""
        self.files.new()

    def do_load(self) -> None:
        """Choose among the profiles of this folder and the shipped ones."""
        self.files.choose()

    def do_start(self) -> None:
        """Save what was edited, then start a detached run and show it."""
        self.starter.start_run()

    def do_sweep(self) -> None:
        """Save what was edited, show what the search would take, and start it when that is wanted."""
        self.starter.start_sweep()


def data_settings(found: Preview) -> str:
    """What a profile's data depend on, as one text: a report counts while it stays the same."""
    keys = ("data.", "model.name", "model.revision", "model.max_length", "train.objective", "train.seed")
    kept = {key: item.get("value") for key, item in found.provenance.items() if key.startswith(keys)}
    return json.dumps(kept, sort_keys=True, default=str)
