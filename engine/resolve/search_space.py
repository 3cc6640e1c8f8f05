"""What a sweep varies, read from `[sweep] space`: lists of values, rows of values that go together, and ranges.

`dimensions` reads it, `sweep_findings` says what is wrong with it, key by key. Not here: combining the values
(`engine.sweep.combinations`), searching them (`engine.sweep.study`).
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.fields import field_at
from engine.profile.findings import Finding, finding
from engine.profile.names import nearest_key
from engine.profile.overrides import override_value, put
from engine.profile.schema_problems import show, validate
from engine.resolve.cross import Context
from engine.text import sanitize

MOST_VALUES = 1000
_RANGE_KEYS = frozenset({"low", "high", "log", "step"})
_FIXED_TABLES = frozenset({"", "sweep", "evaluate", "export", "launch"})
"""Tables whose settings a sweep cannot vary: they do not change what is learnt."""
_OTHER_ROWS = ("data.datasets", "data.max_samples", "data.deduplicate", "train.seed")
"""Settings that change which rows are held out, where those are a share of the examples."""
_OTHER_LOSS = frozenset(
    {"train.objective", "train.beta", "model.name_or_path", "model.revision", "model.max_length"}
    | {"model.additional_special_tokens", "data.template", "data.system", "data.mask", "data.overlong"}
    | {"data.response_template", "data.instruction_template", "data.learn", "data.marks", "data.template_arguments"}
)
"""Settings that change what the evaluation loss counts, so that two losses say nothing of each other."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Settings that take their values together: `rows` of one value a key."""

    keys: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def name(self) -> str:
        """As written in the profile, without blanks."""
        return ",".join(self.keys)


@dataclass(frozen=True, slots=True)
class Range:
    """A number between `low` and `high`, both included; `whole` for settings that are whole numbers."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def name(self) -> str:
        """Its key."""
        return self.key

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key, as `Choices` has several."""
        return (self.key,)


Dimension = Choices | Range


class BadSpace(ValueError):
    """An entry of the space that cannot be read: `key`, what is wrong with it, and what to do."""

    def __init__(self, key: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


def dimensions(space: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions of a space that `sweep_findings` finds nothing wrong with. Raises BadSpace for the first wrong."""
    return tuple(_dimension(name, value) for name, value in entries(space))


def entries(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every entry; `lora.r = [8]` and `"lora.r" = [8]` are the same."""
    for name, value in space.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and not (value and set(value) <= _RANGE_KEYS):
            yield from entries(value, f"{key}.")
        else:
            yield key, value


def _dimension(name: str, value: Any) -> Dimension:
    keys = tuple(part.strip() for part in name.split(","))
    if isinstance(value, dict) and len(keys) == 1:
        return _range(keys[0], value)
    if not isinstance(value, list) or not value:
        raise BadSpace(
            name, f"{show(value)} is neither a list of values nor a range", "write [8, 16] or { low = …, high = … }"
        )
    if len(value) > MOST_VALUES:
        raise BadSpace(name, f"has {len(value):,} values", f"name at most {MOST_VALUES}, or a range")
    rows = [row if isinstance(row, list) else [row] for row in value] if len(keys) > 1 else [[row] for row in value]
    for row in rows:
        if len(row) != len(keys):
            raise BadSpace(name, f"{show(row)} has {len(row)} values for {len(keys)} settings", "give one for each")
    return Choices(keys, tuple(tuple(row) for row in rows))


def _range(key: str, told: Mapping[str, Any]) -> Range:
    low, high, step, log = told.get("low"), told.get("high"), told.get("step"), told.get("log", False)
    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one) for one in numbers):
        raise BadSpace(key, "a range needs numbers", "write { low = 1e-5, high = 1e-3, log = true }")
    if not isinstance(log, bool):
        raise BadSpace(key, "log must be true or false", "log = true draws as many small values as large ones")
    assert low is not None
    assert high is not None
    if not low < high:
        raise BadSpace(key, f"low {low:g} is not below high {high:g}", "exchange them")
    if log and (low <= 0 or step is not None):
        raise BadSpace(key, "a logarithmic range begins above 0 and has no step", "leave log or step out")
    field = field_at(key)
    whole = field is not None and field.kind in ("int", "switch")
    if whole and any(float(one) % 1 for one in numbers if one is not None):
        raise BadSpace(key, "is a whole number", "give whole numbers")
    return Range(key, low, high, log, step, whole)


def sweep_findings(context: Context) -> Iterator[Finding]:
    """Everything wrong with the space and what ranks it; silent for a profile that varies nothing."""
    sweep, loaded = context.profile.sweep, context.loaded
    if not loaded.is_sound("sweep") or not sweep.space:
        return
    seen: set[str] = set()
    ranges = []
    for name, value in entries(sweep.space):
        try:
            dimension = _dimension(name, value)
        except BadSpace as error:
            yield _bad(context, name, error.message, error.hint)
            continue
        ranges += [dimension] if isinstance(dimension, Range) else []
        for key in dimension.keys:
            if key in seen:
                yield _bad(context, name, f"{key} is varied twice", "name each setting once")
            seen.add(key)
        yield from _dimension_findings(context, name, dimension)
    if ranges and sweep.method == "grid":
        hint = "use method = 'tpe' or 'random', or list the values"
        yield finding(
            loaded, "sweep.method", f"a grid has no values for the range of {ranges[0].key}", hint, value="grid"
        )
    yield from _metric_findings(context)


