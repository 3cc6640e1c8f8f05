"""The filter of the models table: words, and requirements such as `mem<24`. Pure functions of plans.

qwen ok            both words are found in name, family, licence, uses, how or verdict
-gated             this word is not found
mem<24  size>=7b   predicted GiB, parameters
ctx>=32k tok>500   tokens the model can read, tokens trained a second
first<0.5          seconds to the first token of an answer
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.api.fit import GIB, Plan, method_words

FILTER_HELP = """\
words   all have to be found in name, family, licence, uses, how or verdict; -word must not
mem<24  predicted GiB       size>=7b  parameters      ctx>=32k  tokens the model can read
tok>500 tokens trained a second       first<0.5 seconds to the first token of an answer"""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_UNITS = {"": 1.0, "k": 1024.0, "m": 1e6, "b": 1e9, "g": 1.0}
_TERM = re.compile(r"([a-z]+)(<=|>=|<|>|=)([0-9]*\.?[0-9]+)([kmbg]?)")
_QUANTITIES: dict[str, Callable[[Plan], float | None]] = {
    "mem": lambda plan: plan.estimate.device_bytes / GIB,
    "size": lambda plan: float(plan.estimate.total_parameters),
    "ctx": lambda plan: float(plan.model.max_position_embeddings),
    "tok": lambda plan: plan.tokens_per_second,
    "first": lambda plan: plan.latency.first_token_s if plan.latency else None,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What was typed, understood."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    terms: tuple[tuple[str, str, float], ...] = ()
    """Quantity, comparison, number."""
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.words or self.without or self.terms or self.problem)


def parse_filter(text: str) -> Filter:
    """A filter from what was typed; what cannot be understood is told in `problem`."""
    words, without, terms, problem = [], [], [], ""
    for item in text.lower().split():
        match = _TERM.fullmatch(item)
        if match and match[1] in _QUANTITIES:
            terms.append((match[1], match[2], float(match[3]) * _UNITS[match[4]]))
        elif re.search(r"[<>=]", item):
            problem = f"'{item}' is no requirement: mem, size, ctx, tok or first, then <, <=, >, >= and a number"
        elif item.startswith("-") and len(item) > 1:
            without.append(item[1:])
        else:
            words.append(item)
    return Filter(tuple(words), tuple(without), tuple(terms), problem)


def matches(plan: Plan, asked: Filter) -> bool:
    """Whether a plan is what was asked for; a quantity that is not known is not."""
    model = plan.model
    facts = (model.name, method_words(plan.shape), plan.verdict, model.family, model.licence, *model.use_cases)
    text = " ".join((*facts, "gated" if model.gated else "")).lower()
    if not all(word in text for word in asked.words) or any(word in text for word in asked.without):
        return False
    return all(_holds(plan, *term) for term in asked.terms)


def _holds(plan: Plan, name: str, comparison: str, number: float) -> bool:
    known = _QUANTITIES[name](plan)
    return known is not None and _OPERATORS[comparison](known, number)
