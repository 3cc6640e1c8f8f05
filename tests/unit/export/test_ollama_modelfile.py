"""What a Modelfile says comes back as Ollama reads it."""

from __future__ import annotations

import pytest

from engine.export.ollama.modelfile import Modelfile, Unwritable, quoted


def unquoted(text: str) -> str | None:
    """As `parser.go` takes quotes away; None for a value that is not closed."""
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            return text[len(quotes) : -len(quotes)] if len(text) >= 2 * len(quotes) and text.endswith(quotes) else None
    return text


def read_back(text: str) -> list[tuple[str, str]]:
    """Commands with their values, by the rules of Ollama's `parser.go`: a line ends a value that is closed."""
    commands: list[tuple[str, str]] = []
    command, value = "", ""
    for line in text.splitlines(keepends=True):
        if not command:
            if not line.strip() or line.startswith("#"):
                continue
            command, _, rest = line.strip("\n").partition(" ")
            if command == "PARAMETER":
                name, _, rest = rest.partition(" ")
                command = f"{command} {name}"
            value = rest
        else:
            value += line.rstrip("\n") if line.endswith("\n") else line
        found = unquoted("".join(char for char in value if char.isprintable() or char in "\n\t\r").strip())
        if found is None:
            value += "\n"
            continue
        commands.append((command, found))
        command = ""
    assert not command, "a value is not closed"
    return commands


SYSTEMS = (
    "Be kind",
    "Two\nlines, a \\ and a tab\t.",
    'Say "hi"',
    '"quoted"',
    " blanks around ",
    'the last line ends with "\n"so"',
    "\n\nbreaks around\n",
    'three """ in a line',
    'ends with a quote"\nand goes on',
    "Zürich 東京 🙂",
    "# no comment",
)


@pytest.mark.parametrize("system", SYSTEMS)
def test_values_come_back(system: str) -> None:
    made = Modelfile("a.gguf", "{{ .Prompt }}\n", system, ["<|im_end|>", "\n###", '"'], 8192, ["a remark"])
    assert read_back(made.text()) == [
        ("FROM", "./a.gguf"),
        ("TEMPLATE", "{{ .Prompt }}\n"),
        ("SYSTEM", system),
        ("PARAMETER stop", "<|im_end|>"),
        ("PARAMETER stop", "\n###"),
        ("PARAMETER stop", '"'),
        ("PARAMETER num_ctx", "8192"),
    ]


@pytest.mark.parametrize("text", ["a\u200bb", "no\xa0break", 'one"\nand """\nmore'])
def test_what_a_modelfile_would_change_is_refused(text: str) -> None:
    with pytest.raises(Unwritable):
        quoted(text)
