"""A learnt rule as a Go template that Ollama executes.

Every `template` is given a value: Ollama refuses one without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.export.ollama.hints import calls_are_json, mark_of_calls, marks_of_thoughts
from engine.export.ollama.json_forms import defines, go_text
from engine.export.ollama.learn import Rule, Split
from engine.export.ollama.pieces import Each, Numbered, Piece, Slot, common, whole_at

_CONDITIONS = {
    "calls": ".ToolCalls",
    "content": ".Content",
    "thinking": ".Thinking",
    "previous_calls": "$previousCalls",
    "next_calls": "$nextCalls",
    "last": "eq (len (slice $.Messages $i)) 1",
    "system": "$hasSystem",
    "tools": "$.Tools",
    "last_user": "eq $i $lastUser",
    "after_user": "gt $i $lastUser",
    "later_user": "$laterUser",
    "later_call": "$laterCall",
    "later_result": "$laterResult",
    "think_off": "and $.IsThinkSet (not $.Think)",
}
_VALUES = {
    "content": ".Content",
    "thinking": ".Thinking",
    "system": "$system",
    "tool_name": ".ToolName",
    "call_id": ".ToolCallID",
    "name": ".Function.Name",
    "id": ".ID",
    "arguments": ".Function.Arguments",
    "tools": "$.Tools",
    "functions": "$.Tools",
    "tool": ".",
    "function": ".Function",
    "key": "$key",
    "value": "$value",
}
_JSON_SUFFIX = {"arguments": "0-map", "tools": "0-tools", "functions": "0-functions", "tool": "0-tool"}
_JSON_SUFFIX |= {"function": "0-function", "value": "0"}
_SPACES = (
    " \t\n\v\f\r\x1c\x1d\x1e\x1f",
    "\x85\xa0",
    "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
)
"""What Python's `strip` takes away: of one, two and three bytes."""


@dataclass(frozen=True, slots=True)
class _If:
    condition: str
    yes: tuple[_Node, ...]
    no: tuple[_Node, ...]


_Node: TypeAlias = Piece | _If


def go_template(start: Rule, message: Rule, end: Rule, values: str = "raw") -> str:
    """The whole template. `values`: the form of VALUE_FORMS in which arguments that are no text are written."""
    before, each, after = (_nodes(rule) for rule in (start, message, end))
    body = _Body(values)
    texts = [body.nodes(part) for part in (before, each, after)]
    head = [*defines("".join(texts)), *(_STRIPS[form] for form in sorted(body.strips))]
    mark, thought = mark_of_calls(message, end), marks_of_thoughts(message)
    if mark is not None:
        # Ollama swallows what begins with a mark and holds no JSON; with `{` for a mark it passes it on.
        mark = "{ }" if mark == "{" or not calls_are_json(message) else escaped(mark)
        head.append(f"{{{{- if .ToolCalls }}}}{mark}{{{{ end }}}}")
    tail = ""
    if thought is not None:
        marked = escaped(thought[0]) + "{{ .Thinking }}" + escaped(thought[1])
        tail = "{{ if false }}{{ range .Messages }}{{ if .Thinking }}" + marked + "{{ end }}{{ end }}{{ end }}"
    return "".join(f"{line}\n" for line in head) + _frame(*texts) + tail


_SYSTEM = (
    '{{- $hasSystem := false }}{{ $system := "" }}{{ if .Messages }}{{ $first := index .Messages 0 }}\n'
    '{{- if eq $first.Role "system" }}{{ $hasSystem = true }}{{ $system = $first.Content }}{{ end }}{{ end }}\n'
)
_LAST_USER = (
    "{{- $lastUser := -1 }}{{ range $i, $_ := .Messages }}"
    '{{ if eq .Role "user" }}{{ $lastUser = $i }}{{ end }}{{ end }}\n'
)
_NEXT = {"$next": ('""', "$other.Role"), "$nextCalls": ("false", "not (not $other.ToolCalls)")}
"""Of the message behind this one: without one, and with one."""
_KEPT = {
    "$previousCalls": "{{ if .ToolCalls }}{{ $previousCalls = true }}{{ else }}{{ $previousCalls = false }}{{ end }}",
    "$laterUser": '{{ if eq .Role "user" }}{{ $laterUser = true }}{{ end }}',
    "$laterCall": "{{ if .ToolCalls }}{{ $laterCall = true }}{{ end }}",
    "$laterResult": '{{ if eq .Role "tool" }}{{ $laterResult = true }}{{ end }}',
}
"""Variables that the loop sets behind each message."""


