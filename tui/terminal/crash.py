"""What is left when the deck itself breaks: a report file without any values, and one line.

Textual would print local variables: tokens, prompts, rows of data.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from pathlib import Path

from engine.api.runs import state_home
from engine.files import write_text_atomic
from engine.text import hide_secrets, sanitize


def _redacted(text: str) -> str:
    """`text` without what looks like an access token, and without the home directory."""
    home = os.path.expanduser("~")
    return hide_secrets(text.replace(home, "~") if len(home) > 1 else text)


def report_text(error: BaseException) -> str:
    """The report: versions, and the traceback without local variables."""
    frames = "".join(traceback.format_exception(error, limit=-40, chain=True))
    head = f"tunedeck crash report\npython {platform.python_version()} on {sys.platform}\n\n"
    return _redacted(head + sanitize(frames, max_chars=40_000))


def write_report(error: BaseException) -> Path | None:
    """Write the report into the state directory; None when even that fails."""
    folder = state_home() / "crashes"
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text_atomic(path, report_text(error))
    except OSError:
        return None
    return path


def crash_line(error: BaseException, path: Path | None) -> str:
    """What the person sees after the terminal is restored."""
    from engine.libraries import explain

    what = _redacted(sanitize(f"{type(error).__name__}: {error}", max_chars=200, single_line=True))
    where = f"report: {path}" if path else "no report could be written"
    library = explain(error)
    why = f" {sanitize(str(library), max_chars=400, single_line=True)}." if library else ""
    return f"tunedeck broke: {what}.{why} Runs go on without it. {where}"
