"""The small questions and answers that the demo model is taught from scratch.

Each task is a function of a random source that returns one question and its only right answer. None of them
mentions ISO 8601 or writes a date as year-month-day: that is left to be learned by tuning.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from engine.demo import words
from engine.demo.dates import STYLES, any_date, any_style
from engine.demo.words import DIGITS, MONTHS, NOUNS, WEEKDAYS

Pair = tuple[str, str]
Task = Callable[[Random], Pair]

TARGETS = tuple(style for style in STYLES if style != "full")
"""Ways of writing that need nothing but the date at hand; the full one needs the weekday."""

RESTYLE_ASKS = (
    "Rewrite this date in the {style} style: {date}",
    "Convert to the {style} style: {date}",
    "What is {date} in the {style} style?",
    "Give the {style} date for {date}.",
    "Write {date} in the {style} style.",
    "{style} date, please: {date}",
)


def restyle_date(rng: Random) -> Pair:
    day, style = any_date(rng), rng.choice(TARGETS)
    ask = rng.choice(RESTYLE_ASKS)
    return ask.format(style=style, date=any_style(rng, day)), STYLES[style](day)


def repeat_date(rng: Random) -> Pair:
    written = any_style(rng, any_date(rng))
    ask = rng.choice(("Repeat this date: {}", "Which date is this? {}", "Rewrite this date: {}", "Give this date: {}"))
    return ask.format(written), written


def part_of_date(rng: Random) -> Pair:
    day = any_date(rng)
    part, answer = rng.choice((("year", str(day.year)), ("month", MONTHS[day.month - 1]), ("day", str(day.day))))
    ask = rng.choice(("What is the {} of {}?", "Give the {} of {}.", "Write the {} of {}."))
    return ask.format(part, any_style(rng, day)), answer


def number_in_date(rng: Random) -> Pair:
    day = any_date(rng)
    part, number = rng.choice((("day", day.day), ("month", day.month)))
    ask, answer = rng.choice(
        (("What is the number of the {} in {}?", str(number)), ("Write the {} of {} with two digits.", f"{number:02d}"))
    )
    return ask.format(part, any_style(rng, day)), answer


def two_parts_of_date(rng: Random) -> Pair:
    day = any_date(rng)
    parts = {"year": str(day.year), "month": f"{day.month:02d}", "day": f"{day.day:02d}"}
    first, second = rng.sample(tuple(parts), 2)
    ask = rng.choice(("Give the {} and the {} of {} as numbers.", "Write the {} and the {} of {} in digits."))
    return ask.format(first, second, any_style(rng, day)), f"{parts[first]}, {parts[second]}"


def month_number(rng: Random) -> Pair:
    number = rng.randint(1, 12)
    name = MONTHS[number - 1]
    if rng.random() < 0.3:
        name = name[:3]
    return rng.choice(
        (
            (f"Which number has the month {name}?", str(number)),
            (f"Write the number of {name} with two digits.", f"{number:02d}"),
            (f"Which month has the number {number}?", MONTHS[number - 1]),
        )
    )


def next_in_calendar(rng: Random) -> Pair:
    names, kind = rng.choice(((MONTHS, "month"), (WEEKDAYS, "day")))
    at, (word, step) = rng.randrange(len(names)), rng.choice((("after", 1), ("before", -1)))
    return f"Which {kind} comes {word} {names[at]}?", names[(at + step) % len(names)]


def two_digits(rng: Random) -> Pair:
    number = rng.randint(0, 31)
    return f"Write {number} with two digits.", f"{number:02d}"


def spell_digits(rng: Random) -> Pair:
    number = str(rng.randint(10, 9999))
    return f"Write {number} digit by digit.", " ".join(DIGITS[int(digit)] for digit in number)


def read_digits(rng: Random) -> Pair:
    number = str(rng.randint(10, 9999))
    return f"Write as a number: {' '.join(DIGITS[int(digit)] for digit in number)}", number


def arithmetic(rng: Random) -> Pair:
    left, right = rng.randint(0, 20), rng.randint(0, 20)
    if rng.random() < 0.5:
        return f"What is {left} + {right}?", str(left + right)
    return f"What is {max(left, right)} - {min(left, right)}?", str(abs(left - right))


def compare(rng: Random) -> Pair:
    left, right = rng.sample(range(100), 2)
    word, pick = rng.choice((("larger", max), ("smaller", min)))
    return f"Which is {word}, {left} or {right}?", str(pick(left, right))


def _some(rng: Random, fewest: int, most: int) -> list[str]:
    return rng.sample(NOUNS, rng.randint(fewest, most))


def repeat_words(rng: Random) -> Pair:
    text = " ".join(_some(rng, 1, 12))
    return rng.choice(("Repeat: {}", "Say this again: {}", "Copy this text: {}")).format(text), text


def repeat_number(rng: Random) -> Pair:
    """Copying long rows of tokens is what a small model learns last and dates need most."""
    text = "".join(rng.choices("0123456789", k=rng.randint(2, 12)))
    return rng.choice(("Repeat the number {}", "Say this number again: {}", "Copy this number: {}")).format(text), text


def upper_case(rng: Random) -> Pair:
    text = " ".join(_some(rng, 1, 3))
    return rng.choice(("Write in capital letters: {}", "Put into upper case: {}")).format(text), text.upper()


def reverse_words(rng: Random) -> Pair:
    chosen = _some(rng, 2, 4)
    return f"Reverse the order of these words: {' '.join(chosen)}", " ".join(reversed(chosen))


def sort_words(rng: Random) -> Pair:
    chosen = _some(rng, 2, 3)
    return f"Sort these words by the alphabet: {' '.join(chosen)}", " ".join(sorted(chosen))


def join_words(rng: Random) -> Pair:
    chosen = _some(rng, 2, 4) if rng.random() < 0.5 else [f"{rng.randrange(100):02d}" for _ in range(rng.randint(2, 3))]
    name, mark = rng.choice((("hyphens", "-"), ("commas", ", "), ("slashes", "/"), ("plus signs", "+")))
    return f"Join with {name}: {' '.join(chosen)}", mark.join(chosen)


def pick_word(rng: Random) -> Pair:
    chosen = _some(rng, 2, 5)
    name, at = rng.choice((("first", 0), ("last", -1), ("second", 1)))
    return f"What is the {name} word of: {' '.join(chosen)}", chosen[at]


def count_words(rng: Random) -> Pair:
    chosen = _some(rng, 1, 6)
    return f"How many words are these: {' '.join(chosen)}", str(len(chosen))


def letters(rng: Random) -> Pair:
    word = rng.choice(NOUNS)
    return rng.choice(
        (
            (f"What is the first letter of {word}?", word[0]),
            (f"What is the last letter of {word}?", word[-1]),
            (f"Spell the word {word}.", "-".join(word)),
        )
    )


def kind_of(rng: Random) -> Pair:
    kind, members = rng.choice((("an animal", words.ANIMALS), ("a food", words.FOODS), ("a thing", words.THINGS)))
    if rng.random() < 0.5:
        return f"What is this, an animal, a food or a thing: {rng.choice(members)}", kind
    word = rng.choice(NOUNS)
    return f"Is this {kind}: {word}?", "Yes." if word in members else "No."


def color_of(rng: Random) -> Pair:
    color, thing = rng.choice(words.COLORS), rng.choice(words.THINGS)
    return f"The {thing} is {color}. What color is the {thing}?", f"The {thing} is {color}."


def opposite(rng: Random) -> Pair:
    left, right = rng.choice(tuple(words.OPPOSITES.items()))
    if rng.random() < 0.5:
        left, right = right, left
    return f"What is the opposite of {left}?", right


def capital(rng: Random) -> Pair:
    country, city = rng.choice(tuple(words.CAPITALS.items()))
    if rng.random() < 0.3:
        return f"{city} is the capital of which country?", country
    return rng.choice(("What is the capital of {}?", "Name the capital of {}.")).format(country), city


def fact(rng: Random) -> Pair:
    return rng.choice(tuple(words.FACTS.items()))


TASKS: dict[Task, int] = {
    restyle_date: 10, repeat_date: 4, part_of_date: 6, number_in_date: 6, two_parts_of_date: 6, month_number: 3,
    next_in_calendar: 2, two_digits: 2, spell_digits: 2, read_digits: 2, arithmetic: 4, compare: 2, repeat_words: 8,
    repeat_number: 6, upper_case: 2, reverse_words: 2, sort_words: 3, join_words: 4, pick_word: 2, count_words: 2,
    letters: 3, kind_of: 2, color_of: 2, opposite: 1, capital: 2, fact: 2,
}  # fmt: skip
"""Task -> its share of the corpus."""
