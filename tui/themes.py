"""The deck's two themes: quiet, one accent, the second made of the terminal's own sixteen colours.

ssh does not forward COLORTERM, so most remote terminals get the second; everything must read well in it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from textual.theme import Theme

TRUECOLOR = "tunedeck"
ANSI = "tunedeck-ansi"

THEMES = (
    Theme(
        name=TRUECOLOR,
        primary="#5fafd7",
        secondary="#87afaf",
        accent="#5fafd7",
        success="#87af5f",
        warning="#d7af5f",
        error="#d75f5f",
        foreground="#d0d0d0",
        background="#121212",
        surface="#1a1a1a",
        panel="#262626",
        dark=True,
        variables={
            "deck-rule": "#444444",
            "deck-focus": "#1a2c34",
            "block-cursor-background": "#264f63",
            "block-cursor-foreground": "#f0f0f0",
            "block-cursor-text-style": "none",
            "input-cursor-background": "#d0d0d0",
            "input-cursor-foreground": "#121212",
        },
    ),
    Theme(
        name=ANSI,
        ansi=True,
        primary="ansi_cyan",
        secondary="ansi_cyan",
        accent="ansi_cyan",
        success="ansi_green",
        warning="ansi_yellow",
        error="ansi_red",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        dark=True,
        variables={
            "deck-rule": "ansi_bright_black",
            "deck-focus": "ansi_default",
            "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_white",
            "border": "ansi_cyan",
            "border-blurred": "ansi_bright_black",
            "block-cursor-foreground": "ansi_black",
            "block-cursor-background": "ansi_cyan",
            "block-cursor-text-style": "none",
            "block-cursor-blurred-foreground": "ansi_default",
            "block-cursor-blurred-background": "ansi_default",
            "input-cursor-background": "ansi_white",
            "input-cursor-foreground": "ansi_black",
            "input-cursor-text-style": "none",
            "input-selection-background": "ansi_cyan",
            "input-selection-foreground": "ansi_black",
            "screen-selection-background": "ansi_cyan",
            "screen-selection-foreground": "ansi_black",
            "scrollbar": "ansi_bright_black",
            "scrollbar-background": "ansi_default",
        },
    ),
)


def default_theme(environment: Mapping[str, str], known: Container[str]) -> str:
    """`TEXTUAL_THEME` when it names a theme, else by what the terminal says of its colours."""
    asked = environment.get("TEXTUAL_THEME", "").split(",")[0].strip()
    if asked and asked in known:
        return asked
    system = environment.get("TEXTUAL_COLOR_SYSTEM", "auto")
    truecolor = environment.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return TRUECOLOR if system == "truecolor" or (system == "auto" and truecolor) else ANSI
