"""The event stream of a run: one JSON object a line, one writer, any number of readers.

`{"v": 1, "seq": n, "t": unix seconds, "type": …, …}`. The worker writes; the command line and the
deck read from a byte offset and stop at the last newline, so a half-written line is never seen.
Readers ignore types and keys that they do not know.

Types and their fields (units in the name; every field may be missing):

- `started`: run, pid, device, card (`GPU 1`), steps_total, resumed_from_step, tokens_per_step, versions
- `phase`: name (load, data, check, train, evaluate, checkpoint, export …), detail
- `progress`: phase, done, total, unit
- `train_step`: step, steps_total, epoch, loss, learning_rate, grad_norm, tokens, step_tokens,
  tokens_per_second, step_s, eta_s; where answers are compared reward_preferred, reward_other, reward_margin, accuracy
- `eval`: step, loss, perplexity (not where answers are compared), best, tokens, seconds, and the same scores; change,
  low, high: the difference to the best evaluation before (step `against`) with its 95 % interval
- `audit`: step, trained, untouched, zero: tensors of the first gradients
- `kernels`: ways (`liger+fused`, `plain`), source (measured, known from a day, as the run began; empty where nothing
  was measured), gain (times as fast as the plainest), seconds (of a micro-batch, by way), unfit
- `memory`: device_used_bytes, device_total_bytes, process_bytes, allocated_bytes, reserved_bytes,
  peak_allocated_bytes, peak_reserved_bytes, host_rss_bytes, predicted_bytes, limit_bytes,
  utilization_percent, temperature_c, power_w, slowed_by (what keeps the card's clocks down), disk_free_bytes
- `calibration`: stage (first_steps, end, out_of_memory), device (cuda, cpu), phases (name -> peak bytes),
  predicted, measured, error_percent (each by name: allocated_bytes, reserved_bytes, context_bytes, device_bytes;
  below zero = too little was promised), kept (for the next prediction)
- `checkpoint`: step, path, bytes, seconds, reason
- `sample` (an answer to a prompt of `evaluate.prompts`): step (0 = the base), index (the prompt's place, from 0),
  prompt, output, tokens, seconds (its share of the time that all took), ended (false = cut at the limit of new tokens)
- `sample` (of `engine evaluate`): model (base, tuned), prompt, output, reference
- `trial` (of a sweep): trial, state, params, metric, value, run, reason
- `warning`: code, message
- `control`: request, outcome
- `error`: code, message, hint, where, problems
- `finished`: outcome (completed, stopped, failed), step, exit_code, reason, seconds
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

EVENT_VERSION = 1
Event = dict[str, Any]
Pick = Callable[[list[bytes]], list[bytes]]

_DURABLE = frozenset({"started", "checkpoint", "error", "finished"})
"""Types that are fsynced: what a reader must find after a power cut."""


class EventWriter:
    """Appends events; the only writer of its file while the run's lock is held. Safe between threads.

    Continues the numbering of an existing file, after cutting a torn last line away.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.listener: Callable[[Event], None] = lambda event: None
        """Called with every event once it is written, by the thread that wrote it."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._sequence = _repair(self._descriptor)
        self._turn = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. Non-finite numbers become null and are told in a `warning`."""
        lost: list[str] = []
        clean = {key: _finite(value, key, lost) for key, value in fields.items()}
        with self._turn:
            event = self._append(kind, clean)
            if lost:
                names = ", ".join(sorted(set(lost)))
                self._append("warning", {"code": "non_finite", "message": f"{kind}: {names} is not a finite number"})
        self.listener(event)

    def _append(self, kind: str, fields: Event) -> Event:
        event = {"v": EVENT_VERSION, "seq": self._sequence, "t": round(time.time(), 3), "type": kind, **fields}
        line = json.dumps(event, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=str)
        self._write_whole(line.encode("ascii") + b"\n")
        self._sequence += 1
        if kind in _DURABLE:
            os.fsync(self._descriptor)
        return event

    def _write_whole(self, data: bytes) -> None:
        """All of `data` or nothing: half a line would swallow the next one."""
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        if written != len(data):
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.jsonl")

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


