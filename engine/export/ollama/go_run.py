"""Executes a Go template on values, with the functions of text/template and of Ollama that chat templates use.

Texts are bytes, lists lists, maps dicts with sorted keys when ranged over, structs `Struct`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from engine.export.ollama.go_parse import (
    Branch,
    Call,
    Function,
    GoError,
    GoTemplate,
    Jump,
    Literal,
    Node,
    Operand,
    Pipe,
    Place,
    Show,
)

MOST_STEPS = 1_000_000
"""Of one execution: more is a template that does not end."""
_VERB = re.compile(rb"%(?:\.(\d+)s|0?\d*[sdTx%])")
_SHORT = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}


class Struct(dict[str, Any]):
    """A Go struct: fields by name, all of which a template may look at and no others."""


class Types(list[bytes]):
    """The types of a tool's property: in JSON the text of one alone, a list of several."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Scope:
    """Variables in scope, innermost last."""

    def __init__(self, given: Any) -> None:
        self.values: list[tuple[str, Any]] = [("$", given)]

    def get(self, name: str) -> Any:
        for known, value in reversed(self.values):
            if known == name:
                return value
        raise GoError(f"undefined variable {name}")

    def put(self, name: str, value: Any) -> None:
        for number in range(len(self.values) - 1, -1, -1):
            if self.values[number][0] == name:
                self.values[number] = (name, value)
                return
        raise GoError(f"undefined variable {name}")


class _Run:
    """One execution."""

    def __init__(self, template: GoTemplate) -> None:
        self.template = template
        self.out: list[bytes] = []
        self.steps = 0

    def walk(self, nodes: Sequence[Node], dot: Any, scope: _Scope) -> None:
        mark = len(scope.values)
        for node in nodes:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise GoError("the template does not end")
            self._node(node, dot, scope)
        del scope.values[mark:]

    def _node(self, node: Node, dot: Any, scope: _Scope) -> None:
        if isinstance(node, Show):
            if isinstance(node.what, bytes):
                self.out.append(node.what)
            else:
                value = self.pipe(node.what, dot, scope)
                if not node.what.keeps:
                    self.out.append(shown(value))
        elif isinstance(node, Call):
            body = self.template.named.get(node.name)
            if body is None:
                raise GoError(f"template {node.name!r} not defined")
            given = self.pipe(node.pipe, dot, scope)
            self.walk(body, given, _Scope(given))
        elif isinstance(node, Jump):
            raise _Break if node.word == "break" else _Continue
        else:
            self._branch(node, dot, scope)

    def _branch(self, node: Branch, dot: Any, scope: _Scope) -> None:
        mark = len(scope.values)
        if node.word == "if":
            self.walk(node.body if truth(self.pipe(node.pipe, dot, scope)) else node.otherwise, dot, scope)
            del scope.values[mark:]
            return
        value = self.pipe(Pipe(node.pipe.commands), dot, scope)
        went = False
        for key, element in _items(value):
            went = True
            names = node.pipe.keeps
            if isinstance(value, int) and len(names) > 1:
                raise GoError("cannot range over a number with two variables")
            kept = [element] if len(names) == 1 else [key, element]
            for name, each in zip(names, kept, strict=False):
                scope.values.append((name, each))
            try:
                self.walk(node.body, element, scope)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                del scope.values[mark:]
        if not went:
            self.walk(node.otherwise, dot, scope)

    def pipe(self, pipe: Pipe, dot: Any, scope: _Scope) -> Any:
        value: Any = None
        for number, command in enumerate(pipe.commands):
            value = self._command(command, dot, scope, [value] if number else [])
        if pipe.keeps:
            name = pipe.keeps[-1]
            if pipe.declares:
                scope.values.append((name, value))
            else:
                scope.put(name, value)
        return value

    def _command(self, command: Sequence[Operand], dot: Any, scope: _Scope, given: list[Any]) -> Any:
        first, rest = command[0], command[1:]
        if isinstance(first, Function):
            if first.name in ("and", "or"):
                return self._logic(first.name, [*rest], dot, scope, given)
            arguments = [self._value(each, dot, scope) for each in rest]
            return call(first.name, [*arguments, *given])
        if isinstance(first, Pipe) and rest:
            return _fields(self.pipe(first, dot, scope), [str(each.value, "utf-8") for each in rest])  # type: ignore[union-attr,arg-type]
        if rest or given:
            raise GoError("cannot give an argument to what is no function")
        return self._value(first, dot, scope)

    def _logic(self, name: str, operands: list[Operand], dot: Any, scope: _Scope, given: list[Any]) -> Any:
        value: Any = None
        for each in operands:
            value = self._value(each, dot, scope)
            if truth(value) == (name == "or"):
                return value
        return given[0] if given else value

    def _value(self, operand: Operand, dot: Any, scope: _Scope) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Place):
            return _fields(scope.get(operand.variable) if operand.variable else dot, operand.fields)
        if isinstance(operand, Function):
            return call(operand.name, [])
        return self.pipe(operand, dot, scope)


def execute(template: GoTemplate, given: Any) -> str:
    """What the template writes. Raises GoError where Go would."""
    run = _Run(template)
    run.walk(template.body, given, _Scope(given))
    return b"".join(run.out).decode("utf-8", "replace")