def _bad(context: Context, name: str, message: str, hint: str) -> Finding:
    return finding(context.loaded, f"sweep.space.{name}", message, hint)


def _dimension_findings(context: Context, name: str, dimension: Dimension) -> Iterator[Finding]:
    for key in dimension.keys:
        problem = _fixed(key) or _incomparable(context, key)
        if problem:
            yield _bad(context, name, *problem)
            return
    if isinstance(dimension, Range):
        field = field_at(dimension.key)
        if field is not None and field.kind not in ("int", "float", "switch"):
            yield _bad(context, name, f"{dimension.key} is no number", "list its values")
            return
        kind = int if dimension.whole else float
        rows: tuple[tuple[Any, ...], ...] = ((kind(dimension.low),), (kind(dimension.high),))
    else:
        rows = dimension.rows
    for row in rows:
        for key, value in zip(dimension.keys, row, strict=True):
            yield from _value_findings(context, name, key, value)


def _fixed(key: str) -> tuple[str, str] | None:
    """Why a sweep cannot vary a setting, and what to do; None where it can."""
    if field_at(key) is None:
        near = nearest_key(key)
        return f"no such setting: {key}", f"did you mean '{near}'?" if near else "see 'engine profile schema'"
    if key.partition(".")[0] in _FIXED_TABLES or "." not in key:
        return (
            f"{key} does not change what is learnt",
            "vary settings of model, quantization, tuning, lora, data or train",
        )
    return None


def _incomparable(context: Context, key: str) -> tuple[str, str] | None:
    """Why trials that differ in a setting cannot be ranked, and what to do; None where they can."""
    data = context.profile.data
    if key.startswith("data.validation_") or (data.validation_path is None and key.startswith(_OTHER_ROWS)):
        return (
            f"{key} changes the rows that trials are compared on",
            "compare on a file of its own: data.validation_path",
        )
    if key in _OTHER_LOSS and context.profile.sweep.metric == "eval_loss":
        return f"losses cannot be compared when {key} differs", "rank by answers, such as sweep.metric = 'exact_match'"
    return None


def _value_findings(context: Context, name: str, key: str, value: Any) -> Iterator[Finding]:
    """What the schema says of one value, in a profile that is otherwise as it is."""
    tree = context.profile.model_dump(exclude={"sweep"})
    try:
        put(tree, key, value)
    except ValueError as error:
        yield _bad(context, name, str(error), "see 'engine profile schema'")
        return
    for problem in validate(tree, lambda _: ("", None)).problems:
        if problem.key == key or problem.key.startswith(f"{key}."):
            yield _bad(context, name, problem.message, problem.hint)


METRIC_NEEDS = {
    "exact_match": "exact_match",
    "token_f1": "exact_match",
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "bleu": "bleu",
    "chrf": "bleu",
    "bertscore_f1": "bertscore",
    "tools_right": "calls",
    "arguments_right": "calls",
}
"""Score -> the metric of `evaluate.metrics` that computes it."""


def _metric_findings(context: Context) -> Iterator[Finding]:
    sweep, loaded = context.profile.sweep, context.loaded
    need = METRIC_NEEDS.get(sweep.metric)
    if need is None and not context.holds_out():
        hint = "set data.validation_fraction = 0.05 or data.validation_path"
        yield finding(loaded, "sweep.metric", "trials are ranked by held-out examples, and there are none", hint)
    if need is not None and loaded.is_sound("evaluate.metrics") and need not in context.profile.evaluate.metrics:
        hint = f"add '{need}' to evaluate.metrics"
        yield finding(
            loaded, "sweep.metric", f"'{sweep.metric}' is not among what is evaluated", hint, value=sweep.metric
        )


_NUMBER = r"[+-]?(?:\d[\d_]*)?\.?\d+(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log|:step=({_NUMBER}))?")


def space_of(texts: Iterable[str]) -> dict[str, Any]:
    """The space that several `--vary` give. Raises EngineError(PROFILE) for one that is not `key=values`."""
    return dict(_entry(text) for text in texts)


def _entry(text: str) -> tuple[str, Any]:
    key, sign, written = (part.strip() for part in text.partition("="))
    if not sign or not key or not written:
        shown = sanitize(text, max_chars=80, single_line=True)
        raise EngineError(
            f"'{shown}' is not key=values",
            code=ExitCode.PROFILE,
            where="--vary",
            hint="write lora.r=8,16,32 or train.learning_rate=1e-5..1e-3:log",
        )
    return key, _values(key, written)


def _values(key: str, written: str) -> Any:
    found = _RANGE.fullmatch(written)
    if found:
        low, high, how, step = found.groups()
        told: dict[str, Any] = {"low": _number(low), "high": _number(high)}
        return told | ({"log": True} if how == ":log" else {"step": _number(step)} if step else {})
    if written[0] in "[{":
        try:
            return tomllib.loads(f"value = {written}")["value"]
        except (ValueError, RecursionError):
            return written
    return [override_value(key, part.strip()) for part in written.split(",") if part.strip()]


def _number(text: str) -> float | int:
    return int(text.replace("_", "")) if re.fullmatch(r"[+-]?\d[\d_]*", text) else float(text.replace("_", ""))
