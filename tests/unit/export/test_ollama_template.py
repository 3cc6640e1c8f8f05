"""Templates of Ollama's are learnt from the chat template, and hold on random conversations or are not written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.data.chat import ChatTemplate, render
from engine.data.conversation import Conversation
from engine.data.templates import MARKS, template_source
from engine.export.ollama import prove
from engine.export.ollama.go_parse import GoError, parse
from engine.export.ollama.go_run import execute
from engine.export.ollama.probe import Render
from engine.export.ollama.prove import Derived, conversation_text, derive, told
from engine.export.ollama.values import kept, values_of
from engine.export.ollama.write import write_modelfile

TOKENIZER = SimpleNamespace(
    special_tokens_map={"bos_token": "<s>", "eos_token": "</s>"}, bos_token="<s>", eos_token="</s>"
)
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d<e",
        "parameters": {
            "type": "object",
            "properties": {
                "q": {"type": ["string", "null"], "enum": ["a", 1]},
                "p": {"type": "object", "properties": {"z": {"type": "integer"}}},
            },
            "required": ["q"],
        },
    },
}
ARGUMENTS = {"b": [1, 2.5, 'x"y'], "a": {"k": None, "j": True}}
CALL = {"type": "function", "id": "a", "function": {"name": "f", "arguments": ARGUMENTS}}
TURNS = [
    {"role": "system", "content": "Be kind"},
    {"role": "user", "content": " hi é<&> \n"},
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "content": "21", "name": "f"},
]
GO = [
    ("{{ range .Messages }}{{ .Role }}|{{ end }}", "system|user|assistant|tool|"),
    ('a {{- 1 -}} \n b {{ "" }} c{{/* no */}}d', "a1b  cd"),
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}", "2"),
    (
        '{{ range $i, $m := .Messages }}{{ if eq $i 2 }}{{ break }}{{ end }}{{ if eq $m.Role "system" }}{{ continue }}'
        "{{ end }}{{ $i }}{{ .Role }}{{ end }}",
        "1user",
    ),
    ("{{ range $i := 3 }}{{ $i }}{{ end }}{{ range len .Response }}x{{ else }}none{{ end }}", "012none"),
    ("{{ len (index .Messages 1).Content }}{{ slice (index .Messages 1).Content 0 3 }}", "11 hi"),
    ('{{ printf "%s %d %04x %T" "s" 7 26 (len .System) }}', "s 7 001a int"),
    ("{{ json (index .Messages 1).Content }}", '" hi é\\u003c\\u0026\\u003e \\n"'),
    (
        "{{ json (index (index .Messages 2).ToolCalls 0).Function.Arguments }}",
        '{"a":{"j":true,"k":null},"b":[1,2.5,"x\\"y"]}',
    ),
    (
        "{{ range $k, $v := (index (index .Messages 2).ToolCalls 0).Function.Arguments }}{{ $k }}="
        '{{ printf "%T" $v }};{{ end }}',
        "a=map[string]interface {};b=[]interface {};",
    ),
    (
        "{{ range .Tools }}{{ range $k, $p := .Function.Parameters.Properties }}{{ $k }}{{ json $p.Type }}"
        "{{ len $p.Type }}{{ end }}{{ end }}",
        'p"object"1q["string","null"]2',
    ),
    ('{{ and 1 0 2 }} {{ or "" "b" }} {{ not .Think }} {{ lt "a" "b" }} {{ eq "b" "a" "b" }}', "0 b true true true"),
    (
        '{{ define "t" }}[{{ . }}{{ if gt (len .) 1 }}{{ template "t" (slice . 1) }}{{ end }}]{{ end }}'
        '{{ template "t" "abc" }}',
        "[abc[bc[c]]]",
    ),
    ('{{ .System }} {{ .Nothing }} {{ "x" | printf "%s-%s" "y" }}', "Be kind <no value> y-x"),
    ('{{ eq .Nothing "x" }} {{ ne .Nothing "x" }}', "false true"),
    ("{{ if .Think }}a{{ else if .System }}b{{ else }}c{{ end }}", "b"),
    ('{{ printf "%.2s" "é東x" }}{{ printf "%.9s" "é" }}{{ printf "%.1s" "" }}', "é東é"),
    ('{{ `raw "x"` }}{{ "q\\"\\\\\\n" }}', 'raw "x"q"\\\n'),
]
"""Templates and what Go 1.27 with Ollama's own template package writes for TURNS and TOOL."""
BROKEN = (
    "{{ (index .Messages 0).Nope }}",
    "{{ index .Messages 9 }}",
    '{{ slice "abc" 2 9 }}',
    '{{ eq .Think "x" }}',
    "{{ eq .Think 1 }}",
    "{{ if }}x{{ end }}",
    "{{ range .Messages }}x",
    "{{ nothing .System }}",
    "{{ $gone }}",
)
"""What Go refuses, too."""
HERMES = """{%- if tools %}<|im_start|>system
{%- if messages[0].role == 'system' %}{{ '\\n' + messages[0].content }}{% endif %}

<tools>{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- elif not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content and loop.index0 > ns.last %}
{{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content | trim if message.role == 'assistant' else message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
"""Tools, calls of several tools at once, results in one turn, thoughts of the last question alone, a switch."""


SWITCH = """{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}
{%- if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}<none>{% endif %}
{%- endif %}"""


def asking(source: str, **arguments: Any) -> Render:
    template = ChatTemplate("auto", source, "", arguments=arguments)

    def ask(conversations: Sequence[Conversation], generation: bool) -> list[Any]:
        return render(TOKENIZER, template, conversations, generation=generation)

    return ask


def derived(source: str, **arguments: Any) -> Derived:
    return derive(asking(source, **arguments), arguments)


@pytest.mark.parametrize(("template", "wanted"), GO)
def test_templates_write_what_go_writes(template: str, wanted: str) -> None:
    assert execute(parse(template), values_of(Conversation(TURNS, [TOOL]))) == wanted


@pytest.mark.parametrize("template", BROKEN)
def test_templates_that_go_refuses_are_refused(template: str) -> None:
    with pytest.raises(GoError):
        execute(parse(template), values_of(Conversation(TURNS, [TOOL])))


@pytest.mark.parametrize("name", MARKS)
def test_every_built_in_template_has_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 60)
    found = derived("{{- bos_token -}}" + template_source(name))
    assert found.text is not None, found.why
    assert found.proof.equal == found.proof.compared == 60
    assert found.lost == ()


def test_tools_calls_results_and_thoughts() -> None:
    ask = asking(HERMES)
    found = derive(ask, {})
    assert found.covers == ("tools", "tool calls", "several calls at once", "thoughts", "later system messages")
    assert found.lost == ()
    assert found.proof.equal == found.proof.compared == 200
    assert found.text is not None
    # Ollama finds the marks of calls and thoughts by the first branch on the one and the last on the other.
    assert found.text.partition("{{- if .ToolCalls }}")[2].startswith("<tool_call>{{ end }}")
    assert found.text.count("{{ if .ToolCalls }}", 0, found.text.index("{{- if .ToolCalls }}")) == 0
    assert found.text.rpartition("{{ if .Thinking }}")[2].startswith("<think>{{ .Thinking }}</think>{{ end }}")
    # A thought and a call that no random conversation holds, with what Go's own JSON would write otherwise.
    odd = "ends in a long line \u2028 é<\n\x7f\x01\\" + "東京" * 20
    other = {**CALL, "function": {"name": "f", "arguments": {odd: odd, "": [[], {}, 1e16]}}}
    turns = [*TURNS, {"role": "assistant", "content": "", "tool_calls": [CALL, other], "reasoning_content": "\nso\n"}]
    turns += [{"role": "tool", "content": "<1 & 2>\u2028"}, {"role": "tool", "content": "é"}]
    asked = kept(Conversation(turns, [TOOL, {"type": "function", "function": {"name": "now"}}]))
    assert ask([asked], True) == [execute(parse(found.text), values_of(asked))]
    assert '"function": {"name": "now"}}' in ask([asked], True)[0]
    assert "<think>\nso\n</think>" in ask([asked], True)[0]


def test_the_switch_for_thinking_follows_ollama_unless_the_profile_sets_it() -> None:
    hello = Conversation([{"role": "user", "content": "Hello"}])
    for arguments, unset, off in (({}, False, True), ({"enable_thinking": False}, True, True)):
        found = derived(SWITCH, **arguments)
        assert found.text is not None
        tree = parse(found.text)
        assert execute(tree, values_of(hello)).endswith("<none>") is unset
        assert execute(tree, values_of(hello, think=True)).endswith("<none>") is unset
        assert execute(tree, values_of(hello, think=False)).endswith("<none>") is off


TURN = """{%- for message in messages %}{% if message.role == 'tool' %}<result>{{ message.content }}</result>
{%- elif not (message.role == 'system' and loop.first) %}<{{ message.role }}>
{%- if message.role == 'user' and loop.last %}LAST{% endif %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}{{ '<call ' + call.function.name + '>' }}CALL</call>{% endfor %}</s>
{%- endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""
JOINED = "{% for tool in tools %}{{ tool | tojson }}{% if not loop.last %};{% endif %}{% endfor %}"
SHOWN = "{% if tools %}[" + JOINED + "]{% endif %}"
EACH = "{% for key, value in call.function.arguments.items() %}<p={{ key }}>VALUE</p>{% endfor %}"
SYSTEM = "{% if messages[0].role == 'system' %}<<{{ messages[0].content.strip() }}>>{% endif %}"
KINDS = {
    "arguments one by one": TURN.replace(
        "CALL", EACH.replace("VALUE", "{{ value if value is string else value | tojson }}")
    ).replace("LAST", SHOWN + SYSTEM),
    "values in JSON": TURN.replace("CALL", EACH.replace("VALUE", "{{ value | tojson }}")).replace(
        "LAST", SHOWN + SYSTEM
    ),
    "JSON on lines": SYSTEM
    + "{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}"
    + TURN.replace("CALL", "{{ call.function.arguments | tojson(indent=2) }}").replace("LAST", ""),
    "functions, compact": SYSTEM
    + SHOWN.replace("tool | tojson", "tool.function | tojson(separators=(',', ':'))")
    + TURN.replace("CALL", "{{ call.function.arguments | tojson }}").replace("LAST", "!"),
}


@pytest.mark.parametrize("source", KINDS.values(), ids=KINDS)
def test_ways_to_write_tools_and_calls(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    found = derived(source)
    assert found.text is not None, found.why
    assert found.lost == (), found.why
    assert "tool calls" in found.covers
    assert found.proof.equal == found.proof.compared == 40
    assert found.reads_calls is ("<p=" not in source)


def test_what_only_tools_cannot_be_written_with_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    named = SHOWN.replace("tool | tojson", "tool.function.name + tool.function.description | default('')")
    found = derived(SYSTEM + named + TURN.replace("CALL", "{{ call.function.arguments | tojson }}"))
    assert found.text is not None
    assert found.lost == ("tools", "tool calls", "several calls at once")
    assert "tools in a way of its own" in found.why
    assert found.shown is not None
    assert found.shown.conversation.tools
    assert found.proof.equal == found.proof.compared == 40


def run_of(folder: Path, chat_template: str) -> tuple[list[str], Any, Any, Any]:
    """What is told, and a job, run and tokenizer for `write_modelfile`."""
    told: list[str] = []
    job = SimpleNamespace(phase=lambda *_: None, warn=lambda _, text: told.append(text))
    settings = SimpleNamespace(
        model=SimpleNamespace(max_length=8192, additional_special_tokens=()),
        data=SimpleNamespace(system="Be kind.\nAlways.", template_arguments={}, marks="text"),
    )
    trained = SimpleNamespace(settings=settings, data=lambda: SimpleNamespace(ends=("</s>",)), run_dir=folder)
    return told, job, trained, SimpleNamespace(**vars(TOKENIZER), chat_template=chat_template)


def test_a_modelfile_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    told, job, trained, tokenizer = run_of(tmp_path, TURN.replace("CALL", "").replace("LAST", ""))
    made = write_modelfile(job, trained, tokenizer, tmp_path, "a.gguf")
    text = (tmp_path / "Modelfile").read_text()
    assert (made.written, made.equal, told) == (True, 40, [])
    assert "# TEMPLATE writes 40 of 40 conversations" in text
    assert text.endswith('SYSTEM """Be kind.\nAlways."""\nPARAMETER stop "</s>"\nPARAMETER num_ctx 8192\n')
    tokenizer.chat_template = CHANGED.replace("[go]", "{{ messages | length }}")
    made = write_modelfile(job, trained, tokenizer, tmp_path, "a.gguf")
    text = (tmp_path / "Modelfile").read_text()
    assert not made.written
    assert 'TEMPLATE "' not in text
    assert "# No TEMPLATE" in text
    assert list(made.warnings) == told
    assert "llama-server --jinja" in told[0]
    assert '{"messages": [{"role"' in told[0]
    tokenizer.chat_template = None
    tokenizer.bos_token_id = None
    made = write_modelfile(job, trained, tokenizer, tmp_path, "a.gguf")
    assert 'TEMPLATE "{{ .Prompt }}"' in (tmp_path / "Modelfile").read_text()


ASKED = [{"role": "user", "content": "Hello"}]
ANSWER = {"role": "assistant", "content": "Yes"}
SWITCHED = "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<none>{% endif %}"
OLD_SCHEMA = {"type": "object", "properties": {"q": {"type": "string", "required": True}}}


def _called(arguments: str) -> list[dict[str, Any]]:
    call = {"role": "assistant", "content": "", "calls": [{"name": "f", "arguments": arguments}]}
    return [*ASKED, call, {"role": "tool", "content": "", "name": "f"}]


SENT: list[dict[str, Any]] = [
    {"messages": [*ASKED, *ASKED, ANSWER]},
    {"messages": [*ASKED, ANSWER], "template_arguments": '{"enable_thinking": false}'},
    {"messages": [*_called('{"a": 1234567890123456789}'), ANSWER]},
]
NOT_SENT: list[dict[str, Any]] = [
    {
        "messages": [*ASKED, ANSWER],
        "tools": json.dumps([{"type": "function", "function": {"name": "f", "parameters": OLD_SCHEMA}}]),
    },
    {"messages": [*_called('{"a": 1e-05}'), ANSWER]},
    {"messages": [{"role": "user", "content": "x" * 20_001}, ANSWER]},
]
"""What Ollama refuses, what Go spells otherwise, what is very long."""


def test_held_out_rows_are_compared_as_ollama_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 20)
    (tmp_path / "data").mkdir()
    rows = [json.dumps({"kind": "chat", **row}) for row in (*SENT, *NOT_SENT)]
    (tmp_path / "data" / "validation.jsonl").write_text("\n".join(rows))
    told, job, trained, tokenizer = run_of(tmp_path, KINDS["functions, compact"] + SWITCHED)
    made = write_modelfile(job, trained, tokenizer, tmp_path, "a.gguf")
    assert (made.written, made.compared, made.equal, made.lost, told) == (True, 23, 23, (), [])


def test_held_out_rows_with_tools_leave_a_template_without_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    named = SHOWN.replace("tool | tojson", "tool.function.name + tool.function.description | default('')")
    ask = asking(SYSTEM + named + TURN.replace("CALL", "{{ call.function.arguments | tojson }}").replace("LAST", ""))
    found = derive(ask, {}, [kept(Conversation(TURNS, [TOOL])), Conversation(ASKED)])
    assert found.text is not None
    assert found.lost == ("tools", "tool calls", "several calls at once")
    assert found.proof.equal == found.proof.compared == 41


def test_looking_for_a_template_ends_with_the_plainest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    seconds = [0.0]
    monkeypatch.setattr(prove, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    ask = asking(HERMES)

    def slow(conversations: Sequence[Conversation], generation: bool) -> list[Any]:
        if len(conversations) > 1 and any(one.tools for one in conversations):
            seconds[0] += 100
            return [""] * len(conversations)
        return ask(conversations, generation)

    found = derive(slow, {})
    assert found.text is not None
    assert found.covers == ()
    assert found.why == "looking for it took more than 90 seconds"
    assert seconds[0] <= 100
    monkeypatch.setattr(prove, "LONGEST_S", -1.0)
    assert derive(ask, {}).text is None


def test_an_export_goes_on_where_looking_for_a_template_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Derived:
        raise RecursionError("too deep\nby far")

    monkeypatch.setattr("engine.export.ollama.write.derive", fails)
    told, job, trained, tokenizer = run_of(tmp_path, CHANGED)
    made = write_modelfile(job, trained, tokenizer, tmp_path, "a.gguf")
    assert not made.written
    assert "RecursionError" in told[0]
    # A remark is one line: the next one would be taken for a command.
    assert all(
        line.startswith(("#", "FROM", "SYSTEM", "Always", "PARAMETER"))
        for line in (tmp_path / "Modelfile").read_text().splitlines()
    )


def test_blanks_of_all_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMPARED", 40)
    source = "{% for message in messages %}<{{ message.role }}>{{ message.content | trim }}</s>{% endfor %}"
    found = derived(source)
    assert found.text is not None, found.why
    blanks = "".join(char for char in map(chr, range(0x10000)) if char.isspace())
    turns = [{"role": "user", "content": f"{blanks}é\u3000.{blanks}"}, ANSWER, {"role": "user", "content": blanks}]
    assert execute(parse(found.text), values_of(Conversation(turns))) == (
        "<user>é\u3000.</s><assistant>Yes</s><user></s>"
    )


CHANGED = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}[go]"


@pytest.mark.parametrize(
    "source",
    [
        CHANGED.replace("content }}", "content | upper }}"),
        CHANGED.replace("content }}", "content[:40] }}"),
        CHANGED.replace("messages %}", "messages[-3:] %}"),
        CHANGED.replace("messages %}", "messages | reverse %}"),
        CHANGED.replace("[go]", "{{ messages | length }}"),
        "{{ raise_exception('no') }}",
    ],
    ids=["letters", "length", "last three", "order", "count", "refusal"],
)
def test_what_no_template_of_ours_can_do_is_not_written(source: str) -> None:
    found = derived(source)
    assert found.text is None
    assert found.why
    if found.shown is not None:
        assert told(found.shown).startswith(("wanted", "it writes"))
        assert '"messages"' in conversation_text(found.shown.conversation)


def test_text_of_the_template_that_go_or_a_modelfile_would_change() -> None:
    found = derived("{% for message in messages %}{{ '{{ \"\"\" \u3000<x>{' + message.content + '}' }}{% endfor %}")
    assert found.text is not None
    assert "\u3000" not in found.text
    assert '"""' not in found.text
    assert found.proof.equal == 200
