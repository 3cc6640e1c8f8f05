"""Lets workers be forked from the template (`template.py`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HOOK = Path(__file__).parent / "hook"


def use_template(socket: Path | None, patch: pytest.MonkeyPatch) -> None:
    """Workers that are started from now on come from the template behind `socket`; without one they start whole."""
    if socket is None:
        return
    patch.setenv("PYTHONPATH", str(HOOK), prepend=os.pathsep)
    patch.setenv("TUNEDECK_TEMPLATE", str(socket))
