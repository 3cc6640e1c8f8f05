"""A person's own settings of the deck: `$XDG_CONFIG_HOME/tunedeck/deck.toml`, with a theme and other keys.

    theme = "tunedeck-light"

    [keys]
    checkpoint = "C"
    stop = ["ctrl+x", "f9"]

    [runs]                                # written by the deck: how screen 4 lists runs
    columns = ["lora.r", "perplexity"]
    order = "perplexity"

What is wrong there is told when the deck opens and in its help; the rest holds. Not here: what the keys do
(`commands.py`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engine.errors import Problem
from tui.frame.commands import Command, CommandTable
from tui.text import safe

KEPT = frozenset(
    ("up", "down", "pageup", "pagedown", "home", "tab", "shift+tab", "enter", "escape", "backspace", "ctrl+c", "ctrl+q")
)
"""Keys for moving, typing and leaving."""
SAME = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+j": "enter"}
"""Pairs that a terminal sends as one."""
_NAMED = re.compile(r"f([1-9]|1[0-9]|2[0-4])|end|insert|delete|space|left|right")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_SIZE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeckSettings:
    """What the file says and can be done. `keys`: command -> Textual's names of its keys, comma-separated."""

    path: Path
    theme: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    runs: RunsView = field(default_factory=lambda: RunsView())


@dataclass(frozen=True, slots=True)
class RunsView:
    """How screen 4 lists runs: columns of one's own, what they are ordered by, what they are grouped by."""

    columns: tuple[str, ...] = ()
    order: str = ""
    turned: bool = False
    group: str = ""


def settings_path() -> Path:
    """Where the file is, honouring XDG_CONFIG_HOME."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "tunedeck" / "deck.toml"


def read_settings(table: CommandTable, themes: frozenset[str] = frozenset()) -> DeckSettings:
    """The file's settings for the commands of `table`; without a file none. Never raises for what a person wrote."""
    path = settings_path()
    try:
        with path.open("rb") as file:
            text = file.read(_SIZE_LIMIT).decode("utf-8")
        import tomllib  # 3 ms that a deck without settings need not pay

        tree = tomllib.loads(text)
    except FileNotFoundError:
        return DeckSettings(path)
    except (OSError, ValueError, RecursionError) as error:
        return DeckSettings(path, problems=(Problem(safe(error), "the deck uses its own keys", where=str(path)),))
    problems: list[Problem] = []
    theme = _theme(tree.get("theme", ""), themes, problems)
    keys = _keys(tree.get("keys", {}), table, problems)
    runs = _runs(tree.get("runs", {}), problems)
    for name in tree:
        if name not in ("theme", "keys", "runs"):
            near = _near(name, ["theme", "keys", "runs"])
            problems.append(Problem("is no setting of the deck", near, key=safe(name, 60)))
    return DeckSettings(path, theme, keys, tuple(problems), runs)


def problems_text(settings: DeckSettings) -> str:
    """What of a person's own settings could not be done; empty when all could."""
    lines = [f"{problem.key} {problem.message}".strip() for problem in settings.problems]
    return "\n".join(safe(line, 200) for line in lines[:4]) + "\n? says what to do" if lines else ""


def _runs(written: Any, problems: list[Problem]) -> RunsView:
    """`[runs]`, which the deck writes itself when columns are chosen."""
    table = written if isinstance(written, dict) else {}
    columns = table.get("columns", [])
    good = isinstance(columns, list) and all(isinstance(one, str) and _COLUMN.fullmatch(one) for one in columns)
    names = [table.get(key, "") for key in ("order", "group")]
    good = good and isinstance(written, dict) and isinstance(table.get("turned", False), bool)
    if not good or not all(name == "" or (isinstance(name, str) and _COLUMN.fullmatch(name)) for name in names):
        hint = "columns = a list of names such as 'lora.r'; order, group = one of them; turned = true or false"
        problems.append(Problem("cannot be used", hint, key="runs"))
        return RunsView()
    return RunsView(tuple(dict.fromkeys(columns)), names[0], table.get("turned", False), names[1])


def _theme(asked: Any, themes: frozenset[str], problems: list[Problem]) -> str:
    if asked == "" or (isinstance(asked, str) and (asked in themes or not themes)):
        return str(asked)
    problems.append(Problem(f"'{safe(asked, 40)}' is no theme", _near(str(asked), sorted(themes)), key="theme"))
    return ""


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean '{near[0]}'?" if near else "there are: " + ", ".join(known[:12])


def _keys(written: Any, table: CommandTable, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(written, dict):
        problems.append(Problem("must be a table: [keys]", key="keys"))
        return {}
    found: dict[str, str] = {}
    for name, value in written.items():
        key = f"keys.{safe(name, 40)}"
        if name not in table.by_id:
            problems.append(Problem("is no command", _near(str(name), list(table.by_id)), key=key))
            continue
        try:
            found[name] = ",".join(parse_key(text) for text in _texts(value))
        except ValueError as error:
            problems.append(Problem(str(error), "write a key as 's', 'S', '/', 'f5' or 'ctrl+x'", key=key))
    return _without_clashes(found, table, problems)


def _texts(written: Any) -> list[str]:
    texts = written if isinstance(written, list) else [written]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("must be a key or a list of keys")
    return texts


def parse_key(text: str) -> str:
    """Textual's name of a key as a person writes it. Raises ValueError in words."""
    name = text.strip() or text[:1]
    name = f"ctrl+{name[1:]}" if len(name) == 2 and name[0] == "^" else name
    *modifiers, last = name.split("+") if name != "+" and not name.endswith("++") else [*name[:-1].split("+")[:-1], "+"]
    if any(word.lower() not in ("ctrl", "alt", "shift") for word in modifiers):
        raise ValueError(f"'{safe(text, 30)}' is no key")
    if len(last) == 1:
        last = last if last.isalnum() else _character(last)
    elif not _NAMED.fullmatch(last.lower()) and last.lower() not in KEPT:
        raise ValueError(f"'{safe(text, 30)}' is no key that can be given")
    else:
        last = last.lower()
    whole = "+".join([*(word.lower() for word in modifiers), last])
    if whole in KEPT:
        raise ValueError(f"'{safe(text, 30)}' is kept for moving, typing and leaving")
    if whole in SAME:
        raise ValueError(f"a terminal sends {SAME[whole]} for '{safe(text, 30)}'")
    return whole


def _character(character: str) -> str:
    """Textual's long names: `slash`, `question_mark`."""
    short = {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus"}
    short |= {"plus_sign": "plus", "low_line": "underscore"}
    try:
        name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    except ValueError:
        raise ValueError("a control character is no key") from None
    return short.get(name, name)


def _without_clashes(found: dict[str, str], table: CommandTable, problems: list[Problem]) -> dict[str, str]:
    """What is left when no key means two things on one screen; the earlier one in the table keeps it."""
    kept = dict(found)
    for name in found:
        for key, other, screen in _clashes(table.by_id[name], kept, table):
            label = table.by_id[other].label
            hint = f"give '{other}' another key too"
            problems.append(Problem(f"'{key}' is '{label}' on the {screen} screen", hint, key=f"keys.{name}"))
            del kept[name]
            break
    return kept


def _clashes(command: Command, kept: Mapping[str, str], table: CommandTable) -> Iterator[tuple[str, str, str]]:
    screens = [command.screen] if command.screen else table.screens
    for screen in screens:
        for other in table.rows:
            if other.id != command.id and other.screen in ("", screen):
                theirs = kept.get(other.id, other.key).split(",")
                for key in kept[command.id].split(","):
                    if key in theirs:
                        yield key, other.id, screen
