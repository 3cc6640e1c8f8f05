"""The command of `launch.notify`: a run's own worker starts it when the run ends, or when something begins to go wrong.

A thread of the worker does it, so that training never waits for it. What it is told stands in `TUNEDECK_…` variables
and, as one JSON object, on its standard input; no shell reads it. A command that fails, hangs or is missing is a
warning of the run and nothing more. Not here: what goes wrong (`health.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.jsonvalues import Unreadable, load_any_object, table_in, text_in
from engine.runs.events import Event
from engine.runs.health import Concern, HealthFold
from engine.runs.job import Warn
from engine.runs.record import RunRecord
from engine.text import hide_secrets, sanitize

TIMEOUT_S = 10.0
"""A command that takes longer is ended."""
LOOK_S = 30.0
"""How often the thread looks for what shows without any event: silence."""
AGAIN_S = 600.0
"""A concern that goes and comes back within this time is the same one."""
_TELLING = frozenset({"train_step", "eval", "memory", "checkpoint"})
"""Events after which a concern may be there."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and the folder that it starts in."""

    words: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Notice:
    """What the command is told; every field is a variable, such as `TUNEDECK_STATE`, and a key of the JSON object."""

    run: str
    folder: str
    state: str
    """`completed`, `stopped`, `failed`, or `concern` while the run goes on."""
    reason: str = ""
    hint: str = ""
    code: str = ""
    """Of the concern, or of the error that ended the run."""
    step: str = ""

    @property
    def text(self) -> str:
        """All of it in a line."""
        at = f" at step {self.step}" if self.step else ""
        what = "something goes wrong" if self.state == "concern" else self.state
        return f"{self.run}: {what}{at}" + (f": {self.reason}" if self.reason else "")

    def fields(self) -> dict[str, str]:
        """Safe for a terminal and for a message to others: no control characters, nothing that looks like a token."""
        found = {**asdict(self), "text": self.text}
        return {name: hide_secrets(sanitize(value, max_chars=2000, single_line=True)) for name, value in found.items()}


def command_of_run(record: RunRecord) -> Command | None:
    """The command of a run; None where its profile names none."""
    words = record.notify
    return Command(words, record.base_dir or Path()) if words else None


def command_of_sweep(directory: Path) -> Command | None:
    """The command of a sweep, from the profile that it keeps; None where that names none."""
    try:
        profile = tomllib.loads((directory / "profile.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    words = table_in(profile, "launch").get("notify")
    if not isinstance(words, list) or not words:
        return None
    document = load_any_object(directory / "sweep.json", name="sweep.json", hint="")
    path = "" if isinstance(document, Unreadable) else text_in(document, "profile_path")
    return Command(tuple(map(str, words)), Path(path).parent if path else directory)


def program_of(words: Sequence[str], folder: Path) -> str | None:
    """The program that a command names: on the PATH, or a file, relative to `folder`; None where there is none."""
    name = os.path.expanduser(words[0])
    return shutil.which(str(folder / name) if os.sep in name else name)


class Notifier:
    """Tells the command of a run's end and of what begins to go wrong. Any thread may call it."""

    def __init__(
        self, command: Command, directory: Path, warn: Warn, planned_tokens_per_second: float | None = None
    ) -> None:
        self._command, self._directory, self._warn = command, directory, warn
        self._health = HealthFold(planned_tokens_per_second)
        self._turn = threading.Lock()
        self._told_s: dict[str, float] = {}
        """When each concern was last seen, by its code."""
        self._error: Event = {}
        self._waiting: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        self._thread.start()

    def watch(self, event: Event) -> None:
        """Take one event of the run."""
        kind = event.get("type")
        with self._turn:
            self._health.apply(event)
            if kind == "error":
                self._error = event
        if kind in _TELLING:
            self._look()

    def _look(self) -> None:
        now_s = time.time()
        with self._turn:
            found = self._health.concerns(now_s, live=True)
            new = [one for one in found if now_s - self._told_s.get(one.code, -AGAIN_S) >= AGAIN_S]
            self._told_s |= {one.code: now_s for one in found}
        for one in new:
            self._waiting.put(self._concern(one))

    def _concern(self, one: Concern) -> Notice:
        step = str(one.step) if one.step else ""
        return self._notice("concern", reason=one.text, hint=one.hint, code=one.code, step=step)

    def _notice(self, state: str, **more: str) -> Notice:
        return Notice(self._directory.name, str(self._directory), state, **more)

    def ended(self, outcome: Mapping[str, object]) -> None:
        """Tell of the end in place of what still waits; returns when the command has ended, or after twice its time."""
        step = outcome.get("step")
        notice = self._notice(
            str(outcome.get("outcome")),
            reason=str(outcome.get("reason") or ""),
            hint=text_in(self._error, "hint"),
            code=text_in(self._error, "code"),
            step="" if step is None else str(step),
        )
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(notice)
        self._waiting.put(None)
        self._thread.join(2 * TIMEOUT_S)

    def _work(self) -> None:
        while True:
            try:
                notice = self._waiting.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                continue
            if notice is None:
                return
            problem = run_command(self._command, notice, self._directory / "worker.log")
            if problem:
                with contextlib.suppress(OSError):  # a full disk ends the run elsewhere, not here
                    self._warn("notify", f"launch.notify: {problem}")


def run_command(command: Command, notice: Notice, log: Path) -> str:
    """Start the command and wait for its end; why it did not do its work, empty where it did. It prints to `log`."""
    name = sanitize(command.words[0], max_chars=200, single_line=True)
    program = program_of(command.words, command.folder)
    if program is None:
        return f"'{name}' was not found"
    fields = notice.fields()
    variables = {f"TUNEDECK_{key.upper()}": value for key, value in fields.items()}
    folder = command.folder if command.folder.is_dir() else log.parent
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, *command.words[1:]],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, **variables},
                start_new_session=True,
            )
    except OSError as error:
        return f"'{name}' cannot be started: {error.strerror}"
    return _await(process, name, json.dumps(fields).encode())


def _await(process: subprocess.Popen[bytes], name: str, told: bytes) -> str:
    try:
        process.communicate(told, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started belongs to its session
        process.wait()
        return f"'{name}' had not ended after {TIMEOUT_S:.0f} s and was ended"
    if process.returncode:
        return f"'{name}' ended with exit code {process.returncode}; what it printed is in worker.log"
    return ""
