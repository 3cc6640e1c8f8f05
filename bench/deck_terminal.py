"""The deck in a pseudo-terminal, as `bench/deck.py` drives it: keys in, bytes out, memory and processor time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

HEAVY = ("torch", "numpy", "transformers", "datasets", "pandas", "pyarrow", "pydantic")
MIB = 2**20


class Deck:
    """The deck in a pseudo-terminal of its own."""

    def __init__(self, *arguments: str, program: Sequence[str] = ("-m", "tui.main")) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": ""}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments, "--no-mouse"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""
        self.count = 0
        self._facts = psutil.Process(self.process.pid)

    def read(self, seconds: float) -> int:
        """Read for so long; the bytes that came."""
        until, before = time.perf_counter() + seconds, self.count
        while (left := until - time.perf_counter()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # the deck has ended
                    break
                self.count += len(data)
                self.seen = (self.seen + data)[-200_000:]
        return self.count - before

    def wait_for(self, text: bytes, seconds: float = 120.0) -> float:
        """Seconds from the start of the process until `text` has come."""
        while text not in self.seen:
            if time.perf_counter() - self.began > seconds or self.process.poll() is not None:
                raise SystemExit(f"{text!r} never came; the end was {self.seen[-600:]!r}")
            self.read(0.01)
        return time.perf_counter() - self.began

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: bytes) -> float:
        """Seconds from a key to the first byte of the answer."""
        self.read(0.02)
        began = time.perf_counter()
        os.write(self.master, keys)
        if not select.select([self.master], [], [], 5.0)[0]:
            return 5.0
        found = time.perf_counter() - began
        self.read(0.15)
        return found

    @property
    def rss_mib(self) -> float:
        """Resident memory."""
        return self._facts.memory_info().rss / MIB

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        times = self._facts.cpu_times()
        return times.user + times.system

    def libraries(self) -> list[str]:
        """Heavy packages of which a compiled part is mapped into the process."""
        maps = Path(f"/proc/{self.process.pid}/maps")
        text = maps.read_text() if maps.exists() else ""
        return [name for name in HEAVY if f"/{name}/" in text]

    def close(self) -> None:
        """Leave by the key for it."""
        os.write(self.master, b"q")
        for _ in range(50):
            if self.process.poll() is None:
                self.read(0.1)
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@contextmanager
def deck(*arguments: str, program: Sequence[str] = ("-m", "tui.main")) -> Iterator[Deck]:
    """A deck that is closed at the end; `program`: what the interpreter is given to open it."""
    one = Deck(*arguments, program=program)
    try:
        yield one
    finally:
        one.close()


def cost(one: Deck, seconds: float, name: str) -> dict[str, float]:
    """Bytes and processor time a second while nobody presses a key."""
    cpu, began = one.cpu_s, time.perf_counter()
    sent = one.read(seconds)
    took = time.perf_counter() - began
    return {f"{name}_bytes_per_s": sent / took, f"{name}_cpu_percent": (one.cpu_s - cpu) / took * 100}
