"""The way from any screen to the overview of a run. The overview itself is imported when somebody asks for it."""

from __future__ import annotations

from textual.dom import DOMNode

from engine.api.runs import Run


def open_overview(node: DOMNode, run: Run | None) -> None:
    """Show everything about `run` on one page; nothing without a run."""
    from tui.overview.screen import OverviewScreen

    if run is not None:
        node.app.push_screen(OverviewScreen(run))