def _fields(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if isinstance(value, Struct):
            if name not in value:
                raise GoError(f"can't evaluate field {name}")
            value = value[name]
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            raise GoError(f"can't evaluate field {name} in {type_of(value).decode()}")
    return value


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, bool) or not isinstance(value, list | dict | int | None):
        raise GoError(f"range can't iterate over {type_of(value).decode()}")
    if isinstance(value, int):
        yield from ((None, number) for number in range(value))
    elif isinstance(value, dict):
        yield from ((key.encode(), value[key]) for key in sorted(value, key=lambda key: key.encode()))
    elif value is not None:
        yield from enumerate(value)


def truth(value: Any) -> bool:
    """Whether `if` takes the value for true."""
    return True if isinstance(value, Struct) else bool(value)


def shown(value: Any) -> bytes:
    """What an action writes of a value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return str(value).encode()
    if value is None:
        return b"<no value>"
    raise GoError(f"a {type_of(value).decode()} is written: use json")


def type_of(value: Any) -> bytes:
    """What `printf "%T"` says."""
    kinds = ((bytes, "string"), (bool, "bool"), (int, "int"), (float, "float64"), (list, "[]interface {}"))
    for kind, name in kinds:
        if isinstance(value, kind):
            return name.encode()
    if isinstance(value, Struct):
        return b"struct"
    return b"<nil>" if value is None else b"map[string]interface {}"


def call(name: str, given: list[Any]) -> Any:
    """A function of Go's or Ollama's. Raises GoError for others, and for values that it does not take."""
    try:
        if name in ("eq", "ne", "lt", "le", "gt", "ge"):
            return _compared(name, given)
        if name == "not":
            return not truth(given[0])
        if name == "len":
            return len(given[0])
        if name == "index":
            return _indexed(given)
        if name == "slice":
            return _sliced(given)
        if name == "json":
            return marshal(given[0]).encode()
        if name == "printf":
            return _printf(given)
    except (IndexError, TypeError, KeyError) as error:
        raise GoError(f"error calling {name}: {error}") from error
    raise GoError(f"function {name!r} not defined")


def _compared(name: str, given: list[Any]) -> bool:
    first, *others = given
    if any(type(first) is not type(other) and None not in (first, other) for other in others):
        raise GoError("incompatible types for comparison")
    if name == "eq":
        return any(first == other for other in others)
    results = {"ne": first != others[0]}
    if name != "ne":
        low, high = first < others[0], first > others[0]
        results |= {"lt": low, "le": not high, "gt": high, "ge": not low}
    return bool(results[name])


def _indexed(given: list[Any]) -> Any:
    value, *keys = given
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key.decode())
        elif key < 0:
            raise GoError(f"error calling index: index out of range: {key}")
        else:
            value = value[key]
    return value


def _sliced(given: list[Any]) -> Any:
    value, bounds = given[0], given[1:]
    first = bounds[0] if bounds else 0
    last = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= first <= last <= len(value):
        raise GoError(f"error calling slice: index out of range: {first}:{last}")
    return value[first:last]


def _printf(given: list[Any]) -> bytes:
    form, values = given[0], iter(given[1:])

    def put(match: re.Match[bytes]) -> bytes:
        verb = match[0]
        if verb.endswith(b"%"):
            return b"%"
        value = next(values)
        if verb.endswith(b"T"):
            return type_of(value)
        if verb.endswith((b"x", b"d")) and isinstance(value, int):
            return bytes(verb % value)
        if verb == b"%s":
            return shown(value)
        if match[1]:
            # A letter has four bytes at most.
            most = int(match[1])
            return shown(value)[: 4 * most].decode("utf-8", "ignore")[:most].encode()
        raise GoError(f"printf {verb.decode()} is not known here")

    return _VERB.sub(put, form)


def marshal(value: Any) -> str:
    """Go's json.Marshal: no blanks, keys of maps sorted, `<`, `>` and `&` as escapes."""
    if isinstance(value, bytes):
        return _marshal_text(value.decode("utf-8", "replace"))
    if isinstance(value, Struct):
        raise GoError("a struct in JSON: templates of ours spell its fields out")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode())
        return "{" + ",".join(f"{_marshal_text(key)}:{marshal(value[key])}" for key in keys) + "}"
    if isinstance(value, Types) and len(value) == 1:
        return marshal(value[0])
    if isinstance(value, list):
        return "[" + ",".join(map(marshal, value)) + "]"
    return number_text(value) if isinstance(value, float) else json.dumps(value)


def number_text(value: float) -> str:
    """Go's spelling of a float in JSON. Raises ValueError for what is no number."""
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if value and not 1e-6 <= abs(value) < 1e21:
        return re.sub(r"e-0(\d)$", r"e-\1", repr(value))
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def _marshal_text(text: str) -> str:
    parts = []
    for char in text:
        code = ord(char)
        if code in _SHORT:
            parts.append(_SHORT[code])
        elif code < 0x20 or char in "<>&\u2028\u2029":
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(char)
    return '"' + "".join(parts) + '"'
