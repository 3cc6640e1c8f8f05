"""Tools of a conversation in the shell: what is offered, and commands that answer calls."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.cli import chat, chat_tools
from engine.cli.chat_tools import Toolbox, call_text, offered, run_command, toolbox_of
from engine.errors import EngineError, ExitCode
from engine.inference.tools import tools_of_run

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"name": "add", "arguments": {"a": "x; touch /tmp/never", "b": 1}}


def command(code: str) -> Toolbox:
    return Toolbox([ADD], {"add": [sys.executable, "-c", code]})


def test_a_command_reads_the_arguments_and_prints_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    echo = "import json, sys; print(json.load(sys.stdin)['a'])"
    assert run_command(command(echo), CALL) == "x; touch /tmp/never"
    assert run_command(Toolbox([ADD]), CALL) is None
    assert run_command(command("import sys; sys.exit('no such city')"), CALL) == "error: exit code 1: no such city"
    assert run_command(Toolbox([ADD], {"add": ["/no/such/program"]}), CALL) == (
        "error: [Errno 2] No such file or directory: '/no/such/program'"
    )
    assert "no such city" in capsys.readouterr().err


def test_a_command_is_given_up_after_a_while_and_its_output_is_bounded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chat_tools, "COMMAND_S", 0.3)
    assert run_command(command("import time; time.sleep(30)"), CALL) == "error: no answer in 0.3 s"
    monkeypatch.setattr(chat_tools, "COMMAND_S", 30)
    assert len(run_command(command("print('y' * 100_000)"), CALL) or "") == chat_tools.MOST_RESULT_CHARS
    assert "only the first 65536 characters" in capsys.readouterr().err


def test_a_command_that_prints_without_end_is_ended_and_one_that_leaves_a_child_is_not_waited_for() -> None:
    began = time.monotonic()
    endless = Toolbox([ADD], {"add": ["yes"]})
    assert len(run_command(endless, CALL) or "") >= chat_tools.MOST_RESULT_CHARS - 1
    assert run_command(Toolbox([ADD], {"add": ["sh", "-c", "sleep 9 & echo hi"]}), CALL) == "hi"
    assert time.monotonic() - began < 5


def test_what_a_command_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_tools, "COMMAND_S", 0.3)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    monkeypatch.setattr(chat_tools.subprocess, "Popen", partial(chat_tools.subprocess.Popen, pass_fds=(write,)))
    assert run_command(Toolbox([ADD], {"add": ["sh", "-c", "sleep 30 | cat"]}), CALL) == "error: no answer in 0.3 s"
    os.close(write)
    ready, _, _ = select.select([read], [], [], 5)
    os.close(read)
    assert ready, "the child still holds the pipe"


def test_tools_come_from_a_file_or_from_the_run(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([ADD, {"name": "bare", "parameters": {}}]))
    box = toolbox_of(str(path), ["add=python add.py --fast"])
    assert (box.names, box.commands) == (["add", "bare"], {"add": ["python", "add.py", "--fast"]})
    offered(box, {"tools": [], "writes_calls": True})
    assert box.names == ["add", "bare"]
    own = toolbox_of(None, [])
    offered(own, {"tools": [ADD], "writes_calls": True})
    assert own.names == ["add"]
    none = toolbox_of("none", [])
    offered(none, {"tools": [ADD], "writes_calls": True})
    assert none.names == []
    with pytest.raises(EngineError, match="no tool 'sub'"):
        offered(toolbox_of(None, ["sub=x"]), {"tools": [ADD], "writes_calls": True})


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"type": "function", "function": {}}]', "nonsense", "[" * 100_000])
def test_a_file_that_holds_no_tools_is_refused_with_its_form(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(content)
    with pytest.raises(EngineError) as caught:
        toolbox_of(str(path), [])
    assert (caught.value.code, str(path)) == (ExitCode.DATA, caught.value.where)
    assert '"function"' in caught.value.hint


@pytest.mark.parametrize("given", ["add", "=x", "add=", "add='"])
def test_a_command_without_name_or_program_is_refused(given: str) -> None:
    with pytest.raises(EngineError, match="no tool and command") as caught:
        toolbox_of(None, [given])
    assert caught.value.code is ExitCode.PROFILE


def test_calls_are_shown_without_control_characters() -> None:
    shown = call_text({"name": "a\x1b[31m", "arguments": {"k": "\x1b]0;x\x07", "ü": 1}})
    assert "\x1b" not in shown
    assert '"ü": 1' in shown


@pytest.mark.parametrize(
    ("brought", "names", "note"),
    [
        ((), 0, ""),
        (("", ""), 0, ""),
        ((json.dumps([ADD]),) * 2, 1, ""),
        ((json.dumps([ADD]), ""), 1, "some of the run's rows bring tools"),
        ((json.dumps([ADD]), json.dumps([ADD, ADD])), 0, "different lists of tools"),
    ],
)
def test_a_run_offers_the_tools_that_its_rows_bring(
    tmp_path: Path, brought: tuple[str, ...], names: int, note: str
) -> None:
    tools: list[dict[str, Any]]
    (tmp_path / "data").mkdir()
    rows = [{"messages": [], **({"tools": text} if text else {})} for text in brought]
    (tmp_path / "data" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tools, told = tools_of_run(tmp_path)
    assert len(tools) == names
    assert note in told if note else not told


class Answering:
    """Stands for a worker: the same answer each time."""

    def __init__(self, problem: str = "", calls: tuple[dict[str, Any], ...] = ()) -> None:
        turn = {"role": "assistant", "content": "x", "tool_calls": [{"function": call} for call in calls]}
        how = {"tokens": 1, "stopped": True, "silenced": False, "seconds": 0.1}
        self.event = {"type": "answer", "text": "x", "turn": turn, "problem": problem, **how}

    def ask(self, *_: object, **__: object) -> Iterator[dict[str, Any]]:
        yield self.event


@pytest.mark.parametrize(
    ("talk", "problem"),
    [
        (Answering(), None),
        (Answering("the call is not JSON"), "a call that cannot be read: the call is not JSON"),
        (Answering(calls=(CALL,)), "16 answers called tools: the last one stands, though it calls some as well"),
    ],
)
def test_from_a_pipe_what_is_wrong_with_calls_is_told(
    talk: Any, problem: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "run_command", lambda box, call: "1")
    chat._answer_line(talk, chat.Conversation({}, Toolbox([ADD])), "q", as_json=True)
    assert json.loads(capsys.readouterr().out).get("problem") == problem
    chat._answer_line(talk, chat.Conversation({}, Toolbox([ADD])), "q", as_json=False)
    assert (problem or "") in capsys.readouterr().err


@pytest.mark.parametrize("command", [True, False])
def test_ctrl_c_forgets_a_call_and_not_the_chat(command: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat, "run_command", interrupted if command else lambda box, call: None)
    monkeypatch.setattr("builtins.input", interrupted)
    assert chat._result(chat.Conversation({}, Toolbox([ADD])), CALL) is None


def test_a_typed_result_in_another_encoding_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "17\udcb0")
    assert chat._result(chat.Conversation({}, Toolbox([ADD])), CALL) is None


@pytest.mark.parametrize("content", [None, b"", b"\xff", b'"tools"\n', b'{"tools": "["}\n', b'["tools"]\n'])
def test_held_out_rows_that_are_gone_or_damaged_bring_no_tools(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "validation.jsonl").write_bytes(content)
    assert tools_of_run(tmp_path) == ([], "")
