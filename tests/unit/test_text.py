"""Untrusted text becomes plain text; sizes and times read as a person says them."""

from __future__ import annotations

import pytest

from engine.text import format_bytes, format_count, format_duration, sanitize


@pytest.mark.parametrize(
    "hostile",
    ["\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\u202eevil", "\u2066x", "\x00", "\x7f", "\ud800", "\u200b", "\r"],
)
def test_no_control_character_survives(hostile):
    shown = sanitize(f"before{hostile}after")
    assert shown.startswith("before")
    assert shown.endswith("after")
    assert all(character == "\n" or (character.isprintable()) for character in shown)
    assert "\ufffd" in shown
    shown.encode("utf-8")


def test_ordinary_text_in_every_script_is_untouched():
    text = "naïve 日本語 العربية Привет emoji 🙂 {braces} [brackets]"
    assert sanitize(text) == text


def test_length_is_capped_and_lines_are_shown():
    assert sanitize("x" * 50, max_chars=10) == "x" * 9 + "…"
    assert sanitize("a\nb\tc", single_line=True) == "a⏎b    c"
    assert sanitize("a\r\nb") == "a\nb"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0, "0 B"), (1023, "1023 B"), (2**20, "1 MiB"), (41 * 2**30, "41.0 GiB"), (-(2**30), "-1.0 GiB")],
)
def test_bytes(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (float("nan"), "n/a"),
        (-1, "n/a"),
        (2.34, "2.3 s"),
        (38, "38 s"),
        (250, "4 min 10 s"),
        (4380, "1 h 13 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations(value, text):
    assert format_duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "n/a"), (9981, "9,981"), (134.5e6, "134.5 M"), (8.03e9, "8.03 B")])
def test_counts(value, text):
    assert format_count(value) == text
