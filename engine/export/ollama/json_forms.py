"""Ways to write JSON: how a template writes tools and arguments, and Go templates that write the same.

Go's own `json` writes no blanks, escapes `<`, `>` and `&`, and writes a tool's keys in another order than training
showed, so templates of ours spell JSON out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

DEEPEST = 12
"""Levels of indented JSON."""


@dataclass(frozen=True, slots=True)
class JsonForm:
    """`indent` None = on one line."""

    name: str
    indent: int | None
    comma: str
    colon: str
    bare: bool = False
    """A function's description is put between quotes as it is, as Mistral's templates do."""

    def text(self, value: Any) -> str:
        """A value as transformers' `tojson` writes it in this form."""
        text = json.dumps(value, ensure_ascii=False, indent=self.indent, separators=(self.comma, self.colon))
        return text.replace('\\"', '"') if self.bare else text


FORMS = (
    JsonForm("spaced", None, ", ", ": "),
    JsonForm("compact", None, ",", ":"),
    JsonForm("indent4", 4, ",", ": "),
    JsonForm("indent2", 2, ",", ": "),
)
TOOL_FORMS = (*FORMS, JsonForm("bare", None, ", ", ": ", bare=True))
BY_NAME = {form.name: form for form in TOOL_FORMS}
CONTENT_FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "trim": str.strip,
    "left-trim": str.lstrip,
    "right-trim": str.rstrip,
    "lines": lambda text: text.strip("\n"),
    "left-lines": lambda text: text.lstrip("\n"),
    "right-lines": lambda text: text.rstrip("\n"),
    "text": lambda text: json.dumps(text, ensure_ascii=False),
}
"""How contents are written: with blanks or line breaks taken away, or as text in JSON."""

_CALL = re.compile(r'\{\{ template "([^"]+)"')
_PLAIN_TYPES = " ".join(json.dumps(f'"{name}"') for name in ("string", "integer", "number", "boolean"))
_IS_PLAIN = r'eq (json {0}) (printf "\"%s\"" {0})'
_TEXT = (
    '{{- define "text" }}{{ if ' + _IS_PLAIN.format(".") + ' }}{{ json . }}{{ else }}"{{ $rest := . }}{{ range len . }}'
    '{{ if not $rest }}{{ break }}{{ end }}{{ $part := printf "%.12s" $rest }}'
    "{{ if not (" + _IS_PLAIN.format("$part") + ') }}{{ $part = printf "%.1s" $rest }}{{ end }}'
    "{{ $rest = slice $rest (len $part) }}"
    r'{{ if eq $part "\"" "\\" }}\{{ $part }}{{ else if eq $part "\n" }}\n{{ else if eq $part "\r" }}\r'
    r'{{ else if eq $part "\t" }}\t{{ else if eq $part "\b" }}\b{{ else if eq $part "\f" }}\f'
    r'{{ else if lt $part " " }}{{ printf "\\u%04x" (index $part 0) }}{{ else }}{{ $part }}{{ end }}'
    '{{ end }}"{{ end }}{{ end }}'
)
"""A text as Python writes it in JSON: in parts where Go's own JSON changes nothing, else letter by letter."""


_STRING = '{{ $kind := printf "%T" . }}{{ if eq $kind "string" }}{{ . }}{{ else '
_PYTHON = (
    'if eq $kind "bool" }}{{ if . }}True{{ else }}False{{ end }}{{ else if eq $kind "<nil>" }}None{{ else }}'
    '{{ template "spaced0" . }}{{ end }}'
)
VALUE_FORMS = {
    "raw": '{{- define "raw" }}' + _STRING + '}}{{ template "spaced0" . }}{{ end }}{{ end }}',
    "python": '{{- define "python" }}' + _STRING + _PYTHON + "{{ end }}",
}
"""One argument alone: text as it is, other values as JSON, or as Python writes them."""


def defines(used: str) -> list[str]:
    """The Go templates for JSON that `used` calls, and those that they call."""
    known = {"text": _TEXT} | VALUE_FORMS
    for form in TOOL_FORMS:
        for level in range(DEEPEST if form.indent else 1):
            known |= _level(form, level)
    wanted = _called(used, known)
    for name in wanted:
        wanted += [other for other in _called(known[name], known) if other not in wanted]
    return [known[name] for name in known if name in wanted]


def _called(text: str, known: Container[str]) -> list[str]:
    return [name for name in dict.fromkeys(_CALL.findall(text)) if name in known]


def _level(form: JsonForm, level: int) -> dict[str, str]:
    """Every template of one level of indentation."""
    below = min(level + 1, DEEPEST - 1) if form.indent else 0
    line = "" if form.indent is None else "\n" + " " * (form.indent * (level + 1))
    end = "" if form.indent is None else "\n" + " " * (form.indent * level)
    writer = _Writer(form, f"{form.name}{level}", f"{form.name}{below}", line, end)
    deeper = writer.deeper
    bodies = {
        "": writer.value(),
        "-map": writer.keyed(f'{{{{ template "{deeper}" $value }}}}'),
        "-list": writer.listed(f'{{{{ template "{deeper}" . }}}}'),
        "-properties": writer.keyed(f'{{{{ template "{deeper}-property" $value }}}}'),
        "-any": writer.listed(f'{{{{ template "{deeper}-property" . }}}}'),
        "-names": writer.listed('{{ template "text" . }}'),
        "-property": writer.property(),
        "-parameters": writer.parameters(),
        "-function": writer.function(),
        "-tool": writer.tool(),
        "-functions": writer.listed(f'{{{{ template "{deeper}-function" .Function }}}}'),
        "-tools": writer.listed(f'{{{{ template "{deeper}-tool" . }}}}'),
    }
    return {writer.own + name: _named(writer.own + name, body) for name, body in bodies.items()}


