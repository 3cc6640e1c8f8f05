"""The open profile: a base text, the edits on top of it, and what that resolves to. No widgets.

Edits are values by dotted key; the text they make is the base text with only those keys changed, so a
person's comments survive. `preview` is the slow part and runs in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.api import profiles
from engine.api.fit import Machine, Plan
from engine.errors import EngineError, Problem
from tui.documents import document

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec


@dataclass(slots=True)
class Form:
    """A profile being edited. `path` is where it is saved and where its relative paths start."""

    path: Path
    base_text: str
    on_disk: bool = False
    shipped: bool = False
    edits: dict[str, Any] = field(default_factory=dict)
    """Dotted key -> new value; None = left out again."""
    stale: bool = False
    """Whether the file has changed since it was read; kept by the screen that looks."""
    _undo: list[dict[str, Any]] = field(default_factory=list)
    _redo: list[dict[str, Any]] = field(default_factory=list)
    _base: dict[str, Any] | None = None
    _seen: tuple[int, int] | None = None
    """Time and size of the file when it was last compared with the base text."""

    @property
    def name(self) -> str:
        """What the screen calls it."""
        return f"{self.path.stem} (shipped)" if self.shipped and not self.on_disk else self.path.name

    @property
    def dirty(self) -> bool:
        """Whether something would be lost: edits, or a new profile that was never saved."""
        return bool(self.edits) or not (self.on_disk or self.shipped)

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether an edit was taken back that can be made again."""
        return bool(self._redo)

    @property
    def base(self) -> dict[str, Any]:
        """What the base text sets."""
        if self._base is None:
            self._base = document.values_of(self.base_text)
        return self._base

    def given(self, key: str) -> Any:
        """The value that file and edits give, None when they leave it out."""
        return self.edits[key] if key in self.edits else self.base.get(key)

    def set(self, key: str, value: Any) -> bool:
        """Edit one key; False when that changes nothing."""
        if value == self.given(key) and type(value) is type(self.given(key)):
            return False
        self._undo.append(dict(self.edits))
        self._redo.clear()
        if value == self.base.get(key) and type(value) is type(self.base.get(key)):
            self.edits.pop(key, None)
        else:
            self.edits[key] = value
        return True

    def undo(self) -> str:
        """Take the last edit back; the key it was about."""
        return self._step(self._undo, self._redo)

    def redo(self) -> str:
        """Make the edit again that was taken back last; the key it was about."""
        return self._step(self._redo, self._undo)

    def _step(self, source: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
        after = source.pop()
        other.append(self.edits)
        changed = [key for key in {*self.edits, *after} if self.edits.get(key, ...) != after.get(key, ...)]
        self.edits = after
        return changed[0] if changed else ""

    def changed_on_disk(self) -> bool:
        """Whether the file says something else than what was read from it; a file that is gone says nothing."""
        if not self.on_disk:
            return False
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            if document.read(self.path) != self.base_text:
                return True
        except (OSError, EngineError):
            return False
        self._seen = seen
        return False

    def reread(self) -> None:
        """Take over what the file says now; edits stay on top. Raises EngineError."""
        self.base_text, self._base = document.read(self.path), None
        self.edits = {key: value for key, value in self.edits.items() if value != self.base.get(key)}
        self._undo, self._redo = [], []

    def save_as(self, path: Path) -> str:
        """Write everything to another file and go on with that one; gives a notice. Raises EngineError.

        Relative paths keep meaning the same files.
        """
        moved = document.moved_paths({**self.base, **self.edits}, self.path.parent, path.parent)
        text = self.text(moved)
        document.save(path, text)
        self.path = path
        self._settle(text)
        return f"saved {path.name}"

    def text(self, extra: Mapping[str, Any] | None = None) -> str:
        """The profile's text with all edits, and `extra` on top. Raises EngineError."""
        return document.edited(self.base_text, {**self.edits, **(extra or {})}, self.path)

    def save(self) -> str:
        """Write the profile; gives a notice for the person. Raises EngineError.

        Edits go onto what is in the file now, so a change made elsewhere meanwhile is kept.
        """
        notice = f"saved {self.path.name}"
        if self.on_disk and self.path.exists():
            text = document.read(self.path)
            if text != self.base_text:
                notice += "; the file had changed, its other lines were kept"
            self.base_text = text
        elif self.path.exists():
            self.path = document.free_path(self.path.stem, self.path.parent)
            notice = f"saved {self.path.name}"
        text = self.text()
        document.save(self.path, text)
        self._settle(text)
        return notice

    def _settle(self, text: str) -> None:
        """The file holds `text` now."""
        self.base_text, self._base, self.edits, self._undo, self._redo = text, None, {}, [], []
        self.on_disk, self._seen = True, None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a profile's text comes to on this machine."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plan: Plan | None = None

    @property
    def findings(self) -> tuple[Problem, ...]:
        """Problems, then warnings."""
        return self.problems + self.warnings


def preview(text: str, path: Path, machine: Machine) -> Preview:
    """Validate, check and resolve; never raises for a person's mistake."""
    profile = document.loaded(text, path)
    seen = document.examine(profile, machine)
    problems = tuple(item.problem for item in seen.problems)
    if problems:
        return Preview(problems, tuple(item.problem for item in seen.warnings), {}, seen.plan)
    try:
        resolved = profiles.resolve_profile(profile, machine)
    except EngineError as error:
        return Preview(error.problems or (Problem(error.message, error.hint, error.where),), (), {}, seen.plan)
    return Preview((), resolved.warnings, resolved.provenance, resolved.plan)


def form_fields(form: Form) -> list[FieldSpec]:
    """The settings that the form shows, with one set of data fields per data set of the file."""
    from dataclasses import replace

    fields = list(profiles.profile_fields())
    numbers = {key.split(".")[2] for key in (*form.base, *form.edits) if key.startswith("data.datasets.")}
    shown: list[FieldSpec] = []
    first = [spec for spec in fields if spec.key.startswith("data.datasets.0.")]
    for spec in fields:
        if spec not in first:
            shown.append(spec)
        elif spec is first[0]:
            for number in sorted(numbers | {"0"}, key=int):
                prefix = f"data.datasets.{number}."
                label = "" if number == "0" else f" {int(number) + 1}"
                shown += [replace(one, key=prefix + one.name, label=one.label + label) for one in first]
    named = [spec for spec in shown if spec.table]
    return named + [spec for spec in shown if not spec.table and spec.key != "schema_version"]
