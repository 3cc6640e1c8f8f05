"""The deck as a person starts it: the real command in a pseudo-terminal of its own, keys in, bytes out."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable


class Terminal:
    """The deck in a pseudo-terminal of its own."""

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (80, 24),
        code: str = "",
        controlling: bool = True,
        first: Callable[[], None] | None = None,
        **variables: str,
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = self.manners()
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "", **variables}

        def own_terminal() -> None:
            os.setsid()
            if first is not None:
                first()
            if controlling:  # the one whose end the kernel tells by SIGHUP
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, *(["-c", code] if code else ["-m", "tui.main"]), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            preexec_fn=own_terminal,
        )
        os.close(slave)
        self.seen = b""

    def read(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    return
                self.seen += data
            elif self.process.poll() is not None:
                return

    def wait_for(self, text: bytes, seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < until, self.seen[-2000:]
            self.read(0.1)

    def manners(self) -> tuple[bool, bool]:
        """Whether the terminal gathers lines and echoes keys, as a shell wants it."""
        flags = termios.tcgetattr(self.master)[3]
        return bool(flags & termios.ICANON), bool(flags & termios.ECHO)

    def end(self) -> None:
        """End the deck whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
