"""`engine chat RUN`: talk with the model that a run trained; stream answers, or answer each line of a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from engine.cli.chat_tools import Toolbox, call_text, calls_in, offered, result_turn, run_command, toolbox_of
from engine.cli.common import color, json_option, note, print_json_line, warn
from engine.cli.names import complete_runs
from engine.cli.piped import Refusals, Refused, questions
from engine.errors import EngineError, ExitCode
from engine.runs import store
from engine.runs.talk import Talk
from engine.text import sanitize

HELP = (
    "/clear forgets the conversation, /base and /tuned choose who answers, /system TEXT, /tools, /exit;"
    " Ctrl-C ends an answer"
)
MOST_ROUNDS = 16
"""Answers to one question that may each call tools."""


@dataclass(slots=True)
class Conversation:
    """The turns so far, the tools, and the settings of generation. `system` None = the run's own."""

    options: dict[str, Any]
    box: Toolbox
    system: str | None = None
    base: bool = False
    turns: list[dict[str, Any]] = field(default_factory=list)

    def messages(self, more: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All messages that the model reads, with the new ones."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.turns, *more]


@click.command()
@click.argument("run", shell_complete=complete_runs)
@click.option("--system", help="System message of the conversation; default: the run's data.system, '' = none.")
@click.option(
    "--tools", metavar="FILE", help="Tools that the model may call, as JSON; default: the run's own, or 'none'."
)
@click.option(
    "--tool",
    "commands",
    metavar="NAME=COMMAND",
    multiple=True,
    help="Answer calls of a tool with what COMMAND prints; it reads the arguments as JSON. May be repeated.",
)
@click.option("--max-new-tokens", type=click.IntRange(1, 32_768), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.0, help="0 = always the likeliest token.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed for sampled answers.")
@json_option
def chat(
    run: str,
    system: str | None,
    tools: str | None,
    commands: tuple[str, ...],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int | None,
    as_json: bool,
) -> None:
    """Talk with the model that RUN trained. RUN is an id, a part of one, or 'last'.

    Each line of standard input is a question. From a pipe, each line gets its own answer, without the turns before
    it; --json prints one {"prompt", "answer", "tokens", "stopped", "seconds"} a line, with "calls" where the model
    calls tools, and "problem" where a call cannot be read or the model does nothing but call.
    """
    trained_run = store.find_run(run)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    conversation = Conversation(options, toolbox_of(tools, commands), system)
    with Talk(trained_run) as talk:
        note(f"loading {trained_run.id} …")
        for event in talk.wait_ready():
            if event["type"] == "warning":
                warn(str(event["message"]))
            elif event["type"] == "ready":
                _begin(conversation, event)
        if sys.stdin.isatty() and not as_json:
            note(HELP)
            _talk(talk, conversation)
        else:
            refusals = Refusals(as_json=as_json)
            for text in questions(refusals):
                try:
                    _answer_line(talk, conversation, text, as_json)
                except Refused as refused:
                    refusals.tell(text, refused)
            if refusals.count:
                raise click.exceptions.Exit(int(ExitCode.DATA))


def _begin(conversation: Conversation, ready: dict[str, Any]) -> None:
    """What training showed, unless something else was asked for."""
    offered(conversation.box, ready)
    own = str(ready.get("system") or "")
    if conversation.system is None:
        conversation.system = own
        if own:
            note(f"system: {sanitize(own, max_chars=200, single_line=True)}")
    if conversation.box.tools:
        note(f"tools: {sanitize(', '.join(conversation.box.names), max_chars=400, single_line=True)}")


def _talk(talk: Talk, conversation: Conversation) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    for text in _lines(conversation):
        if text.startswith("/"):
            if not _command(conversation, text):
                return
        elif text:
            conversation.turns += _exchange(talk, conversation, text)


def _exchange(talk: Talk, conversation: Conversation, text: str) -> list[dict[str, Any]]:
    """The turns of one question: the answer, and before it calls with their results; none where there is no answer."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": text}]
    for _ in range(MOST_ROUNDS):
        answer = _show(talk, conversation, turns)
        if answer is None:
            return []
        turns.append(answer["turn"])
        if answer["problem"]:
            warn(f"a call that cannot be read: {sanitize(str(answer['problem']), single_line=True)}")
        calls = calls_in(answer["turn"])
        for call in calls:
            result = _result(conversation, call)
            if result is None:
                note("the question and its calls are forgotten")
                return []
            turns.append(result_turn(call, result))
        if not calls:
            return turns
    note(f"{MOST_ROUNDS} answers called tools: the question is forgotten")
    return []


def _result(conversation: Conversation, call: dict[str, Any]) -> str | None:
    """A call's result: its command's, or what the person types; None for nothing, or where Ctrl-C ended it."""
    note(f"calls {call_text(call)}")
    try:
        found = run_command(conversation.box, call)
        if found is not None:
            note(f"result: {sanitize(found, max_chars=2000, single_line=True)}")
            return found
        return _typed(input(f"result of {sanitize(str(call['name']), max_chars=60, single_line=True)}> ")) or None
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None


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
    elif word == "/tools":
        _tools(conversation, rest.strip())
    else:
        note(HELP)
    return True


def _tools(conversation: Conversation, path: str) -> None:
    """Say which tools there are, or take others from a file and begin anew."""
    if path:
        try:
            conversation.box.tools = toolbox_of(path, ()).tools
        except EngineError as error:
            note(f"{error.where}: {error.message}")
            return
        conversation.turns = []
    note(f"tools: {sanitize(', '.join(conversation.box.names), single_line=True) or 'none; /tools FILE takes some'}")


def _show(talk: Talk, conversation: Conversation, turns: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Stream one answer and return its event; None when the worker refused the question or nothing was said."""
    answer: dict[str, Any] | None = None
    events = talk.ask(
        conversation.messages(turns), base=conversation.base, tools=conversation.box.tools, **conversation.options
    )
    while True:
        try:
            for event in events:
                if event["type"] == "answer_part":
                    click.echo(sanitize(str(event["text"]), max_chars=100_000), nl=False)
                elif event["type"] == "refused":
                    note(str(event["message"]))
                elif event["type"] == "answer":
                    answer = event if event["text"] or calls_in(event["turn"]) else None
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


def _answer_line(talk: Talk, conversation: Conversation, text: str, as_json: bool) -> None:
    last, called, problem = _last_answer(talk, conversation, text)
    if as_json:
        known = {key: last[key] for key in ("tokens", "stopped", "seconds")}
        more = {**({"calls": called} if called else {}), **({"problem": problem} if problem else {})}
        print_json_line({"prompt": text, "answer": last["text"], **more, **known})
        return
    for call in called:
        click.echo(f"calls {call_text(call)}", err=True)
    if problem:
        warn(sanitize(problem, single_line=True))
    click.echo(sanitize(str(last["text"]), max_chars=1_000_000))


def _last_answer(talk: Talk, conversation: Conversation, text: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """The `answer` event that ends a question, every call before it with its result, and what is wrong with it."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": text}]
    called: list[dict[str, Any]] = []
    for _ in range(MOST_ROUNDS):
        last = _last_event(talk, conversation, turns, text)
        calls = calls_in(last["turn"])
        results = [run_command(conversation.box, call) for call in calls]
        pairs = list(zip(calls, results, strict=True))
        called += [{**call, **({} if result is None else {"result": result})} for call, result in pairs]
        if not calls or None in results:
            problem = str(last["problem"])
            return last, called, f"a call that cannot be read: {problem}" if problem else ""
        turns += [last["turn"], *(result_turn(call, str(result)) for call, result in pairs)]
    return last, called, f"{MOST_ROUNDS} answers called tools: the last one stands, though it calls some as well"


def _last_event(talk: Talk, conversation: Conversation, turns: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """The `answer` event. Raises EngineError(DATA) when the worker refused the question."""
    last: dict[str, Any] = {}
    for event in talk.ask(
        conversation.messages(turns), base=False, tools=conversation.box.tools, **conversation.options
    ):
        last = event
    if last["type"] == "refused":
        hint = "shorten the question, or look at the run's template with 'engine data preview'"
        raise Refused(str(last["message"]), code=ExitCode.DATA, where=text[:60], hint=hint)
    return last
