"""Go's text/template as a tree: the part of its language that templates for chat use.

`go_run.py` executes the tree. Texts are bytes in UTF-8, as Go's strings are.
Not here: `with`, `block`, comments inside actions, complex and character literals.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TypeAlias

_ACTION = re.compile(r"\{\{(-(?=\s))?((?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|(?!\}\}).)*?)((?<=\s)-)?\}\}", re.DOTALL)
_PIECE = re.compile(
    r"""\s*(?:
      (?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)
    | (?P<number>-?\d+)
    | (?P<variable>\$[A-Za-z0-9_]*)
    | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>:=|[=|(),.])
    )""",
    re.VERBOSE,
)
_LONG = re.compile(r"(?<!\\)\\U([0-9a-fA-F]{8})")
_BLANK = " \t\r\n"


class GoError(Exception):
    """A Go template that cannot be read or executed."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number or boolean."""

    value: bytes | int | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """A value by name: `.` or a variable, then fields. `$` is what the template was given."""

    variable: str
    """Empty for the dot."""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A name that stands first in a command."""

    name: str


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each given the value of the one before; perhaps kept in a variable."""

    commands: tuple[tuple[Operand, ...], ...]
    keeps: tuple[str, ...] = ()
    declares: bool = False


Operand: TypeAlias = Literal | Place | Function | Pipe


