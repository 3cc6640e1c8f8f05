"""Screen 2: the settings of a run. Every value says where it came from, and the prediction moves as you type."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer

from engine.api.profiles import RunTime, run_time
from engine.errors import EngineError
from tui.background import Lane
from tui.documents import document
from tui.documents.form import Form, Preview, launch
from tui.frame.commands import bindings
from tui.profile import starting
from tui.profile.commands import PROFILE_COMMANDS
from tui.profile.field import FieldRow
from tui.profile.form_screen import Fields, FormScreen
from tui.profile.view import (
    answer_parts,
    diff_content,
    field_help,
    finding_line,
    group_of,
    hint,
    memory_lines,
    row_state,
    side_content,
)
from tui.text import line, safe, short_path
from tui.widgets.dialogs import Ask, Confirm, Pick, Reader
from tui.widgets.lines import Drawn, Ends, Line, Rule
from tui.widgets.rows import Row, Rows

if TYPE_CHECKING:
    from engine.api.profiles import PreparedSweep
    from engine.api.runs import Run
    from tui.profile.data_screen import DataSeen

DISK_EVERY_S = 2.0
NO_FORM = (
    "o opens a profile, N makes one for the built-in demo,\nenter on a model of screen 1 makes one for that model."
)


class ProfileScreen(FormScreen):
    """See the module."""

    NAME = "profile"
    BINDINGS: ClassVar = [
        *bindings(PROFILE_COMMANDS),
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("home", "move(-999)", show=False),
        Binding("end", "move(999)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._starter = Lane(self, "start")
        self._visited = 0
        self._question: Callable[[], None] | None = None
        self._data: DataSeen | None = None
        self._disk: Timer | None = None

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
        self._disk = self.set_interval(DISK_EVERY_S, self._look_at_disk, pause=True)
        self._show_answer()

    def on_screen_resume(self) -> None:
        """Take over a form that another screen opened."""
        if self._form is not self.deck.form:
            self._form = self.deck.form
            self.found, self._typed, self._data = Preview(), {}, None
            self._found_for, self._then, self._building = "", None, True
            self.call_after_refresh(self._build)
        if self._disk is not None:
            self._disk.resume()
        self._look_at_disk()
        self._show_answer()

    def on_screen_suspend(self) -> None:
        """Nobody looks: leave the file alone."""
        if self._disk is not None:
            self._disk.pause()

    def _look_at_disk(self) -> None:
        """Take over what somebody else wrote into the file; with edits at stake only say it."""
        form = self._form
        if form is None:
            return
        before, form.stale = form.stale, form.changed_on_disk()
        if form.stale and not form.edits and self.editor is None:
            self.do_reload()
        elif form.stale and not before:
            self.say(f"{safe(form.name, 60)} changed on disk: R takes that over, your edits stay on top")
        if form.stale != before:
            self._show_answer()
            self.refresh_keys()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are laid out for the width."""
        self.call_after_refresh(self._show)

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
        mark = (" *" if form.dirty else "") + (" changed on disk" if form.stale else "")
        right = answer_parts(plan, len(self.found.problems), self._lane.busy, self.size.width)
        tabs = [*self.tabs(), "   "] if self.has_class("-wide") else []
        answer.show([*tabs, (name, "bold"), (mark, "bold $warning")], right)
        self.query_one("#membar", Drawn).show(memory_lines, plan, self._time())
        self.query_one("#side", Drawn).show(side_content, plan, self.found)

    def _time(self) -> RunTime | None:
        form, plan = self._form, self.found.plan
        if form is None or plan is None or not self.found.provenance:
            return None
        counted = self._data is not None and self._data.settings == data_settings(self.found)
        report = self._data.report if self._data is not None and counted else None
        return run_time(plan, self.found.provenance, report, form.path.parent)

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

    def help_here(self) -> tuple[str, Content] | None:
        """Everything about the setting that has the keyboard."""
        if self._form is None or self.row is None:
            return None
        return self.row.spec.key, field_help(self.row.spec, self._form, self.found)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The hint is about the row that has the keyboard."""
        self._show_hint()

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
        self._when_checked(self._start)

    def _start(self) -> None:
        form = self._form
        if form is None or self._starter.busy or not self._is_ready():
            return
        self._starter.submit(partial(launch, form.text(), form.path), self._started, self._failed)

    def _is_ready(self) -> bool:
        """Whether nothing is wrong with the profile and its file holds it; else a person has been told."""
        if self.found.problems:
            self.say(f"not started: {safe(self.found.problems[0].message)}", error=True)
            self._visited = 0
            self.do_problem()
            return False
        return self._form is not None and (not self._form.dirty or self._save())

    def _started(self, result: Any) -> None:
        run, process = result
        self.deck_app.attach(run, process)

    def do_sweep(self) -> None:
        """Save what was edited, show what the search would take, and start it when that is wanted."""
        self._when_checked(self._sweep)

    def _sweep(self) -> None:
        form = self._form
        if form is None or self._starter.busy or not self._is_ready():
            return
        self.say("the data are being counted: then comes what the search takes")
        name = form.path.stem
        self._starter.submit(
            partial(starting.prepare, form.text(), form.path), partial(self._ask_to_sweep, name), self._failed
        )

    def _close(self, row: FieldRow) -> None:
        super()._close(row)
        if self._question is not None:
            ask, self._question = self._question, None
            self.call_later(ask)

    def _ask_to_sweep(self, name: str, prepared: PreparedSweep) -> None:
        """Ask; not over an open field, where what is typed would be the answer."""
        if self.editor is not None:
            self._question = partial(self._ask_to_sweep, name, prepared)
            self.say("what the search takes is known: it is asked when this field is closed")
            return

        def take(yes: bool | None) -> None:
            if yes:
                self._starter.submit(partial(starting.begin, prepared, name), self._swept, self._failed)

        self.app.push_screen(Confirm(starting.bill_text(prepared), "start the search"), take)

    def _swept(self, sweep: Run) -> None:
        self.app.switch_mode("runs")
        self.say(f"searching: engine sweeps watch {safe(sweep.id, 80)}")

    def do_undo(self) -> None:
        """Take the last edit back and go to its field."""
        if self._form is None:
            return
        self._went_to(self._form.undo())

    def do_redo(self) -> None:
        """Make the edit again that was taken back."""
        if self._form is not None:
            self._went_to(self._form.redo())

    def _went_to(self, key: str) -> None:
        self._show()
        self._resolve()
        for row in self.rows:
            if row.spec.key == key:
                self._to_row(row)

    def do_save_as(self) -> None:
        """Ask for a name, write there, and go on with that file."""
        form = self._form
        if form is None:
            return

        def target(text: str) -> Path:
            path = Path(text).expanduser()
            path = path if path.suffix == ".toml" else path.with_name(path.name + ".toml")
            return path if path.is_absolute() else form.path.parent / path

        def check(text: str) -> str:
            if not text:
                return "type a name"
            path = target(text)
            if path.exists():
                return f"{path.name} is there already: choose another name"
            return "" if path.parent.is_dir() else f"there is no folder {safe(path.parent)}"

        def take(text: str | None) -> None:
            if text is not None:
                try:
                    self.say(safe(form.save_as(target(text))))
                except EngineError as error:
                    self._failed(error)
                self._show()

        self.app.push_screen(Ask("Save as", f"in {short_path(form.path.parent)}", form.path.stem, check), take)

    def do_reload(self) -> None:
        """Take over what the file says now, edits on top."""
        form = self._form
        if form is None:
            return
        try:
            form.reread()
        except EngineError as error:
            self._failed(error)
            return
        form.stale = False
        self.say(f"{safe(form.name, 60)} was read again" + ("; your edits stay on top" if form.edits else ""))
        self.call_later(self._build, self.row.spec.key if self.row else "")

    def do_diff(self) -> None:
        """What differs from the file, or from a profile that comes with the program."""
        form = self._form
        if form is None:
            return
        others: list[tuple[str, str]] = []
        try:
            now = form.text()
            if form.on_disk and form.path.exists():
                others.append((form.path.name, document.read(form.path)))
        except EngineError as error:
            self._failed(error)
            return
        others += [(f"{name} (shipped)", text) for name, text in document.shipped()]

        def show(index: int | None) -> None:
            if index is not None:
                name, text = others[index]
                lines = document.difference(text, now, safe(name, 60), "this form")
                self.app.push_screen(Reader(f"this form against {safe(name, 60)}", diff_content(lines)))

        own = [number for number, (name, _) in enumerate(others) if name == f"{form.path.stem} (shipped)"]
        nearest = 0 if form.on_disk else own[0] if own else 0
        choices = [
            line(safe(name), ("  on disk", "dim") if form.on_disk and i == 0 else "")
            for i, (name, _) in enumerate(others)
        ]
        self.app.push_screen(Pick("Compare with", choices, nearest), show)

    def do_data(self) -> None:
        """The data pane: report and examples with the trained tokens marked."""
        self._when_checked(self._show_data)

    def _show_data(self) -> None:
        from tui.profile.data_screen import DataScreen

        form = self._form
        if form is None:
            return
        if self.found.problems:
            self.say(f"not read: {safe(self.found.problems[0].message)}", error=True)
            self._visited = 0
            self.do_problem()
            return
        settings = data_settings(self.found)

        def take(seen: DataSeen | None) -> None:
            self._data = seen
            self._show_answer()

        self.app.push_screen(DataScreen(form.name, form.text(), form.path, settings, self._data), take)

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
        from tui.documents.new import demo_form

        self._take(demo_form())

    def _take(self, form: Form) -> None:
        self.deck_app.open_form(form)
        self.on_screen_resume()

    def do_load(self) -> None:
        """Choose among the profiles of this folder and the shipped ones."""
        from tui.documents.new import file_form, nearby, shipped_form

        files, texts = nearby(), document.shipped()
        choices = [line(safe(path.name), ("  here", "dim")) for path in files]
        choices += [line(safe(name), ("  shipped", "dim")) for name, _ in texts]
        choices.append(line("another file …"))

        def open_one(index: int | None) -> None:
            if index == len(choices) - 1:
                self.app.push_screen(Ask("Open a profile", "path of a TOML file", "", _no_profile), open_path)
            elif index is not None:
                self._open(
                    partial(file_form, files[index])
                    if index < len(files)
                    else partial(shipped_form, *texts[index - len(files)])
                )

        def open_path(text: str | None) -> None:
            if text is not None:
                self._open(partial(file_form, Path(text).expanduser().absolute()))

        self.app.push_screen(Pick("Open a profile", choices), open_one)

    def _open(self, make: Callable[[], Form]) -> None:
        try:
            form = make()
        except EngineError as error:
            self.say(safe(error, 400), error=True)  # it is not about the profile that is open
            return
        self._take(form)


def _no_profile(text: str) -> str:
    path = Path(text).expanduser()
    return "" if text and path.is_file() else f"there is no file {safe(path, 200)}" if text else "type a path"


def data_settings(found: Preview) -> str:
    """What a profile's data depend on, as one text: a report counts while it stays the same."""
    keys = ("data.", "model.name", "model.revision", "model.max_length", "train.objective", "train.seed")
    kept = {key: item.get("value") for key, item in found.provenance.items() if key.startswith(keys)}
    return json.dumps(kept, sort_keys=True, default=str)
