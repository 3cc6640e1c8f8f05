"""Pictures of the deck for the documentation, made by the deck itself: `python -m tui.shots OUT_DIR [RUN]`.

Fit, profile and, given a run (id, part of it, directory or `last`), the run, runs and results screens; each
at 80x24 and 120x40. Other runs named behind it are compared with it. Not part of the app.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.api import runs
from engine.api.runs import Run
from engine.errors import EngineError
from tui.main import prepare_environment
from tui.runs.commands import Selection

SIZES = ((80, 24), (120, 40))
WAIT_S = 20.0


async def _until(ready: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.1)):
        if ready():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("a screen did not come up")


async def _shoot(
    folder: Path, size: tuple[int, int], run: Run | None, others: Sequence[Run], what_if: str
) -> list[Path]:
    from tui.app import DeckApp
    from tui.fit.screen import FitScreen
    from tui.frame.themes import TRUECOLOR
    from tui.profile.screen import ProfileScreen
    from tui.results.screen import ResultsScreen
    from tui.runs.compare_screen import CompareScreen

    app = DeckApp()
    app.theme = TRUECOLOR
    made: list[Path] = []
    async with app.run_test(size=size) as pilot:

        async def save(name: str) -> None:
            await pilot.pause(0.5)
            path = folder / f"deck-{name}-{size[0]}x{size[1]}.svg"
            path.write_text(app.export_screenshot(title="tunedeck", simplify=True), encoding="utf-8")
            made.append(path)

        await _until(lambda: app.deck.plan is not None)
        fit = app.screen
        if what_if and isinstance(fit, FitScreen):
            fit.ranker.imagine(what_if)
            await _until(lambda: fit.ranker.ranking is not None and bool(fit.ranker.ranking.what_if))
            await pilot.press("down", "down")
        await save("fit")
        if what_if and isinstance(fit, FitScreen):
            fit.ranker.imagine("")
            await _until(lambda: fit.ranker.ranking is not None and not fit.ranker.ranking.what_if)
        await pilot.press("home", "p")
        await _until(lambda: isinstance(app.screen, ProfileScreen) and app.screen.form_pane.found.plan is not None)
        await pilot.press(*["down"] * 5)
        await save("profile")
        if run is not None:
            app.attach(run)
            await _until(lambda: app.deck.snapshot is not None)
            await save("run")
            await pilot.press("4")
            await _until(lambda: app.deck.of(Selection).line is not None)
            app.deck.of(Selection).marked = (run, *others)
            await save("runs")
            if others:
                app.switch_mode("compare")
                await _until(lambda: isinstance(app.screen, CompareScreen) and len(app.screen.runs) == len(others) + 1)
                await save("compare")
            app.deck.chosen = run
            app.switch_mode("results")
            await _until(lambda: isinstance(app.screen, ResultsScreen) and app.screen.results is not None)
            await save("results")
    return made


def main() -> int:
    """Make the pictures and name them."""
    parser = argparse.ArgumentParser(prog="python -m tui.shots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", nargs="?", help="a run to show")
    parser.add_argument("others", nargs="*", help="runs to compare it with")
    parser.add_argument("--what-if", default="", help="show the fit screen for this card")
    arguments = parser.parse_args()
    prepare_environment()
    try:
        run = runs.find_run(arguments.run) if arguments.run else None
        others = [runs.find_run(name) for name in arguments.others]
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.code)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        for path in asyncio.run(_shoot(arguments.folder, size, run, others, arguments.what_if)):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
