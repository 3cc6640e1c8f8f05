"""The file of the open profile: saved, read again when somebody else wrote into it, compared, and others opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.nearby import did_you_mean
from tui.documents import document
from tui.documents.checking import told_problems
from tui.documents.completion import Wanted
from tui.documents.form import Form
from tui.documents.new import demo_form, file_form, nearby, shipped_form
from tui.frame.deck import deck_of
from tui.frame.path_field import PathField
from tui.profile.form_pane import FormPane
from tui.profile.view import diff_content
from tui.terminal.editor import edit
from tui.text import line, safe, short_path, trouble
from tui.widgets.dialogs import Ask, Confirm, Pick, Reader
from tui.widgets.panes import notify


class ProfileFiles:
    """Reads and writes for the form that `pane` shows."""

    def __init__(self, pane: FormPane) -> None:
        self._pane = pane

    def check_disk(self) -> None:
        """Take over what somebody else wrote into the file; with edits at stake only say it."""
        form = self._pane.form
        if form is None:
            return
        before, form.stale = form.stale, form.changed_on_disk()
        if form.stale and not form.edits and self._pane.editor is None:
            self.reload()
        elif form.stale and not before:
            self._say(f"{safe(form.name, 60)} changed on disk: R takes that over, your edits stay on top")
        if form.stale != before:
            self._pane.show_rows()

    def reload(self) -> None:
        """Take over what the file says now, edits on top."""
        form = self._pane.form
        if form is None or not self._try(form.reread):
            return
        form.stale = False
        self._say(f"{safe(form.name, 60)} was read again" + ("; your edits stay on top" if form.edits else ""))
        self._pane.rebuild_here()

    def edit(self) -> None:
        """Open the file in the person's editor; first ask about what is not in it yet."""
        form = self._pane.form
        if form is None:
            return
        if not form.edits and form.on_disk:
            self._edit(form)
            return
        name = safe(form.name, 60)
        text = f"{name} has edits that are not saved." if form.edits else f"{name} is not a file of yours yet."

        def take(yes: bool | None) -> None:
            if yes and self.save():
                self._edit(form)

        self._pane.app.push_screen(Confirm(text, f"save {safe(form.path.name, 60)} and open it"), take)

    def _edit(self, form: Form) -> None:
        problem = edit(self._pane.app, form.path)
        if problem:
            notify(self._pane, problem, error=True)
        if not form.changed_on_disk():
            if not problem:
                self._say(f"{safe(form.name, 60)} is as it was")
        elif self._try(form.reread):
            form.stale = False
            self._pane.rebuild_here()
            self._pane.prediction.when_checked(partial(self._tell_found, form.name))

    def _tell_found(self, name: str) -> None:
        problems = self._pane.found.problems
        notify(self._pane, told_problems(f"{name} was read again", problems), error=bool(problems))

    def save(self) -> bool:
        """Write the file; False when that cannot be done, which a person has been told."""
        form = self._pane.form
        return form is not None and self._try(lambda: self._say(form.save()), self._pane.show_rows)

    def save_as(self) -> None:
        """Ask for a name, write there, and go on with that file."""
        form = self._pane.form
        if form is None:
            return
        folder = form.path.parent

        def take(text: str | None) -> None:
            if text is not None:
                self._try(lambda: self._say(safe(form.save_as(_target(text, folder)))))
                self._pane.show_rows()

        field = PathField(form.path.stem, Wanted(folder, (".toml",)), partial(_no_target, folder))
        ask = Ask("Save as", f"in {short_path(folder)}; tab completes", field=field)
        self._pane.app.push_screen(ask, take)

    def compare(self) -> None:
        """What differs from the file, or from a profile that comes with the program."""
        form = self._pane.form
        if form is None:
            return
        try:
            now, others = form.text(), _others(form)
        except EngineError as error:
            self._pane.prediction.fail(error)
            return

        def show(index: int | None) -> None:
            if index is not None:
                name, text = others[index]
                lines = document.difference(text, now, safe(name, 60), "this form")
                self._pane.app.push_screen(Reader(f"this form against {safe(name, 60)}", diff_content(lines)))

        own = [number for number, (name, _) in enumerate(others) if name == f"{form.path.stem} (shipped)"]
        nearest = 0 if form.on_disk else own[0] if own else 0
        choices = [
            line(safe(name), ("  on disk", "dim") if form.on_disk and number == 0 else "")
            for number, (name, _) in enumerate(others)
        ]
        self._pane.app.push_screen(Pick("Compare with", choices, nearest), show)

    def new(self) -> None:
        """Open a profile for the built-in demo."""
        self._take(demo_form())

    def choose(self) -> None:
        """Choose among the profiles of this folder and the shipped ones."""
        files, texts = nearby(), document.shipped()
        makers: list[Callable[[], Form]] = [partial(file_form, path) for path in files]
        makers += [partial(shipped_form, *entry) for entry in texts]
        choices = [line(safe(path.name), ("  here", "dim")) for path in files]
        choices += [line(safe(name), ("  shipped", "dim")) for name, _ in texts]

        def open_one(index: int | None) -> None:
            if index == len(makers):
                field = PathField("", Wanted(Path.cwd(), (".toml",)), _no_profile)
                ask = Ask("Open a profile", "path of a TOML file; tab completes", field=field)
                self._pane.app.push_screen(ask, open_path)
            elif index is not None:
                self._open(makers[index])

        def open_path(text: str | None) -> None:
            if text is not None:
                self._open(partial(file_form, Path(text).expanduser().absolute()))

        self._pane.app.push_screen(Pick("Open a profile", [*choices, line("another file …")]), open_one)

    def _open(self, make: Callable[[], Form]) -> None:
        try:
            form = make()
        except EngineError as error:
            notify(self._pane, trouble(error), error=True)  # it is not about the profile that is open
            return
        self._take(form)

    def _take(self, form: Form) -> None:
        deck = deck_of(self._pane)
        deck.open_form(form)
        self._pane.open(deck.deck.form)

    def _try(self, act: Callable[[], object], then: Callable[[], object] | None = None) -> bool:
        """Do `act`, and `then` when it went well; else show what went wrong."""
        try:
            act()
        except EngineError as error:
            self._pane.prediction.fail(error)
            return False
        if then is not None:
            then()
        return True

    def _say(self, text: str) -> None:
        notify(self._pane, text)


def _others(form: Form) -> list[tuple[str, str]]:
    """Names and texts that a form can be compared with, its own file first. Raises EngineError."""
    own = [(form.path.name, document.read(form.path))] if form.on_disk and form.path.exists() else []
    return own + [(f"{name} (shipped)", text) for name, text in document.shipped()]


def _target(text: str, folder: Path) -> Path:
    """The file that a typed name means."""
    path = Path(text).expanduser()
    path = path if path.suffix == ".toml" else path.with_name(path.name + ".toml")
    return path if path.is_absolute() else folder / path


def _no_target(folder: Path, text: str) -> str:
    """Why nothing can be saved under a typed name, or nothing."""
    if not text:
        return "type a name"
    path = _target(text, folder)
    if path.exists():
        return f"{path.name} is there already: choose another name"
    return "" if path.parent.is_dir() else f"there is no folder {safe(path.parent)}"


def _no_profile(text: str) -> str:
    """Why no profile can be read from a typed path, or nothing."""
    if not text:
        return "type a path"
    path = Path(text).expanduser()
    if path.is_file():
        return ""
    if path.is_dir():
        return f"{safe(path, 200)} is a folder: name a file in it"
    near = did_you_mean(path)
    return f"there is no file {safe(path, 200)}" + (f": {near}" if near else "")
