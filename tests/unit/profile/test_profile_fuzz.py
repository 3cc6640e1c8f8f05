"""Hostile and broken TOML: always problems, never a traceback, never a long wait."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path

import pytest

from engine.profile.load import load_text
from engine.resolve.check import check_profile
from tests.unit.profile_machines import MODEL

SHIPPED = sorted((Path(__file__).parents[3] / "profiles").glob("*.toml"))
MANY = ",".join(f"k{n}=1" for n in range(1000))
BOMBS = {
    "dotted key": ".".join("a" * 2000) + " = 1",
    "dotted header": "[" + ".".join("a" * 4000) + "]",
    "dots on many lines": "\n".join(f"k{n}." + ".".join("a" * 30) + " = 1" for n in range(2500)),
    "dots behind an open quote": '"' + "\n" + ".".join("a" * 4000) + " = 1",
    "deep list": "a = " + "[" * 4000 + "]" * 4000,
    "list of moderate depth": "a = " + "[" * 200 + "]" * 200,
    "deep list over lines": "a = " + "[\n" * 60_000,
    "deep inline table": "a = " + "{b=" * 1500 + "1" + "}" * 1500,
    "huge integer": "a = " + "9" * 8000,
    "integer just below the limit": "[train]\nseed = " + "9" * 4000,
    "long line": "a = '" + "x" * 100_000 + "'",
    "too large": "# \n" * 200_000,
    "many tables": "\n".join(f"[t{n}]" for n in range(20_000)),
    "many keys on few lines": "\n".join(f"t{n} = {{{MANY}}}" for n in range(30)),
    "bad date": "a = 2020-13-45",
    "null bytes": "\x00\x00",
    "open string": 'a = """' + "x\n" * 1000,
    "quotes": '"' * 5001,
    "surrogate": 'a = "\\ud800"',
    "empty": "",
    "same key twice": "a = 1\na = 2",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused_in_little_time_and_memory(name, cpu_machine):
    seconds = []
    for _ in range(2):  # the faster one: a garbage collection of the whole test process may fall into the other
        began = time.process_time()
        loaded = load_text(BOMBS[name], Path("p.toml"))
        problems = check_profile(loaded, cpu_machine)
        seconds.append(time.process_time() - began)
        assert problems
        assert loaded.profile is None
    assert min(seconds) < 2
    tracemalloc.start()
    load_text(BOMBS[name], Path("p.toml"))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 150e6


def test_dots_in_text_and_comments_are_no_bomb():
    dots = "." * 99
    text = f'description = """\n{dots}\n""" # {dots}\n# {dots}\n' + MODEL + f"[[data.datasets]]\npath = '{dots}'\n"
    assert load_text(text, Path("p.toml")).profile is not None


def test_mutated_profiles_never_raise(cpu_machine):
    rng = random.Random(19)
    pieces = [
        "[",
        "]",
        "=",
        '"',
        "'",
        "\n",
        ".",
        "{",
        "}",
        "#",
        "nan",
        "-1",
        "true",
        "\\",
        "\x00",
        "1e999",
        "é",
        "[[",
        "auto",
    ]
    texts = [path.read_text() for path in SHIPPED]
    refused = 0
    for _ in range(600):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(len(text))
            text = text[:start] + rng.choice([rng.choice(pieces), ""]) + text[start + rng.randint(0, 12) :]
        loaded = load_text(text, Path("p.toml"))
        problems = check_profile(loaded, cpu_machine)
        refused += bool(problems)
        assert (loaded.profile is None) == bool(loaded.problems)
        assert all(problem.message and "\n" not in str(problem) for problem in problems)
        assert all(problem.where for problem in problems)
    assert refused > 400
