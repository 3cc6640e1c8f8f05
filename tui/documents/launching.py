"""A run started from a profile's text, its worker detached from the deck."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import fit, profiles, runs
from tui.documents import document

if TYPE_CHECKING:
    from engine.api.runs import Run


def launch(text: str, path: Path) -> tuple[Run, subprocess.Popen[bytes]]:
    """Start a detached run of a profile's text on what the machine has free now. Raises EngineError."""
    resolved = profiles.resolve_profile(document.loaded(text, path), fit.probe_machine())
    name = resolved.settings.name or path.stem
    return runs.start_run(name, resolved.to_run_json(), text)
