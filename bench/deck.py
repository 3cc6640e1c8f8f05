"""What the deck costs: start, first visits, resizes, memory, bytes on the line, processor, key latency, and what it
takes from training.

    python bench/deck.py [--output bench/results/deck.json] [--rounds 12] [--quick] [--long]

Everything is measured on the real program in a pseudo-terminal of 80 x 24 with 256 colors, mouse off as over a slow
line, on real runs of the built-in demo and on one written for the purpose with 360,000 steps and a million lines of
log. State goes to a folder of its own that is removed at the end. Processor time is that of the deck's process alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from deck_screens import measure_cards, measure_resize, measure_visits
from deck_terminal import HEAVY, MIB, Deck, cost, deck

BOUNDS = {
    "first_frame_s": 0.4,
    "rss_mib": 80.0,
    "first_visit_ms": 150.0,
    "resize_settled_s": 0.5,
    "run_bytes_per_s": 6 * 1024,
    "run_cpu_percent": 2.0,
    "cards_bytes_per_s": 6 * 1024,
    "cards_cpu_percent": 2.0,
    "idle_bytes_per_s": 0.0,
    "attach_s": 1.0,
    "key_p95_ms": 100.0,
    "growth_mib": 50.0,
    "slow_down_percent": 0.5,
}


def engine(*arguments: str) -> str:
    """Output of a shell command of the engine."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", *arguments], capture_output=True, text=True, check=True, cwd=os.environ["HOME"]
    )
    return done.stdout.strip()


@contextmanager
def demo_run(epochs: int) -> Iterator[str]:
    """A training of the demo that goes on in the background; stopped at the end."""
    found = engine("train", "demo", "--detach", "--set", f"train.num_train_epochs={epochs}")
    run = found.splitlines()[0]
    try:
        yield run
    finally:
        engine("runs", "stop", run, "--wait", "60")


def events_of(run: str) -> Path:
    """Its event file."""
    return Path(os.environ["XDG_STATE_HOME"]) / "tunedeck" / "runs" / run / "events.jsonl"


# Measurements


def measure_start(rounds: int) -> dict[str, Any]:
    """First frame, ranked models, memory, libraries."""
    frames, cpu, ranked, memory = [], [], [], []
    for _ in range(rounds):
        with deck() as one:
            frames.append(one.wait_for(b"1 Fit"))
            cpu.append(one.cpu_s)
            ranked.append(one.wait_for(b"demo (built"))
            one.read(1.0)
            memory.append(one.rss_mib)
            libraries = one.libraries()
    return {
        "first_frame_s": statistics.median(frames),
        "first_frame_all_s": frames,
        "first_frame_cpu_s": statistics.median(cpu),
        "models_ranked_s": statistics.median(ranked),
        "fit_screen_rss_mib": statistics.median(memory),
        "heavy_libraries": libraries,
        "heavy_modules": heavy_modules(),
    }


