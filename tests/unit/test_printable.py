"""Output for terminals of any encoding, and questions of a pipe in any."""

from __future__ import annotations

import io
import json
import sys

import pytest

from engine.cli import common, piped, printable
from engine.cli.piped import Refusals, questions

DRAWN = "█▊░ ┌─┐ │ … — → ⟦é ü⟧ 你好 ✓ \udcff"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "gbk", "koi8-r", "utf-8", "utf-16", "cp037"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_every_encoding_shows_everything(monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    printable.make_printable()
    common.line(DRAWN)
    common.note(DRAWN)
    sys.stdout.write(DRAWN)  # as a traceback would
    for stream in streams:
        stream.flush()
        shown = stream.buffer.getvalue().decode(encoding, "strict")
        assert "┌─┐" in shown or "+-+" in shown
        assert "é" in shown or "\\xe9" in shown
        assert "你好" in shown or "\\u4f60\\u597d" in shown


def test_what_a_person_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    printable.make_printable()
    assert sys.stdout.errors == "xmlcharrefreplace"


@pytest.mark.parametrize(
    ("columns", "width"),
    [("1", 20), ("-5", 80), ("0", 80), ("words", 80), ("99999999999999999999", 1000), ("", 80), ("132", 132)],
)
def test_columns_that_no_terminal_has(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    assert common.width() == width


@pytest.mark.parametrize(
    ("raw", "asked", "refused"),
    [
        (b"Gr\xfc\xdfe\nsay 3\n", ["say 3"], 1),
        (b"\xff\xfeh\x00i\x00\n\x00say 3", ["say 3"], 1),  # UTF-16, then a line of text
        (b"\xef\xbb\xbfsay 3\n", ["say 3"], 0),
        (b"say \x00 3\r\n\n   \nlast", ["say \x00 3", "last"], 0),
        (b"a\xed\xa0\x80b\nsay 3", ["say 3"], 1),  # half of a pair
        (b"\xe4\xbd\xa0\xe5\n\xe4\xbd\xa0", ["你"], 1),  # cut within a letter
        (b"", [], 0),
    ],
    ids=("latin-1", "utf-16", "bom", "nul", "surrogate", "cut", "nothing"),
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_line_that_is_no_text_is_refused_alone(
    capsys: pytest.CaptureFixture[str], raw: bytes, asked: list[str], refused: int, encoding: str
) -> None:
    refusals = Refusals(as_json=True)
    found = list(questions(refusals, io.TextIOWrapper(io.BytesIO(raw), encoding=encoding)))
    assert [text.strip("\x00") for text in found] == asked
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert len(told) == refusals.count == refused
    for one in told:
        assert one["error"]["code"] == "data"
        assert one["error"]["where"] == "line 1"
        assert "UTF-8" in one["error"]["message"]


def test_another_terminal_s_letters_are_read_as_its_own() -> None:
    refusals = Refusals(as_json=True)
    stream = io.TextIOWrapper(io.BytesIO("Grüße\n".encode("cp1252")), encoding="cp1252")
    assert (list(questions(refusals, stream)), refusals.count) == (["Grüße"], 0)


def test_a_refusal_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"ok\n\xfc\n"), encoding="utf-8")
    assert list(questions(Refusals(as_json=False), stream)) == ["ok"]
    assert capsys.readouterr().err.startswith("refused: line 2: it is not UTF-8: byte 0xfc at place 1")
    assert piped.Refused("x").message == "x"
