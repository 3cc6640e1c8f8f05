"""The deck's themes, dark and light: quiet, one accent; two of them made of the terminal's own sixteen colours.

ssh does not forward COLORTERM, so most remote terminals get one of these; everything must read well in them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from textual.theme import Theme

TRUECOLOR = "tunedeck"
ANSI = "tunedeck-ansi"
LIGHT = "tunedeck-light"
ANSI_LIGHT = "tunedeck-ansi-light"

_ON_ANSI = {
    "deck-rule": "ansi_bright_black",
    "deck-focus": "ansi_default",
    "border-blurred": "ansi_bright_black",
    "block-cursor-text-style": "none",
    "block-cursor-blurred-foreground": "ansi_default",
    "block-cursor-blurred-background": "ansi_default",
    "input-cursor-text-style": "none",
    "scrollbar": "ansi_bright_black",
    "scrollbar-background": "ansi_default",
}

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
            "deck-evaluation": "#af87d7",
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
            **_ON_ANSI,
            "deck-evaluation": "ansi_magenta",
            "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_white",
            "border": "ansi_cyan",
            "block-cursor-foreground": "ansi_black",
            "block-cursor-background": "ansi_cyan",
            "input-cursor-background": "ansi_white",
            "input-cursor-foreground": "ansi_black",
            "input-selection-background": "ansi_cyan",
            "input-selection-foreground": "ansi_black",
            "screen-selection-background": "ansi_cyan",
            "screen-selection-foreground": "ansi_black",
        },
    ),
    Theme(
        name=LIGHT,
        primary="#00688b",
        secondary="#4f7a7a",
        accent="#00688b",
        success="#3f7a1f",
        warning="#8a5a00",
        error="#b02020",
        foreground="#202020",
        background="#fafafa",
        surface="#f2f2f2",
        panel="#e8e8e8",
        dark=False,
        variables={
            "deck-rule": "#b4b4b4",
            "deck-focus": "#dceaf0",
            "deck-evaluation": "#7a3fa0",
            "block-cursor-background": "#b8d8e6",
            "block-cursor-foreground": "#101010",
            "block-cursor-text-style": "none",
            "input-cursor-background": "#202020",
            "input-cursor-foreground": "#fafafa",
        },
    ),
    Theme(
        name=ANSI_LIGHT,
        ansi=True,
        primary="ansi_blue",
        secondary="ansi_blue",
        accent="ansi_blue",
        success="ansi_green",
        warning="ansi_magenta",
        error="ansi_red",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        dark=False,
        variables={
            **_ON_ANSI,
            "deck-evaluation": "ansi_cyan",
            "ansi-background": "ansi_white",
            "ansi-foreground": "ansi_black",
            "border": "ansi_blue",
            "block-cursor-foreground": "ansi_white",
            "block-cursor-background": "ansi_blue",
            "input-cursor-background": "ansi_black",
            "input-cursor-foreground": "ansi_white",
            "input-selection-background": "ansi_blue",
            "input-selection-foreground": "ansi_white",
            "screen-selection-background": "ansi_blue",
            "screen-selection-foreground": "ansi_white",
        },
    ),
)


def default_theme(environment: Mapping[str, str], known: Container[str], own: str = "") -> str:
    """`TEXTUAL_THEME`, then a person's `own`, else by what the terminal says of its colours and its background."""
    asked = environment.get("TEXTUAL_THEME", "").split(",")[0].strip()
    for name in (asked, own):
        if name and name in known:
            return name
    system = environment.get("TEXTUAL_COLOR_SYSTEM", "auto")
    truecolor = environment.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    light = _is_light(environment.get("COLORFGBG", ""))
    if system == "truecolor" or (system == "auto" and truecolor):
        return LIGHT if light else TRUECOLOR
    return ANSI_LIGHT if light else ANSI


def plain_variables(theme: Theme) -> dict[str, str]:
    """Colors of rules, of the focused row and of evaluations, for a theme that is not ours."""
    if theme.ansi:
        return {"deck-rule": "ansi_bright_black", "deck-focus": "ansi_default", "deck-evaluation": "ansi_magenta"}
    if theme.dark:
        return {"deck-rule": "#4a4a4a", "deck-focus": "#1c2f38", "deck-evaluation": "#af87d7"}
    return {"deck-rule": "#b0b0b0", "deck-focus": "#d8e4ea", "deck-evaluation": "#7a3fa0"}


def _is_light(foreground_background: str) -> bool:
    """`0;15`: some terminals tell the numbers of their two colours; 7 and 15 are light ones."""
    return foreground_background.rpartition(";")[2] in ("7", "15")