def _finite(value: Any, key: str, lost: list[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(key)
        return None
    if isinstance(value, dict):
        return {str(name): _finite(item, f"{key}.{name}", lost) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, key, lost) for item in value]
    return value


def _repair(descriptor: int) -> int:
    """Cut a torn last line; return the next sequence number."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0
    start = max(0, size - 1_048_576)
    tail = os.pread(descriptor, size - start, start)
    whole = tail.rfind(b"\n") + 1
    os.ftruncate(descriptor, start + whole)
    for line in reversed(tail[:whole].splitlines()):
        try:
            return int(json.loads(line)["seq"]) + 1
        except (ValueError, KeyError, TypeError):
            continue
    return 0


class EventReader:
    """Follows one event file from an offset; every reader of events is made of it. Not for several threads.

    It takes whole lines only, so that a line still being written is read when it is complete. It passes over lines
    that are no events. A file that became shorter than what was read is another file: it is read from its beginning,
    and `restarts` counts that, so that whoever folds the events can begin anew.
    """

    def __init__(
        self, path: Path, offset: int = 0, *, limit_bytes: int = 64 * 1024 * 1024, pick: Pick | None = None
    ) -> None:
        """`pick` leaves out lines that the reader of the events has no use for, before they are parsed."""
        self.path, self.offset, self.restarts = path, offset, 0
        self._pick = pick
        self.at_end = False
        """Whether the last `read` left nothing behind but a line being written."""
        self._limit_bytes = limit_bytes
        self._inside_line = False

    @classmethod
    def at_tail(cls, path: Path, tail_bytes: int) -> EventReader:
        """A reader of the last `tail_bytes`, from the first line that begins there."""
        try:
            with path.open("rb") as file:
                offset = max(0, os.fstat(file.fileno()).st_size - tail_bytes)
                file.seek(offset)
                return cls(path, offset + (len(file.readline()) if offset else 0))
        except OSError:
            return cls(path)

    def read(self) -> list[Event]:
        """Events that are new, of at most `limit_bytes`; a missing file has none. Raises OSError."""
        try:
            with self.path.open("rb") as file:
                data = self._chunk(file)
        except FileNotFoundError:
            self.at_end = True
            return []
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= _LONGEST_LINE_BYTES:
            end, self._inside_line = len(data), True
            self.offset += end
            return []
        self.offset += end
        return self._parsed(data[:end])

    def _chunk(self, file: BinaryIO) -> bytes:
        size = os.fstat(file.fileno()).st_size
        if size < self.offset:
            self.offset, self._inside_line = 0, False
            self.restarts += 1
        file.seek(self.offset)
        data = file.read(self._limit_bytes)
        while b"\n" not in data and len(data) < min(size - self.offset, _LONGEST_LINE_BYTES):
            data += file.read(self._limit_bytes)  # one line longer than the limit
        self.at_end = self.offset + len(data) >= size
        return data

    def _parsed(self, data: bytes) -> list[Event]:
        lines = data.split(b"\n")
        if self._inside_line and data:
            del lines[0]  # the rest of a line that was too long
            self._inside_line = False
        events = []
        for line in lines if self._pick is None else self._pick(lines):
            if line and (event := parse_event(line)) is not None:
                events.append(event)
        return events


_LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no event: it is passed over."""


def parse_event(line: bytes) -> Event | None:
    """The event that a line is; None for one that is no event. A number that is not finite becomes None."""
    try:
        # Few lines look like one that holds such a number, and only those take the slow way.
        event = json.loads(line, **_BOUNDED) if _MAYBE_INFINITE.search(line) else json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


def _float_from(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


_BOUNDED: dict[str, Any] = {
    "parse_constant": lambda _: None,
    "parse_float": _float_from,
    "parse_int": lambda text: int(text) if len(text) < 300 else None,
}
_MAYBE_INFINITE = re.compile(rb"[eE]\+?[0-9]{3}|Infinity|NaN|[0-9]{300}")


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """All whole events from byte `offset` on, and the offset to go on from: for files that are read once."""
    reader = EventReader(path, offset)
    events = reader.read()
    while not reader.at_end:
        events += reader.read()
    return events, reader.offset
