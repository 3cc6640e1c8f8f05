"""The keys of a screen, from the command table."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content

from tui.frame.commands import Command, CommandTable, key_label
from tui.frame.settings import DeckSettings
from tui.text import Part, fit, line, safe, short_path
from tui.widgets.dialogs import Reader

EXTRA = {
    "fit": (("up down", "choose a model"),),
    "profile": (
        ("up down", "go from field to field"),
        ("enter", "edit the field, or choose from its values; open or fold a section"),
        ("space", "next value of a choice, or on and off"),
        ("esc", "give an edit up; every command takes it first"),
    ),
    "run": (("up down", "scroll the log; it stops following"), ("enter", "read the lines of the log in sight whole")),
    "runs": (("up down", "choose a run"),),
    "compare": (("up down", "scroll the tables"),),
    "results": (
        ("up down", "choose a sample or a format; in the chat: what you entered before"),
        ("enter", "in the chat: ask; a line that begins with / changes how answers are made"),
    ),
}
MOVES = (
    ("j k", "down and up, in lists and texts"),
    ("g G", "to the beginning and the end"),
    ("^d ^u", "half a page down and up"),
    ("/ n N", "here: find words, the next place, the one before"),
)
MARKS = {
    "fit": "OK fits with room · TIGHT fits, little room · NO does not fit, +GiB says by how much",
    "profile": "auto: chosen for this machine · profile: from the file · edited: not saved yet · default",
    "run": "dots: loss of each step · line: smoothed · o, e: evaluation · ◆: the best · !: a concern",
    "runs": "lost: the worker ended without saying why; it can be resumed · A B C: marked to be compared",
    "compare": "A B C: the runs, also in the chart · ✓: the best of a row · auto, default, …: who chose a value",
    "results": "better, worse: the interval leaves zero out · chance: it does not · ✓: exactly as wanted",
}


def _rows(commands: list[Command], keys: Mapping[str, str]) -> list[Part]:
    parts: list[Part] = []
    for command in commands:
        shown = key_label(command, keys) if command.key or command.id in keys else "^p"
        called = "" if command.label.lower() in command.help.lower() else f" ({command.label})"
        parts += [(fit(f"  {shown}", 12), "bold $accent"), command.help, (f"{called}\n", "dim")]
    return parts


def help_text(
    table: CommandTable,
    screen: str,
    here: tuple[str, Content] | None = None,
    settings: DeckSettings | None = None,
) -> Content:
    """What has the keyboard, then everything the hands can do on `screen`, then where keys are changed."""
    commands = table.of(screen)
    keys = settings.keys if settings else {}
    parts: list[Part] = _rows([command for command in commands if command.screen], keys)
    for shown, text in EXTRA.get(screen, ()):
        parts += [(fit(f"  {shown}", 12), "bold $accent"), f"{text}\n"]
    parts += [("\neverywhere\n", "dim"), *_rows([command for command in commands if not command.screen], keys)]
    parts += [part for shown, text in MOVES for part in ((fit(f"  {shown}", 12), "bold $accent"), f"{text}\n")]
    parts += [("\nwhat the words mean\n", "dim"), f"  {MARKS.get(screen, '')}\n"]
    if settings is not None:
        parts += [("\nother keys and colours\n", "dim"), f"  theme = and [keys] in {short_path(settings.path)}\n"]
        parts += [
            (f"  {safe(item.key)} {safe(item.message)}; {safe(item.hint)}\n", "$warning") for item in settings.problems
        ]
    body = line(*parts)
    if here is None:
        return body
    title, text_here = here
    return Content("\n").join(
        [Content.styled(title, "bold"), text_here, Content(""), Content.styled("keys", "bold"), body]
    )


def help_screen(
    table: CommandTable,
    screen: str,
    here: tuple[str, Content] | None = None,
    settings: DeckSettings | None = None,
) -> Reader:
    """What `?` opens."""
    return Reader(f"Keys: {screen}", help_text(table, screen, here, settings))