@dataclass(frozen=True, slots=True)
class Show:
    """Text as it stands (bytes), or the value of a pipe."""

    what: bytes | Pipe


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipe }}`."""

    name: str
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """`if` or `range` with its bodies."""

    word: str
    pipe: Pipe
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    word: str


Node: TypeAlias = Show | Call | Branch | Jump


@dataclass(frozen=True, slots=True)
class GoTemplate:
    """The body, and what `define` named."""

    body: list[Node]
    named: dict[str, list[Node]]


def parse(text: str) -> GoTemplate:
    """The tree of a template. Raises GoError for what is not understood."""
    found = GoTemplate([], {})
    open_lists: list[list[Node]] = [found.body]
    branches: list[tuple[Branch | None, int]] = []
    for piece in _pieces(text):
        if isinstance(piece, bytes):
            open_lists[-1].append(Show(piece))
            continue
        _take(piece, found, open_lists, branches)
    if branches:
        raise GoError("unexpected EOF: an action is not ended")
    return found


def _pieces(text: str) -> list[bytes | list[tuple[str, str]]]:
    """Texts and the tokens of actions, blanks trimmed as `{{-` and `-}}` ask."""
    pieces: list[bytes | list[tuple[str, str]]] = []
    at, trims = 0, False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        if trims:
            before = before.lstrip(_BLANK)
        if match[1]:
            before = before.rstrip(_BLANK)
        _add_text(pieces, before)
        if not match[2].strip().startswith("/*"):
            pieces.append(_tokens(match[2]))
        at, trims = match.end(), bool(match[3])
    rest = text[at:]
    if "{{" in rest:
        raise GoError("unclosed action")
    _add_text(pieces, rest.lstrip(_BLANK) if trims else rest)
    return pieces


def _add_text(pieces: list[bytes | list[tuple[str, str]]], text: str) -> None:
    if text:
        pieces.append(text.encode())


def _tokens(action: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    action = action.rstrip()
    while at < len(action):
        match = _PIECE.match(action, at)
        if match is None or match.lastgroup is None:
            raise GoError(f"unexpected {action[at : at + 10]!r} in an action")
        kind = match.lastgroup
        # A field right behind a name, a variable or a bracket belongs to it.
        joined = kind == "field" and at > 0 and match.start(kind) == at
        tokens.append(("chain" if joined else kind, match[kind]))
        at = match.end()
    return tokens


def _take(
    tokens: list[tuple[str, str]],
    found: GoTemplate,
    lists: list[list[Node]],
    branches: list[tuple[Branch | None, int]],
) -> None:
    """Put an action in its place: `branches` are those still open, with the lists that each opened."""
    word = tokens[0][1] if tokens and tokens[0][0] == "word" else ""
    if word in ("if", "range"):
        branch = Branch(word, _pipe(tokens[1:]))
        lists[-1].append(branch)
        lists.append(branch.body)
        branches.append((branch, 1))
    elif word == "define":
        lists.append(found.named.setdefault(_string(tokens[1]).decode(), []))
        branches.append((None, 1))
    elif word == "else" and branches and (branch_open := branches[-1][0]) is not None:
        lists.pop()
        lists.append(branch_open.otherwise)
        if len(tokens) > 1:
            nested = Branch("if", _pipe(tokens[2:]))
            lists[-1].append(nested)
            lists[-1] = nested.body
            branches[-1] = (nested, branches[-1][1])
    elif word == "end" and branches:
        branches.pop()
        lists.pop()
    elif word == "template":
        lists[-1].append(Call(_string(tokens[1]).decode(), _pipe(tokens[2:])))
    elif word in ("break", "continue"):
        lists[-1].append(Jump(word))
    elif word in ("with", "block", "else", "end"):
        raise GoError(f"unexpected {{{{{word}}}}}")
    else:
        lists[-1].append(Show(_pipe(tokens)))


def _pipe(tokens: list[tuple[str, str]]) -> Pipe:
    pipe, rest = _pipe_of(tokens)
    if rest:
        raise GoError(f"unexpected {rest[0][1]!r} in a pipeline")
    return pipe


def _pipe_of(tokens: list[tuple[str, str]]) -> tuple[Pipe, list[tuple[str, str]]]:
    keeps, declares, tokens = _kept(tokens)
    commands: list[tuple[Operand, ...]] = []
    while True:
        command: list[Operand] = []
        while tokens and tokens[0][1] not in ("|", ")"):
            operand, tokens = _operand(tokens)
            command.append(operand)
        if not command:
            raise GoError("missing value for command")
        commands.append(tuple(command))
        if not tokens or tokens[0][1] == ")":
            return Pipe(tuple(commands), keeps, declares), tokens
        tokens = tokens[1:]


def _kept(tokens: list[tuple[str, str]]) -> tuple[tuple[str, ...], bool, list[tuple[str, str]]]:
    """The variables in front of `:=` or `=`, and whether they are new."""
    names: list[str] = []
    for number, (kind, text) in enumerate(tokens):
        if kind == "variable":
            names.append(text)
        elif text in (":=", "=") and names:
            return tuple(names), text == ":=", tokens[number + 1 :]
        elif text != ",":
            break
    return (), False, tokens


def _operand(tokens: list[tuple[str, str]]) -> tuple[Operand, list[tuple[str, str]]]:
    (kind, text), tokens = tokens[0], tokens[1:]
    if kind == "string":
        return Literal(_string((kind, text))), tokens
    if kind == "number":
        return Literal(int(text)), tokens
    if text == "(":
        inner, tokens = _pipe_of(tokens)
        if not tokens or tokens[0][1] != ")":
            raise GoError("unclosed left paren")
        fields, tokens = _chain(tokens[1:])
        return (Pipe(((inner, *(Literal(name.encode()) for name in fields)),)) if fields else inner), tokens
    if kind in ("field", "chain", "variable") or text == ".":
        first = (text[1:],) if kind in ("field", "chain") else ()
        fields, tokens = _chain(tokens)
        return Place(text if kind == "variable" else "", (*first, *fields)), tokens
    if text in ("true", "false", "nil"):
        return Literal({"true": True, "false": False, "nil": None}[text]), tokens
    if kind == "word":
        return Function(text), tokens
    raise GoError(f"unexpected {text!r} in operand")


def _chain(tokens: list[tuple[str, str]]) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    fields = []
    while tokens and tokens[0][0] == "chain":
        fields.append(tokens[0][1][1:])
        tokens = tokens[1:]
    return tuple(fields), tokens


def _string(token: tuple[str, str]) -> bytes:
    kind, text = token
    if kind != "string":
        raise GoError(f"unexpected {text!r}: a string is needed")
    if text.startswith("`"):
        return text[1:-1].encode()
    try:
        # JSON spells characters beyond 16 bits otherwise, and knows none of eight digits.
        return str(json.loads(_LONG.sub(lambda found: chr(int(found[1], 16)), text))).encode()
    except ValueError as error:
        raise GoError(f"invalid syntax in the string {text}") from error
