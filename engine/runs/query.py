"""The filter of the list of runs: words, and requirements such as `tag:keep state:failed lora.r=16 best<1.2 age<7d`.

Every term has to hold; one that begins with `-` must not. Pure functions of traits.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.runs.traits import WORDS, RunTraits, text_of, value_of

QUERY_HELP = """\
words           all have to be found in name, model, method, state, tags, note; -word must not
tag:keep        has this tag          state:failed  model:qwen  note:long
lora.r=16       a setting             best<1.2  step>=100  disk>2 (GiB)  perplexity<8
after:2026-11   begun that month or later             before:2026-11-20   age<7d (h, d, w)"""
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_NAMED = re.compile(r"(tag|state|model|name|run|note|how|after|before):(.*)", re.DOTALL)
_COMPARED = re.compile(r"([A-Za-z_][\w.]*)(<=|>=|<|>|=)(.+)", re.DOTALL)
_NUMBER = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)(k|m|h|d|w|gib|)")
_DAY = re.compile(r"[0-9]{1,4}(-[0-9]{0,2}){0,2}|[0-9]{5,8}")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "gib": 1.0}
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement. `key` empty: the text is found anywhere; `operation` one of `:`, `=`, `<` …"""

    key: str
    operation: str
    text: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What was typed, understood; `problem` says what was not."""

    terms: tuple[Term, ...] = ()
    problem: str = ""
    unfinished: str = ""
    """A requirement without its value: it asks for nothing yet, and what acts on all that it lists must not begin."""


def parse_query(text: str) -> Query:
    """A query from what was typed. Half-typed terms (`tag:`) ask for nothing yet."""
    terms: list[Term] = []
    problem = unfinished = ""
    for item in text.split():
        negated = item.startswith("-") and len(item) > 1
        term = _term(item[negated:], negated)
        if term.operation in _OPERATORS and term.operation != "=" and _number(term.text) is None:
            problem = f"'{item}': after {term.operation} comes a number"
        elif term.key in ("after", "before") and term.text and not _DAY.fullmatch(term.text):
            problem = f"'{item}': after '{term.key}:' comes a day or a part of one, such as 2026-11"
        elif term.text:
            terms.append(term)
        else:
            unfinished = f"'{item}' has no value"
    return Query(tuple(terms), problem, unfinished)


def _term(item: str, negated: bool) -> Term:
    if match := _NAMED.fullmatch(item):
        return Term(match[1], ":", match[2].lower(), negated)
    if match := _COMPARED.fullmatch(item):
        return Term(match[1], match[2], match[3].lower(), negated)
    if item.endswith(("<", ">", "=")):
        return Term(item.rstrip("<>="), "=", "", negated)
    return Term("", ":", item.lower(), negated)


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def matches(traits: RunTraits, asked: Query, now_s: float) -> bool:
    """Whether a run is what was asked for at `now_s`; what is not known of it is not."""
    return all(_holds(traits, term, now_s) != term.negated for term in asked.terms)


def _holds(traits: RunTraits, term: Term, now_s: float) -> bool:
    if not term.key:
        return term.text in _all_text(traits)
    if term.operation == ":":
        return _has(traits, term.key, term.text)
    number = _number(term.text)
    known = _known(traits, term.key, now_s)
    if number is None or not isinstance(known, float):
        return term.operation == "=" and text_of(traits, term.key).lower() == term.text
    return _OPERATORS[term.operation](known, number)


def _has(traits: RunTraits, key: str, text: str) -> bool:
    if key == "tag":
        return text in (tag.lower() for tag in traits.notes.tags)
    if key == "state":
        return traits.state.replace(" ", "").startswith(text)
    if key in ("after", "before"):
        day, asked = traits.run_id[:8], "".join(letter for letter in text if letter.isdigit())[:8]
        if not (day.isdigit() and len(day) == 8):
            return False
        return day[: len(asked)] >= asked if key == "after" else day[: len(asked)] < asked
    return text in text_of(traits, "run" if key == "name" else key).lower()


def _known(traits: RunTraits, key: str, now_s: float) -> float | str | None:
    if key == "age":
        return now_s - traits.last_s if traits.last_s else None
    if key == "disk":
        return None if traits.disk_bytes is None else traits.disk_bytes / _GIB
    return value_of(traits, key)


def _all_text(traits: RunTraits) -> str:
    facts = (traits.run_id, traits.name, traits.model, traits.how, traits.state, traits.notes.note, *traits.notes.tags)
    return " ".join(facts).lower()


def is_column(key: str) -> bool:
    """Whether a word may name a column: one of every run, a score, or a setting."""
    return key in WORDS or re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*", key) is not None
