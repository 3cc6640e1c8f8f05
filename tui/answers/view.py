"""Strips of answers as text: steps beside each other where there is room, else the base above one step.

Pure functions of strips, a place in them, and a width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from textual.content import Content

from engine.text import wrap
from tui.reading.strips import Answered, Strip
from tui.text import Part, clip, fit, line

SIDE_BY_SIDE_COLUMNS = 100
"""From this width on, steps stand beside each other and all prompts are seen."""
_COLUMN = 38
_GAP = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Which prompt is looked at, and which of its answers by place; None = the newest, also when one comes."""

    prompt: int = 0
    answer: int | None = None

    def within(self, strips: tuple[Strip, ...]) -> Place:
        """The nearest place that there is."""
        prompt = min(max(0, self.prompt), max(0, len(strips) - 1))
        last = len(strips[prompt].answers) - 1 if strips else 0
        answer = None if self.answer is None or self.answer >= last else max(0, self.answer)
        return Place(prompt, answer)

    def moved(self, strips: tuple[Strip, ...], by: int) -> Place:
        """Another answer of the same prompt."""
        last = len(strips[self.prompt].answers) - 1 if strips else 0
        here = last if self.answer is None else self.answer
        return Place(self.prompt, here + by).within(strips)


def head(strips: tuple[Strip, ...], place: Place) -> tuple[list[Part], list[Part]]:
    """What is shown, and where one is in it."""
    if not strips:
        return [("answers while it learned", "bold")], []
    strip = strips[place.prompt]
    chosen = len(strip.answers) - 1 if place.answer is None else place.answer
    right: list[Part] = [(f"prompt {place.prompt + 1} of {len(strips)}   ", "dim")]
    right += [(strip.answers[chosen].name, "bold $accent"), (f", {chosen + 1} of {len(strip.answers)}", "dim")]
    return [("answers while it learned", "bold")], right


def strips_text(strips: tuple[Strip, ...], place: Place, width: int) -> Content:
    """All prompts with steps beside each other, or one prompt with the base and one step below each other."""
    if not strips:
        return Content.styled("nothing was answered yet", "dim")
    if width < SIDE_BY_SIDE_COLUMNS:
        return Content("\n").join(_stacked(strips[place.prompt], place.answer, width))
    shown: list[Content] = []
    for number, strip in enumerate(strips):
        shown += _beside(strip, place.answer, width, marked=number == place.prompt)
    return Content("\n").join(shown)


def first_line(strips: tuple[Strip, ...], place: Place, width: int) -> int:
    """The line at which the prompt looked at begins."""
    if width < SIDE_BY_SIDE_COLUMNS:
        return 0
    before = (_beside(strip, place.answer, width, marked=False) for strip in strips[: place.prompt])
    return sum(len(lines) for lines in before)


def shown_answers(strip: Strip, chosen: int | None, most: int) -> list[int]:
    """Which answers stand beside each other: the base, the newest, the chosen one, and others evenly between."""
    last = len(strip.answers) - 1
    if last < most:
        return list(range(last + 1))
    places = [round(number * last / (most - 1)) for number in range(most)]
    if chosen is not None and chosen not in places and most > 2:
        nearest = min(range(1, most - 1), key=lambda number: abs(places[number] - chosen))
        places[nearest] = chosen
    elif chosen is not None and chosen not in places:
        places[-1] = chosen
    return places


def _stacked(strip: Strip, chosen: int | None, width: int) -> list[Content]:
    last = len(strip.answers) - 1
    chosen = last if chosen is None else chosen
    shown = [Content.styled(text, "bold") for text in _wrapped(strip.prompt, width)]
    shown += [Content(""), _track(strip, chosen, width)]
    for number in dict.fromkeys((0, chosen)):
        answer = strip.answers[number]
        shown += [Content(""), _title(answer, width, marked=number == chosen)]
        shown += [Content(text) for text in _texts(answer, width)]
    return shown


def _track(strip: Strip, chosen: int, width: int) -> Content:
    """`base → 20 → 40 → 60`, the chosen one marked; where they do not fit, those around it."""
    names = [f"{step:,}" if step else "base" for step in strip.steps]
    low, high = chosen, chosen + 1
    room = width - len(names[chosen]) - 8
    while low > 0 or high < len(names):
        before = len(names[low - 1]) + 3 if low > 0 else width
        after = len(names[high]) + 3 if high < len(names) else width
        if min(before, after) > room:
            break
        backward = before <= room and (chosen - low <= high - 1 - chosen or after > room)
        low, high, room = (low - 1, high, room - before) if backward else (low, high + 1, room - after)
    parts: list[Part] = [("… → ", "dim")] if low > 0 else []
    for number in range(low, high):
        parts.append((names[number], "bold $accent underline" if number == chosen else "dim"))
        parts.append((" → ", "dim"))
    parts = [*parts, ("…", "dim")] if high < len(names) else parts[:-1]
    return line(*parts)


def _beside(strip: Strip, chosen: int | None, width: int, *, marked: bool) -> list[Content]:
    """One prompt, and below it its answers in columns."""
    most = max(2, (width - 2) // (_COLUMN + _GAP))
    last = len(strip.answers) - 1
    here = last if chosen is None else min(chosen, last)  # another prompt may have more answers
    places = shown_answers(strip, None if chosen is None else here, most)
    room = (width - 2) // len(places) - _GAP
    style = "bold $accent" if marked else "bold"
    asked = _wrapped(strip.prompt, width - 2) if marked else [clip(" ".join(strip.prompt.split()), width - 2)]
    lines = [line(("▸ " if marked and not number else "  ", style), (text, style)) for number, text in enumerate(asked)]
    titles = [_title(strip.answers[place], room, marked=marked and place == here) for place in places]
    lines.append(Content.assemble("  ", *(_padded(title, room + _GAP) for title in titles)))
    columns = [_texts(strip.answers[place], room) for place in places]
    for row in zip_longest(*columns, fillvalue=""):
        lines.append(Content("  " + "".join(fit(text, room + _GAP) for text in row).rstrip()))
    return [*lines, Content("")]


def _title(answer: Answered, width: int, *, marked: bool) -> Content:
    note = f"  {answer.note}" if answer.note else ""
    return line((answer.name, "bold $accent" if marked else "bold"), (note, "dim")).truncate(width, ellipsis=True)


def _padded(content: Content, width: int) -> Content:
    return Content.assemble(content, " " * max(0, width - content.cell_length))


def _texts(answer: Answered, width: int) -> list[str]:
    return _wrapped(answer.text, width) if answer.text else ["(nothing)"]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; each keeps its indent."""
    found: list[str] = []
    for raw in text.expandtabs(4).split("\n"):
        indent = " " * min(len(raw) - len(raw.lstrip(" ")), width // 2)
        found += wrap(raw, first=indent, rest=indent, width=width)
    return found
