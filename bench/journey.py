"""A person's way through the deck, typed by keys alone in a real terminal: `python bench/journey.py docs`.

tmux at 80 x 24 in 256 colours, the built-in model, a state folder of its own. Each screen is kept as text in
OUT/journey.md and as OUT/journey-N.svg, with the seconds that it took to come. Needs tmux; takes two to four minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 24
ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# A journey through the deck

Made by `python bench/journey.py docs`, keys only, in tmux at 80 x 24 in 256 colours, on the built-in model. Each screen
is what the terminal showed, as text here and in colour behind its link.

From the first screen to an exported model it takes {count} keys: {keys}. Each of them
stood on the screen before it was pressed; the journey ends with an error where one does not. All others are looks
aside, and ways back.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Keys as tmux names them, what must then be on the screen, and what a reader is told."""

    told: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    patience_s: float = 30.0
    needed: tuple[tuple[str, str], ...] = ()
    """Keys that nobody can do without on the way to an exported model, and how the screen before them names each."""


STEPS = (
    Step("The deck opens: what this machine can tune, the built-in model first.", (), ("> demo", "OK")),
    Step(
        "`enter` shows the estimate of the highlighted model, term by term.",
        ("Enter",),
        ("make a profile",),
        needed=(("Enter", "enter estimate"),),
    ),
    Step(
        "`enter` makes a profile of it; every value says where it comes from.",
        ("Enter",),
        ("demo (shipped)", "OK"),
        needed=(("Enter", "enter make a profile"),),
    ),
    Step("`d` reads the data: what was kept, and which tokens are trained.", ("d",), ("rows", "⟦"), 120),
    Step(
        "`esc`, then `ctrl+r`: the run starts in a process of its own.",
        ("Escape", "C-r"),
        ("training   step", "best)"),
        240,
        (("C-r", "^r run"),),
    ),
    Step("`T` shows all curves at once, under one crosshair.", ("T",), ("evaluation loss", "learning rate")),
    Step("`T` again, then `a`: what the model answers to fixed prompts.", ("T", "a"), ("28 August", "base")),
    Step("`esc`: the run has ended.", ("Escape",), ("completed", "done: 5"), 480),
    Step("`i` tells the whole run on one page.", ("i",), ("overview", "best evaluation")),
    Step(
        "`esc`, `5`: what it has come to; `v` scores base against tuned.",
        ("Escape", "5", "v"),
        ("exact match", "better"),
        240,
        (("5", "5 results"), ("v", "v evaluate")),
    ),
    Step("`enter` reads a whole sample.", ("Enter",), ("wanted",)),
    Step("`esc`, `e`: the formats of an export.", ("Escape", "e"), ("gguf q8_0",), needed=(("e", "e export"),)),
    Step(
        "`w` writes adapter and merged model, reads them back and compares.",
        ("w",),
        ("written to",),
        240,
        (("w", "w write"),),
    ),
    Step("`c` talks with it: the question is typed, `enter` sends it.", ("c", "QUESTION", "Enter"), ("tuned  2",), 120),
    Step("`esc`, `4`: all runs.", ("Escape", "Escape", "4"), ("completed", "demo")),
    Step("`?` says what every key does.", ("?",), ("Keys: runs",)),
)
QUESTION = "What is the 3rd of May 2027 in ISO 8601?"


class Terminal:
    """tmux with one window that runs the deck."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        command = f"cd {folder}; PYTHONPATH={ROOT} {sys.executable} -m tui.main; echo left with $?; exec sh"
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        subprocess.run([*self._tmux, "new-session", "-d", *size, command], check=True, env=environment)

    def type(self, *keys: str, named: Mapping[str, str] = MappingProxyType({})) -> None:
        """Press keys one after the other; `QUESTION` types the question. `named`: what must say so before some."""
        for key in keys:
            if named.get(key, "") not in self.screen():
                sys.exit(f"nothing names the key {key} ({named[key]!r}); the screen shows\n{self.screen()}")
            literal = ["-l", QUESTION] if key == "QUESTION" else [key]
            subprocess.run([*self._tmux, "send-keys", *literal], check=True)
            time.sleep(0.4)

    def screen(self, *, colours: bool = False) -> str:
        """What the terminal shows."""
        how = ["-e"] if colours else []
        return subprocess.run(
            [*self._tmux, "capture-pane", "-p", *how], capture_output=True, text=True, check=True
        ).stdout

    def wait_for(self, step: Step) -> float:
        """Seconds until all texts of the step are there."""
        began = time.monotonic()
        while not all(text in (seen := self.screen()) for text in step.texts):
            if time.monotonic() - began > step.patience_s:
                sys.exit(f"waited in vain for {step.texts} after {step.keys}; the screen shows\n{seen}")
            time.sleep(0.1)
        return time.monotonic() - began

    def close(self) -> None:
        """End it."""
        subprocess.run([*self._tmux, "kill-server"], check=False)


def picture(screen: str, title: str) -> str:
    """A screen with its colours as SVG."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), color_system="256")
    for line in screen.splitlines():
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    return console.export_svg(title=title, clear=True)


def head() -> str:
    """What the page begins with: which keys the way takes."""
    labels = {"Enter": "enter", "C-r": "ctrl+r"}
    keys = [f"`{labels.get(key, key)}`" for step in STEPS for key, _ in step.needed]
    return HEAD.format(count=len(keys), keys=" ".join(keys))


def travel(out: Path, folder: Path) -> str:
    """Take every step; gives the page."""
    terminal, parts = Terminal(folder), [head()]
    try:
        for number, step in enumerate(STEPS, 1):
            terminal.type(*step.keys, named=dict(step.needed))
            took_s = terminal.wait_for(step)
            time.sleep(1.2)  # a whole picture, not the first frame that has the words
            name = f"journey-{number:02}.svg"
            drawn = picture(terminal.screen(colours=True), "tunedeck")
            (out / name).write_text(anonymous(drawn, folder), encoding="utf-8")
            text = "\n".join(line.rstrip() for line in terminal.screen().splitlines())
            parts.append(
                f"\n## {number}. {step.told}\n\n[in colour]({name}), after {took_s:.1f} s\n\n```\n{text}\n```\n"
            )
            sys.stderr.write(f"{number:2} {took_s:6.1f} s  {step.told}\n")
        terminal.type("Escape", "q")
        terminal.wait_for(Step("", (), ("left with 0",)))
    finally:
        terminal.close()
    return anonymous("".join(parts), folder)


def anonymous(text: str, folder: Path) -> str:
    """`text` without the paths of this machine."""
    return text.replace(str(folder), "~").replace(str(ROOT), "~/tunedeck")


def main() -> int:
    """Write the page and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    if shutil.which("tmux") is None:
        sys.exit("tmux is not installed")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="journey-") as folder:
        (out / "journey.md").write_text(travel(out, Path(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
