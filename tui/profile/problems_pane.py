"""What is wrong with the open profile, a line each: enter goes to the field, `n` goes round."""

from __future__ import annotations

from functools import partial

from textual import on
from textual.widgets import OptionList

from engine.errors import Problem
from tui.profile.form_pane import FormPane
from tui.profile.view import finding_line, finding_text
from tui.text import safe
from tui.widgets.dialogs import Reader
from tui.widgets.panes import notify
from tui.widgets.rows import Row, Rows


class ProblemsPane(Rows):
    """Problems, then warnings; not there while nothing is wrong."""

    def __init__(self, form: FormPane) -> None:
        super().__init__(id="problems", marked_unfocused=False)
        self._form = form
        self._visited = 0
        """Problems that were gone to."""

    def show(self, most: int) -> None:
        """List what the form's prediction found, on at most `most` lines."""
        found = self._form.found
        warnings = set(found.warnings)
        self.display = bool(found.findings)
        self.styles.height = min(len(found.findings), most)
        self.set_rows(
            [
                Row(f"{index} {problem.key}", partial(finding_line, problem, problem in warnings))
                for index, problem in enumerate(found.findings)
            ]
        )

    def allow(self, not_done: str) -> bool:
        """Whether nothing is wrong with the profile; else say what was not done for which problem, and go there."""
        problems = self._form.found.problems
        if problems:
            notify(self, f"{not_done}: {safe(problems[0].message)}", error=True)
            self._visited = 0
            self.visit_next()
        return not problems

    def visit_next(self) -> None:
        """Go round the problems."""
        findings = self._form.found.findings
        if not findings:
            notify(self, "nothing is wrong with this profile")
            return
        self._go_to(findings[self._visited % len(findings)])
        self._visited += 1

    @on(OptionList.OptionSelected)
    def _on_selected(self, event: OptionList.OptionSelected) -> None:
        if self._form.settle():
            self._go_to(self._form.found.findings[event.option_index])

    def _go_to(self, problem: Problem) -> None:
        if not self._form.go_to(problem.key):
            name = self._form.form.path.name if self._form.form else "the file"
            self.app.push_screen(Reader(f"no field here has this: edit {safe(name, 60)}", finding_text(problem)))
