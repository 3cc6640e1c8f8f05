"""A chat template in a file of its own, as `data.template` names one."""

from __future__ import annotations

import stat
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.text import sanitize

SUFFIXES = (".jinja", ".jinja2", ".j2")
MAX_BYTES = 1024 * 1024
KEPT = "template.jinja"
"""A run's copy, so that it goes on as it began."""


def is_template_file(name: str) -> bool:
    """Whether `data.template` names a file and not a template that comes with Tunedeck."""
    return name.lower().endswith(SUFFIXES)


def template_path(name: str, base_dir: Path) -> Path:
    """The file, relative to the profile's folder; `~` is the home folder."""
    try:
        return base_dir / Path(name).expanduser()
    except RuntimeError:
        return base_dir / name


def read_template(name: str, base_dir: Path) -> str:
    """The Jinja text. Raises EngineError(PROFILE) for what is no readable, non-empty text of at most 1 MiB."""
    path = template_path(name, base_dir)
    shown = sanitize(str(path.absolute()), max_chars=300, single_line=True)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _trouble(f"{shown} is not a file")
        if status.st_size > MAX_BYTES:
            raise _trouble(f"{shown} has {status.st_size:,} bytes; a chat template has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _trouble(f"{shown} is not UTF-8 text") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "bad path"
        raise _trouble(f"the chat template {shown} cannot be read: {reason}") from error
    if not text.strip():
        raise _trouble(f"{shown} is empty")
    return text


def kept_template(run_dir: Path) -> str | None:
    """The text that a run began with; None where it named no file, or has not begun."""
    return read_template(KEPT, run_dir) if (run_dir / KEPT).is_file() else None


def _trouble(message: str) -> EngineError:
    hint = "name a Jinja file, relative to the profile, or a template such as 'chatml'"
    return EngineError(message, code=ExitCode.PROFILE, where="data.template", hint=hint)
