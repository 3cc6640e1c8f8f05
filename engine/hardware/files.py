"""Reading small kernel files below a root that tests can replace."""

from __future__ import annotations

import os


def read_text(root: str, path: str, limit_bytes: int = 65536) -> str:
    """Text of `root/path`, at most `limit_bytes` of it; empty where it cannot be read.

    The limit matters for `/proc/cpuinfo`, which the kernel makes while it is read: hundreds of
    processors take tens of milliseconds, and the first one says it all.
    """
    try:
        with open(os.path.join(root, path), "rb", buffering=0) as file:
            return file.read(limit_bytes).decode("utf-8", "replace").replace("\x00", "")
    except OSError:
        return ""


def read_int(root: str, path: str) -> int | None:
    """The number in `root/path`; `None` where there is none (`max`, missing, unreadable)."""
    text = read_text(root, path, 64).strip()
    return int(text) if text.lstrip("-").isdigit() else None
