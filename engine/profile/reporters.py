"""Whether what `train.report_to` names is installed: found out before a run starts, not when its curve is missed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from engine.errors import ExitCode
from engine.profile.cross import Context
from engine.profile.findings import Finding, finding


def reporter_findings(context: Context) -> Iterator[Finding]:
    """A problem for each reporter without its package."""
    if not context.loaded.is_given("train.report_to"):
        return
    for name in context.profile.train.report_to:
        if find_spec(name) is None:
            message, hint = f"'{name}' is not installed", f"pip install {name}, or leave it out"
            yield finding(context.loaded, "train.report_to", message, hint, value=name, code=ExitCode.ENVIRONMENT)