def _frame(start: str, each: str, end: str) -> str:
    """The loop over messages with the variables that the rules look at."""
    used = start + each + end
    kept = [name for name in _KEPT if name in used]
    head = _SYSTEM + (_LAST_USER if "$lastUser" in used else "")
    head += '{{- $previous := "" }}' + "".join(f"{{{{ {name} := false }}}}" for name in kept)
    loop = "{{ range $i, $_ := .Messages }}{{ if or (gt $i 0) (not $hasSystem) }}"
    loop += _looked_ahead(each) + each
    loop += "{{ $previous = .Role }}" + "".join(_KEPT[name] for name in kept) + "{{ end }}{{ end }}"
    # The empty text keeps a line break at the start of what follows.
    return head + '\n{{- "" }}' + start + loop + end


def _looked_ahead(each: str) -> str:
    used = [name for name in _NEXT if re.search(rf"{re.escape(name)}\b", each)]
    if not used:
        return ""
    unset = "".join(f"{{{{ {name} := {_NEXT[name][0]} }}}}" for name in used)
    put = "".join(f"{{{{ {name} = {_NEXT[name][1]} }}}}" for name in used)
    return unset + "{{ range $j, $other := slice $.Messages $i }}{{ if eq $j 1 }}" + put + "{{ end }}{{ end }}"


def _nodes(rule: Rule) -> tuple[_Node, ...]:
    """The rule with what both sides of a decision share put outside it."""
    if not isinstance(rule, Split):
        return rule
    yes, no = list(_nodes(rule.yes)), list(_nodes(rule.no))
    head = _shared(yes, no, front=True)
    tail = _shared(yes, no, front=False)
    return _texts_joined([*head, _If(_condition(rule), tuple(yes), tuple(no)), *tail])


def _texts_joined(nodes: Sequence[_Node]) -> tuple[_Node, ...]:
    made: list[_Node] = []
    for node in nodes:
        if isinstance(node, str) and made and isinstance(made[-1], str):
            made[-1] += node
        elif node != "" and not (isinstance(node, _If) and not node.yes and not node.no):
            made.append(node)
    return tuple(made)


def _shared(yes: list[_Node], no: list[_Node], *, front: bool) -> list[_Node]:
    """What both begin (end) with, taken from them."""
    found: list[_Node] = []
    at = 0 if front else -1
    while yes and no and yes[at] == no[at]:
        found.append(yes.pop(at))
        no.pop(at)
    if yes and no and isinstance(yes[at], str) and isinstance(no[at], str):
        one, other = yes[at], no[at]
        assert isinstance(one, str)
        assert isinstance(other, str)
        size = _common_size(one, other, front)
        if size > 0:
            found.append(one[:size] if front else one[len(one) - size :])
            yes[at], no[at] = (one[size:], other[size:]) if front else (one[:-size], other[:-size])
            for side in (yes, no):
                if side[at] == "":
                    side.pop(at)
    return found if front else found[::-1]


def _common_size(one: str, other: str, front: bool) -> int:
    size = common(one, other) if front else common(one[::-1], other[::-1])
    while size and not all(whole_at(text, size if front else len(text) - size) for text in (one, other)):
        size -= 1
    return size


def _condition(rule: Split) -> str:
    if rule.fact == "role":
        return f"eq .Role {go_text(str(rule.value))}"
    if rule.fact in ("previous", "next"):
        return f"eq ${rule.fact} {go_text(str(rule.value))}"
    return _CONDITIONS[rule.fact]