def heavy_modules() -> list[str]:
    """Heavy packages that a deck has imported once it has shown the fit screen."""
    code = f"""
import asyncio, sys
from tui.app import DeckApp
async def go():
    app = DeckApp()
    async with app.run_test(size=(80, 24)) as pilot:
        while app.deck.plan is None:
            await pilot.pause(0.05)
asyncio.run(go())
print(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.strip().split(",") if name]


def measure_run(seconds: float) -> dict[str, Any]:
    """Bytes and processor time of the run screen and of all its curves while a demo trains, then of a run at rest."""
    with demo_run(200) as run:
        wait_for_steps(run, 20)
        with deck(run) as one:
            one.wait_for(b"training")
            one.read(5.0)
            live = {**cost(one, seconds, "run"), "rss_mib": one.rss_mib, "key_p95_ms_live": latency(one, 40)}
            os.write(one.master, b"T")
            one.read(2.0)
            live |= cost(one, seconds / 2, "grid")
    with deck(run) as one:
        one.wait_for(b"stopped")
        one.read(3.0)
        return {**live, **cost(one, seconds / 2, "idle")}


def wait_for_steps(run: str, steps: int) -> None:
    """Until a run has trained so far."""
    wanted = f'"step":{steps},'.encode()
    for _ in range(1200):
        if events_of(run).exists() and wanted in events_of(run).read_bytes():
            return
        time.sleep(0.1)
    raise SystemExit(f"{run} never reached step {steps}")


def latency(one: Deck, presses: int) -> float:
    """95th percentile of milliseconds from a key to its answer: curves, smoothing, crosshair, screens."""
    keys = (b"t", b"s", b"\x1b[D", b"\x1b[C", b"4", b"3", b"z", b"z")
    found = [one.press(keys[index % len(keys)]) for index in range(presses)]
    return sorted(found)[max(0, round(0.95 * len(found)) - 1)] * 1000


def write_long_run(steps: int, lines: int) -> str:
    """A finished run with many events; returns its id."""
    from engine.runs.store import create_run

    settings = {"name": "long", "model": {"name_or_path": "demo", "dtype": "bf16"}, "tuning": {"method": "lora"}}
    run = create_run("long", {"settings": settings, "estimate": {"device_bytes": 2**30, "available_bytes": 2**33}}, "")
    each = lines / steps
    told, number = 0, 0
    with run.events_path.open("w") as file:

        def write(kind: str, **fields: Any) -> None:
            nonlocal number
            event = {"v": 1, "seq": number, "t": 1.7e9 + number / 100, "type": kind, **fields}
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
            number += 1

        write("started", run=run.id, device="CPU", steps_total=steps)
        for step in range(1, steps + 1):
            loss = 1 + 3 / (1 + step / 5000) + (step * 7919 % 1000) / 5000
            write(
                "train_step",
                step=step,
                steps_total=steps,
                epoch=step / 1000,
                loss=loss,
                grad_norm=0.4,
                learning_rate=2e-4 * (1 - step / steps),
                tokens_per_second=7200.0,
                eta_s=(steps - step) * 0.1,
            )
            while told < step * each:
                write("warning", code="note", message=f"line {told} of the log, as long as such lines are in practice")
                told += 1
        write("finished", outcome="completed", step=steps, exit_code=0, seconds=steps * 0.1)
    return run.id


def measure_long(steps: int, lines: int) -> dict[str, Any]:
    """A run of a week: how soon it is seen, how soon all of it, keys meanwhile and afterwards, memory."""
    short = write_long_run(100, 100)
    with deck(short) as one:
        one.wait_for(b"completed")
        one.read(2.0)
        before = one.rss_mib
    run = write_long_run(steps, lines)
    with deck(run) as one:
        attach = one.wait_for(f"step {steps:,} of".encode())
        meanwhile = latency(one, 40)
        began = one.began
        while not at_rest(one) and time.perf_counter() - began < 300:
            pass
        complete = time.perf_counter() - began
        one.read(2.0)
        after = latency(one, 60)
        growth = one.rss_mib - before
    return {
        "steps": steps,
        "log_lines": lines,
        "file_mib": events_of(run).stat().st_size / MIB,
        "attach_s": attach,
        "whole_curve_s": complete,
        "key_p95_ms_meanwhile": meanwhile,
        "key_p95_ms": after,
        "growth_mib": growth,
    }


def measure_storm(count: int) -> dict[str, Any]:
    """Resizes between 1x1 and 400x200 over all screens; whether the deck is still there and draws."""
    run, chance = write_long_run(300, 300), random.Random(7)
    with deck(run) as one:
        one.wait_for(b"completed")
        for number in range(count):
            one.resize(chance.randint(1, 400), chance.randint(1, 200))
            if number % 25 == 0:
                os.write(one.master, b"1234"[number // 25 % 4 :][:1])
            one.read(0.02)
        one.resize(80, 24)
        one.seen = b""
        os.write(one.master, b"13")
        for _ in range(60):
            one.read(1.0)
            if b"step 300 of 300" in one.seen:
                break
        alive = one.process.poll() is None and b"step 300 of 300" in one.seen
        return {"resizes": count, "resizes_survived": alive, "rss_after_resizes_mib": one.rss_mib}


def at_rest(one: Deck) -> bool:
    """Whether the deck did hardly anything for a second: the thread that reads the file is busy until its end."""
    cpu = one.cpu_s
    one.read(1.0)
    return one.cpu_s - cpu < 0.15


def measure_slow_down(rounds: int, seconds: float) -> dict[str, Any]:
    """What training loses with a deck attached against without, in turns within one run; medians of pairs.

    By the clock, which other people's work on the machine disturbs, and by the processor time of a step, which
    shows what the deck takes from caches and memory even then.
    """
    pairs: dict[str, list[float]] = {"time": [], "cpu": []}
    with demo_run(1000) as run:
        wait_for_steps(run, 40)
        for number in range(rounds):
            turns: list[tuple[str, Callable[[], Pace]]] = [
                ("with", lambda: with_deck(run, seconds)),
                ("without", lambda: without_deck(run, seconds)),
            ]
            found = {name: turn() for name, turn in (turns if number % 2 else reversed(turns))}
            pairs["time"].append((found["with"].step_s / found["without"].step_s - 1) * 100)
            pairs["cpu"].append((found["with"].step_cpu_s / found["without"].step_cpu_s - 1) * 100)
            print(f"  round {number + 1}: {pairs['time'][-1]:+.2f} %, {pairs['cpu'][-1]:+.2f} %", file=sys.stderr)
    return {
        "slow_down_percent": statistics.median(pairs["time"]),
        "slow_down_cpu_percent": statistics.median(pairs["cpu"]),
        "slow_down_quartiles": {name: statistics.quantiles(found, n=4)[::2] for name, found in pairs.items()},
        "pairs_percent": pairs,
    }


@dataclass(frozen=True, slots=True)
class Pace:
    """Median time and mean processor time of an optimizer step."""

    step_s: float
    step_cpu_s: float


def with_deck(run: str, seconds: float) -> Pace:
    """The pace while a deck shows the run."""
    with deck(run) as one:
        one.wait_for(b"training")
        one.read(3.0)
        return pace(run, seconds, one.read)


def without_deck(run: str, seconds: float) -> Pace:
    """The pace while nobody looks."""
    time.sleep(3.0)
    return pace(run, seconds, time.sleep)


def pace(run: str, seconds: float, wait: Callable[[float], object]) -> Pace:
    """Steps in the span; evaluations and checkpoints do not count for the median."""
    from engine.runs.store import find_run, worker_pid

    worker = psutil.Process(worker_pid(find_run(run)))
    start, before = events_of(run).stat().st_size, worker.cpu_times()
    wait(seconds)
    after = worker.cpu_times()
    with events_of(run).open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().splitlines()[1:-1] if b'"type":"train_step"' in line]
    times = [json.loads(line)["t"] for line in lines]
    spent = after.user + after.system - before.user - before.system
    return Pace(statistics.median(b - a for a, b in itertools.pairwise(times)), spent / len(times))


def main() -> int:
    """Measure, write, print what is over its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "deck.json")
    parser.add_argument("--rounds", type=int, default=12, help="pairs for the slow-down of training")
    parser.add_argument("--long", action="store_true", help="ten minutes of the cards' screen in place of one")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    arguments = parser.parse_args()
    small = 10 if arguments.quick else 1
    place = Path(tempfile.mkdtemp(prefix="tunedeck-bench-"))
    os.environ.update(
        XDG_STATE_HOME=str(place / "state"), XDG_CACHE_HOME=str(place / "cache"), XDG_CONFIG_HOME=str(place / "config")
    )
    os.environ.update(HOME=str(place), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    began = os.getloadavg()[0]
    try:
        figures = {
            **measure_start(5 if small == 1 else 2),
            **measure_visits(5 if small == 1 else 1),
            **measure_resize(5 if small == 1 else 1),
            **measure_run(60.0 / small),
            **measure_cards(600.0 if arguments.long else 60.0 / small),
            **measure_long(360_000 // small, 1_000_000 // small),
            **measure_storm(1000 // small),
            **measure_slow_down(max(2, arguments.rounds // small), 15.0 if small == 1 else 5.0),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)
    over = {name: [figures[name], bound] for name, bound in BOUNDS.items() if figures[name] > bound}
    report = {
        "command": " ".join(["python bench/deck.py", *sys.argv[1:]]),
        "terminal": "80 x 24, xterm-256color",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "logical_cores": os.cpu_count(),
            "load_before": began,
            "load_after": os.getloadavg()[0],
        },
        "versions": {name: version(name) for name in ("textual", "rich")} | {"python": platform.python_version()},
        "bounds": BOUNDS,
        "figures": figures,
        "over_bound": over,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    for name, bound in BOUNDS.items():
        print(f"{name:22}{figures[name]:10.3f}  bound {bound:g}{'  OVER' if name in over else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