def _named(name: str, body: str) -> str:
    return f'{{{{- define "{name}" }}}}{body}{{{{ end }}}}'


def go_text(text: str) -> str:
    """A string of Go's, which a Modelfile keeps: what does not print is spelled out."""
    made = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in made)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Bodies of templates: `own` and `deeper` are the names of this level's and the next one's."""

    form: JsonForm
    own: str
    deeper: str
    line: str
    """Before the first item."""
    end: str
    """Behind the last."""

    @property
    def _next(self) -> str:
        return go_text(self.form.comma + self.line)

    def _optional(self, key: str, condition: str, value: str) -> str:
        """A key that stands there when `condition` does; `$sep` is what comes before the next one."""
        put = f"{{{{ $sep }}}}{json.dumps(key)}{self.form.colon}{value}{{{{ $sep = {self._next} }}}}"
        return f"{{{{ if {condition} }}}}{put}{{{{ end }}}}" if condition else put

    def _object(self, parts: list[str]) -> str:
        return (
            f"{{{{ $sep := {go_text(self.line)} }}}}"
            '{{ "{" }}' + "".join(parts) + f"{self._end(go_text(self.line))}" + "}"
        )

    def _end(self, first: str) -> str:
        # An object that is empty stays on its line.
        return f"{{{{ if ne $sep {first} }}}}{self.end}{{{{ end }}}}" if self.end else ""

    def value(self) -> str:
        """Any value."""
        return (
            '{{ $kind := printf "%T" . }}{{ if eq $kind "string" }}{{ template "text" . }}'
            f'{{{{ else if eq $kind "map[string]interface {{}}" }}}}{{{{ template "{self.own}-map" . }}}}'
            f'{{{{ else if eq $kind "[]interface {{}}" }}}}{{{{ template "{self.own}-list" . }}}}'
            "{{ else }}{{ json . }}{{ end }}"
        )

    def keyed(self, value: str) -> str:
        """A map."""
        first = go_text(self.line)
        item = f'{{{{ $sep }}}}{{{{ template "text" $key }}}}{self.form.colon}{value}{{{{ $sep = {self._next} }}}}'
        start = f'{{{{ $sep := {first} }}}}{{{{ $first := true }}}}{{{{ "{{" }}}}'
        loop = f"{{{{ range $key, $value := . }}}}{item}{{{{ $first = false }}}}{{{{ end }}}}"
        return start + loop + self._unless_first() + "}"

    def listed(self, value: str) -> str:
        """A list."""
        start = f"{{{{ $sep := {go_text(self.line)} }}}}{{{{ $first := true }}}}["
        loop = (
            f"{{{{ range . }}}}{{{{ $sep }}}}{value}{{{{ $sep = {self._next} }}}}{{{{ $first = false }}}}{{{{ end }}}}"
        )
        return start + loop + self._unless_first() + "]"

    def _unless_first(self) -> str:
        return f"{{{{ if not $first }}}}{self.end}{{{{ end }}}}" if self.end else ""

    def property(self) -> str:
        """A property of a tool's parameters. Fields that old versions of Ollama lack are looked at last."""
        of = self.deeper
        kinds = '{{ if eq (len .Type) 1 }}{{ json .Type }}{{ else }}{{ template "' + of + '-names" .Type }}{{ end }}'
        parts = [
            self._optional("type", ".Type", kinds),
            self._optional("description", ".Description", '{{ template "text" .Description }}'),
            self._optional("enum", ".Enum", f'{{{{ template "{of}-list" .Enum }}}}'),
            self._optional("items", ".Items", f'{{{{ template "{of}" .Items }}}}'),
            f"{{{{ if not (eq (json .Type) {_PLAIN_TYPES}) }}}}",
            self._optional("properties", ".Properties", f'{{{{ template "{of}-properties" .Properties.ToMap }}}}'),
            self._optional("required", ".Required", f'{{{{ template "{of}-names" .Required }}}}'),
            self._optional("anyOf", ".AnyOf", f'{{{{ template "{of}-any" .AnyOf }}}}'),
            "{{ end }}",
        ]
        return self._object(parts)

    def parameters(self) -> str:
        """The parameters of a function."""
        of = self.deeper
        return self._object(
            [
                self._optional("type", "", '{{ template "text" .Type }}'),
                self._optional("properties", "", f'{{{{ template "{of}-properties" .Properties }}}}'),
                self._optional("required", ".Required", f'{{{{ template "{of}-names" .Required }}}}'),
            ]
        )

    def function(self) -> str:
        """A function without its envelope."""
        described = '"{{ .Description }}"' if self.form.bare else '{{ template "text" .Description }}'
        return self._object(
            [
                self._optional("name", "", '{{ template "text" .Name }}'),
                self._optional("description", ".Description", described),
                self._optional(
                    "parameters",
                    "or .Parameters.Type .Parameters.Properties",
                    f'{{{{ template "{self.deeper}-parameters" .Parameters }}}}',
                ),
            ]
        )

    def tool(self) -> str:
        """A whole tool."""
        return self._object(
            [
                self._optional("type", "", '{{ template "text" .Type }}'),
                self._optional("function", "", f'{{{{ template "{self.deeper}-function" .Function }}}}'),
            ]
        )