class _Body:
    """Writes nodes, and keeps which helpers they need."""

    def __init__(self, values: str) -> None:
        self.values = values
        self.strips: set[str] = set()

    def nodes(self, nodes: Sequence[_Node]) -> str:
        """As template text."""
        return "".join(self._node(node) for node in nodes)

    def _node(self, node: _Node) -> str:
        if isinstance(node, str):
            return escaped(node)
        if isinstance(node, _If):
            return self._if(node)
        if isinstance(node, Slot):
            return self._slot(node)
        if isinstance(node, Numbered):
            raise TypeError("a call without its message")
        return self._each(node)

    def _each(self, node: Each) -> str:
        inner = "".join(self._node(item) for item in node.items)
        if node.over == "arguments":
            loop = "{{ range $key, $value := .Function.Arguments }}"
            if not node.between:
                return f"{loop}{inner}{{{{ end }}}}"
            between = f"{{{{ if $more }}}}{escaped(node.between)}{{{{ end }}}}{{{{ $more = true }}}}"
            return f"{{{{ $more := false }}}}{loop}{between}{inner}{{{{ end }}}}"
        over = ".ToolCalls" if node.over == "calls" else "$.Tools"
        if not node.between:
            return f"{{{{ range {over} }}}}{inner}{{{{ end }}}}"
        between = f"{{{{ if $j }}}}{escaped(node.between)}{{{{ end }}}}"
        return f"{{{{ range $j, $_ := {over} }}}}{between}{inner}{{{{ end }}}}"

    def _if(self, node: _If) -> str:
        yes, no, condition = node.yes, node.no, node.condition
        if not yes:
            yes, no, condition = no, (), f"not ({condition})"
        text = f"{{{{ if {condition} }}}}{self.nodes(yes)}"
        while len(no) == 1 and isinstance(no[0], _If) and no[0].yes:
            inner = no[0]
            text += f"{{{{ else if {inner.condition} }}}}{self.nodes(inner.yes)}"
            no = inner.no
        if no:
            text += f"{{{{ else }}}}{self.nodes(no)}"
        return text + "{{ end }}"

    def _slot(self, slot: Slot) -> str:
        if slot.kind == "role":
            return "{{ .Role }}"
        value = _VALUES[slot.kind]
        if slot.kind == "value" and slot.form == "raw":
            return f'{{{{ template "{self.values}" {value} }}}}'
        if slot.kind in _JSON_SUFFIX:
            return f'{{{{ template "{slot.form}{_JSON_SUFFIX[slot.kind]}" {value} }}}}'
        if slot.form == "raw":
            return f"{{{{ {value} }}}}"
        if slot.form == "text":
            return f'{{{{ template "text" {value} }}}}'
        self.strips.add(slot.form)
        return f'{{{{ template "{slot.form}" {value} }}}}'


def escaped(text: str) -> str:
    """Text as a template writes it: no marks of actions, nothing that a Modelfile or its reader would lose."""
    parts = re.split(r'(\{\{|"""|\{$|[^\x20-\x7e\n\t\r])', text)
    return "".join(
        part if not number % 2 or _plain(part) else f"{{{{ {go_text(part)} }}}}" for number, part in enumerate(parts)
    )


def _plain(part: str) -> bool:
    return len(part) == 1 and part != "{" and part.isprintable()


_FIRST = "slice $rest 0 {width}", "slice $rest {width}"
_LAST = "slice $rest (len (slice $rest {width}))", "slice $rest 0 (len (slice $rest {width}))"
"""The first (last) bytes of a text, and what is left without them."""


def _strip(name: str, chars: Sequence[str], *ends: tuple[str, str]) -> str:
    """A template that takes `chars`, by their number of bytes, away at these ends."""
    text = f'{{{{- define "{name}" }}}}{{{{ $rest := . }}}}'
    for end in ends:
        branches = []
        for width, group in enumerate(chars, 1):
            part, rest = (each.format(width=width) for each in end)
            known = " ".join(map(go_text, group))
            branches.append(f"if and (ge (len $rest) {width}) (eq ({part}) {known}) }}}}{{{{ $rest = {rest} }}}}")
        text += "{{ range len $rest }}{{ " + "{{ else ".join(branches) + "{{ else }}{{ break }}{{ end }}{{ end }}"
    return text + "{{ $rest }}{{ end }}"


_STRIPS = {
    prefix + name: _strip(prefix + name, chars, *ends)
    for name, chars in (("trim", _SPACES), ("lines", ("\n",)))
    for prefix, ends in (("", (_FIRST, _LAST)), ("left-", (_FIRST,)), ("right-", (_LAST,)))
}
