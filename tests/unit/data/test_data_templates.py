"""Choosing a template, and templates that try to do harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.data import rendering
from engine.data.chat import ChatTemplate, choose_template, render
from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.guard import RenderTimeout, limits
from engine.errors import EngineError, ExitCode

TURNS = [{"role": "user", "content": "Hello"}]


def test_the_models_own_template_comes_first(make_tokenizer: Callable[..., Any]) -> None:
    chosen = choose_template(make_tokenizer(chat_template="{{ messages[0]['content'] }}"))
    assert (chosen.name, chosen.source, chosen.warnings) == ("auto", "{{ messages[0]['content'] }}", ())


def test_without_a_template_chatml_where_its_marks_are_tokens(tokenizer: Any) -> None:
    chosen = choose_template(tokenizer)
    assert chosen.name == "chatml"
    assert "no chat template" in chosen.warnings[0]


def test_without_a_template_alpaca_for_a_base_model(bare_tokenizer: Callable[[], Any]) -> None:
    chosen = choose_template(bare_tokenizer())
    assert chosen.name == "alpaca"
    assert "no chat template" in chosen.warnings[0]


def test_marks_that_are_no_tokens_are_told(bare_tokenizer: Callable[[], Any]) -> None:
    (warning,) = choose_template(bare_tokenizer(), "llama3").warnings
    assert "<|eot_id|>" in warning


def test_an_unknown_template_names_the_nearest(tokenizer: Any) -> None:
    with pytest.raises(EngineError) as caught:
        choose_template(tokenizer, "chatlm")
    assert (caught.value.code, caught.value.hint) == (ExitCode.PROFILE, "did you mean 'chatml'?")


def test_a_huge_template_is_refused(make_tokenizer: Callable[..., Any]) -> None:
    with pytest.raises(EngineError, match="characters long"):
        choose_template(make_tokenizer(chat_template="x" * 300_000))


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(t='x') %}{% for a in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
        "{{ 'x' * 9999999999 }}",
        "{{ 'x' * 5000000 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% set n = namespace(x=3) %}{% for a in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '{:>1999999999}'.format(1) }}",
        "{{ [1] * 99999999 }}",
        "{{ lipsum(n=1000000) }}",
        "{% for",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
    ids=[
        *["loop", "doubling", "memory", "long", "power", "squares", "width", "format", "list", "lipsum"],
        *["syntax", "escape"],
    ],
)
def test_harmful_templates_end_in_an_error(tokenizer: Any, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "RENDER_S", 0.5)
    began = time.monotonic()
    with pytest.raises(EngineError) as caught:
        render(tokenizer, ChatTemplate("auto", source, ""), [Conversation(TURNS)], generation=False)
    assert caught.value.code is ExitCode.MODEL
    assert time.monotonic() - began < 10


def test_a_row_that_the_template_refuses_does_not_stop_the_others(tokenizer: Any) -> None:
    source = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system!') }}{% endif %}ok"
    system = [{"role": "system", "content": "x"}]
    found = render(
        tokenizer,
        ChatTemplate("auto", source, ""),
        [Conversation(turns) for turns in (TURNS, system, TURNS)],
        generation=False,
    )
    assert (found[0], found[2]) == ("ok", "ok")
    assert isinstance(found[1], RowProblem)
    assert found[1].detail == "No system!"


def test_dates_do_not_change_the_tokens_of_a_resumed_run(tokenizer: Any) -> None:
    source = "{{ strftime_now('%d %b %Y') }} {{ strftime_now(\"%Y\") }}"
    found = render(tokenizer, ChatTemplate("auto", source, ""), [Conversation(TURNS)], generation=False)
    assert found == ["01 Jan 2025 2025"]


def test_a_loop_ends_in_another_thread_too(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "RENDER_S", 0.3)
    source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

    def run() -> list[str | RowProblem]:
        return render(tokenizer, ChatTemplate("auto", source, ""), [Conversation(TURNS)], generation=False)

    with ThreadPoolExecutor(1) as pool, pytest.raises(EngineError, match="did not end in time"):
        pool.submit(run).result()


@pytest.mark.parametrize("threads", [False, True], ids=["main thread", "another"])
def test_waiting_for_a_busy_machine_is_no_fault_of_the_template(threads: bool) -> None:
    def wait() -> None:
        with limits(0.1, 1 << 30):
            time.sleep(0.4)  # stands for a processor that others have

    if threads:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(wait).result()
    else:
        wait()
    with pytest.raises(RenderTimeout), limits(0.02, 1 << 30):
        time.sleep(0.5)


@pytest.mark.parametrize("template", [5, ["x"], {"default": {"a": 1}}, True], ids=["number", "list", "dict", "bool"])
def test_a_template_that_is_no_text_is_refused_in_words(tokenizer: Any, template: Any) -> None:
    tokenizer.chat_template = template
    with pytest.raises(EngineError, match="is no text") as caught:
        choose_template(tokenizer)
    assert caught.value.code is ExitCode.MODEL


def test_numbers_of_usual_size_are_worked_out(tokenizer: Any) -> None:
    source = "{{ 2 ** 10 }} {{ 2.5 * 2 }} {{ '-' * 3 }} {{ '%05.1f' % 2.5 }} {{ 7 % 3 }}"
    found = render(tokenizer, ChatTemplate("auto", source, ""), [Conversation(TURNS)], generation=False)
    assert found == ["1024 5.0 --- 002.5 1"]
