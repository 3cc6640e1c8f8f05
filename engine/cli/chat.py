"""`engine chat RUN`: talk with the model that a run trained; stream answers, or answer each line of a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from engine.cli.common import color, json_option, note, print_json_line, warn
from engine.cli.names import complete_runs
from engine.cli.piped import Refusals, questions
from engine.errors import EngineError, ExitCode
from engine.runs import store
from engine.runs.talk import Talk
from engine.text import sanitize

HELP = (
    "/clear forgets the conversation, /base and /tuned choose who answers, /system TEXT, /exit; Ctrl-C ends an answer"
)


@dataclass(slots=True)
class Conversation:
    """The turns so far and the settings of generation."""

    options: dict[str, Any]
    system: str = ""
    base: bool = False
    turns: list[dict[str, str]] = field(default_factory=list)

    def messages(self, text: str) -> list[dict[str, str]]:
        """All messages that the model reads, with the new question."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.turns, {"role": "user", "content": text}]


@click.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--system", default="", help="System message of the conversation.")
@click.option("--max-new-tokens", type=click.IntRange(1, 32_768), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.0, help="0 = always the likeliest token.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed for sampled answers.")
@json_option
def chat(
    run: str, system: str, max_new_tokens: int, temperature: float, top_p: float, seed: int | None, as_json: bool
) -> None:
    """Talk with the model that RUN trained. RUN is an id, a part of one, or 'last'.

    Each line of standard input is a question. From a pipe, each line gets its own answer, without the turns before
    it; --json prints one {"prompt", "answer", "tokens", "stopped", "seconds"} a line.
    """
    trained_run = store.find_run(run)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    conversation = Conversation(options, system)
    with Talk(trained_run) as talk:
        note(f"loading {trained_run.id} …")
        for event in talk.wait_ready():
            if event["type"] == "warning":
                warn(str(event["message"]))
        if sys.stdin.isatty() and not as_json:
            note(HELP)
            _talk(talk, conversation)
        else:
            refusals = Refusals(as_json=as_json)
            for text in questions(refusals):
                _answer_line(talk, conversation, text, as_json, refusals)
            if refusals.count:
                raise click.exceptions.Exit(int(ExitCode.DATA))


def _talk(talk: Talk, conversation: Conversation) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    for text in _lines(conversation):
        if text.startswith("/"):
            if not _command(conversation, text):
                return
        elif text:
            answer = _show(talk, conversation, text)
            if answer:
                conversation.turns = [
                    *conversation.turns,
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": answer},
                ]


def _lines(conversation: Conversation) -> Iterator[str]:
    while True:
        try:
            yield _typed(input("base> " if conversation.base else "> "))
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            note("/exit or Ctrl-D ends the chat")


def _typed(text: str) -> str:
    """What was typed; nothing where it holds bytes of another encoding, which no model can read."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        note("that is not text in this terminal's encoding: type it again")
        return ""
    return text.strip()


def _command(conversation: Conversation, text: str) -> bool:
    """Run a chat command; False ends the chat."""
    word, _, rest = text.partition(" ")
    if word in ("/exit", "/quit"):
        return False
    if word == "/clear":
        conversation.turns = []
    elif word in ("/base", "/tuned"):
        conversation.base = word == "/base"
    elif word == "/system":
        conversation.system, conversation.turns = rest.strip(), []
    else:
        note(HELP)
    return True


def _show(talk: Talk, conversation: Conversation, text: str) -> str:
    """Stream one answer and return its text; empty when the worker refused the question."""
    answer = ""
    events = talk.ask(conversation.messages(text), base=conversation.base, **conversation.options)
    while True:
        try:
            for event in events:
                if event["type"] == "answer_part":
                    click.echo(sanitize(str(event["text"]), max_chars=100_000), nl=False)
                elif event["type"] == "refused":
                    note(str(event["message"]))
                elif event["type"] == "answer":
                    answer = str(event["text"])
                    _close(event)
            return answer
        except KeyboardInterrupt:
            talk.silence()
            events = talk.rest()


def _close(event: dict[str, Any]) -> None:
    rate = event["tokens"] / event["seconds"] if event["seconds"] else 0.0
    why = "" if event["stopped"] else " (ended by you)" if event["silenced"] else " (at the limit of new tokens)"
    click.echo()
    click.echo(color(f"{event['tokens']} tokens, {rate:.1f} a second{why}", "bright_black", err=True), err=True)


def _answer_line(talk: Talk, conversation: Conversation, text: str, as_json: bool, refusals: Refusals) -> None:
    last: dict[str, Any] = {}
    for event in talk.ask(conversation.messages(text), base=False, **conversation.options):
        last = event
    if last["type"] == "refused":
        hint = "shorten the question; if that does not help, try 'engine chat' on a terminal"
        refusals.tell(text, EngineError(str(last["message"]), code=ExitCode.DATA, where=text[:60], hint=hint))
    elif as_json:
        known = {key: last[key] for key in ("tokens", "stopped", "seconds")}
        print_json_line({"prompt": text, "answer": last["text"], **known})
    else:
        click.echo(sanitize(str(last["text"]), max_chars=1_000_000))
