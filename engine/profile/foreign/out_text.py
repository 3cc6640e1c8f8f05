"""An outgoing profile as YAML: how to use it, what that tool cannot be told, then the settings."""

from __future__ import annotations

import textwrap

import yaml

from engine.profile.foreign.draft import MAX_LISTED_CHARS
from engine.profile.foreign.outgoing import Outgoing
from engine.text import sanitize


def yaml_text(out: Outgoing, source: str, name: str) -> str:
    """The settings with a heading of comments; `source` is the profile's name and `name` the file's."""
    lines = [f"Made from {sanitize(source, max_chars=200, single_line=True)} for {out.tool}."]
    lines += [head.replace("THIS_FILE", sanitize(name, max_chars=200, single_line=True)) for head in out.head]
    lines.append("Run it in the folder of this file: its paths of data are relative to that.")
    if out.lost:
        lines.append(f"Not carried over, or not quite, to {out.tool}:")
        lines += [line for lost in out.lost for line in _wrapped(str(lost))]
    comments = "".join(f"# {line}\n" for line in lines)
    return comments + "\n" + yaml.safe_dump(out.told, sort_keys=False, allow_unicode=True, width=110)


def _wrapped(text: str) -> list[str]:
    whole = sanitize(text, max_chars=MAX_LISTED_CHARS + 400, single_line=True)
    return textwrap.wrap(whole, 108, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False) or ["  "]
