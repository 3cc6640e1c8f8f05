"""Written results: a run with fixed names, its report, its export, as the workers write them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from textual.pilot import Pilot

from engine.api import runs
from engine.errors import EngineError
from engine.runs.events import EventWriter
from engine.runs.store import Run
from tests.tui.conftest import deck, until
from tui.app import DeckApp
from tui.results.screen import ResultsScreen

RUN_ID = "20260301-101112-dates-1f3a"
SETTINGS: dict[str, Any] = {
    "name": "dates",
    "model": {"name_or_path": "demo", "dtype": "bf16"},
    "tuning": {"method": "lora"},
    "quantization": {"method": "none"},
    "launch": {"device": "cpu"},
    "train": {"objective": "sft"},
    "export": {"merged": True, "quantized": [], "gguf": []},
}
SAMPLES = [
    {"prompt": "ISO date for 3 May 1999?", "reference": "1999-05-03", "base": "May 3, 1999", "tuned": "1999-05-03"},
    {"prompt": "What is 4 June 2001?", "reference": "2001-06-04", "base": "2001-06-04", "tuned": "2001-04-06"},
    {
        "prompt": "Write the twelfth of August in the year nineteen hundred and seventy-five as an ISO 8601 date, "
        "year first, with dashes between its parts, and nothing else.",
        "reference": "1975-08-12",
        "base": "The twelfth of August in the year nineteen hundred and seventy-five is a date.\nIt is long ago.",
        "tuned": "1975-08-12",
    },
]


def settle(run_id: str = RUN_ID, settings: dict[str, Any] | None = None, **more: Any) -> Run:
    """A run directory with an adapter and held-out rows; `more` goes into run.json."""
    path = runs.runs_root() / run_id
    for name in ("control", "adapter", "data", "eval"):
        (path / name).mkdir(parents=True, exist_ok=True)
    chosen = settings or SETTINGS
    run_json = {
        "schema_version": 1,
        "settings": chosen,
        "provenance": more.pop("provenance", {}),
        "estimate": {"trainable_parameters": 286_720, "device_bytes": 7 * 2**27, "available_bytes": 2**34},
        "model": {"parameters": 3_148_032, "vocab_size": 1536, "hidden_size": 256, "tie_word_embeddings": True},
        "base_dir": str(Path.cwd()),
        **more,
    }
    put(path / "run.json", run_json)
    put(path / "job.json", {})
    put(path / "data" / "report.json", {"validation": {"rows": 200}})
    (path / "profile.toml").write_text("# mine\n[model]\nname_or_path = 'demo'\n")
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    return Run(run_id, path)


def put(path: Path, value: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def trained(run: Run, steps: int = 100, rate: float = 30.0) -> None:
    """Events of a training that went well."""
    writer = EventWriter(run.events_path)
    writer.write("started", run=run.id, pid=1, device="CPU", steps_total=steps)
    for step in range(1, steps + 1):
        loss = 0.5 + 2 * math.exp(-step / rate)
        writer.write("train_step", step=step, steps_total=steps, loss=loss, learning_rate=1e-3, tokens_per_second=5000)
        if step % 25 == 0:
            writer.write("eval", step=step, loss=loss + 0.1, best=True)
    writer.write("finished", outcome="completed", step=steps, exit_code=0, seconds=62)
    writer.close()


def report(verdict: str = "better", samples: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """A report as the evaluation writes it."""
    base = {"loss": 8.0051, "perplexity": 2996.349, "rouge1": 41.4, "rougeL": 29.7, "bleu": 0.4, "exact_match": 0.02}
    tuned = {"loss": 0.0182, "perplexity": 1.018, "rouge1": 98.7, "rougeL": 98.7, "bleu": 98.7, "exact_match": 0.96}
    return {
        "v": 1,
        "run": RUN_ID,
        "base": base,
        "tuned": tuned,
        "delta": {key: tuned[key] - base[key] for key in base},
        "intervals": {"nll": [-8.3205, -7.6734], "rougeL": [66.6, 71.4], "exact_match": [-0.01, 0.99]},
        "verdict": verdict,
        "verdict_reason": "perplexity, ROUGE-L better beyond chance (95 % of resamples), nothing worse",
        "counts": {
            "base": {"empty": 0, "degenerate": 3, "unstopped": 0},
            "tuned": {"empty": 0, "degenerate": 0, "unstopped": 0},
        },
        "samples": SAMPLES if samples is None else samples,
        "rows": 100,
        "rows_held_out": 200,
        "dtype": "bf16",
        "quantization": "none",
        "device": "cpu",
        "seconds": 6.1,
    }


def exported(run: Run) -> dict[str, Any]:
    """A finished export with its files, and the result that the job leaves."""
    out = run.path / "export"
    for name in ("adapter", "merged", "nf4", "gguf"):
        (out / name).mkdir(parents=True, exist_ok=True)
    near = {"positions": 158, "max_abs_diff": 0.188, "mean_abs_diff": 0.0175, "relative_rms": 0.0112}
    near |= {"top1_agreement": 1.0, "against": "base and adapter", "answers": [{"text": "1966-02-08", "tokens": 11}]}
    far = {**near, "max_abs_diff": 3.41, "relative_rms": 0.135, "top1_agreement": 0.981, "against": "merged"}
    gguf = {**near, "against": "merged", "file": "dates-q8_0.gguf", "size_bytes": 3_400_000}
    formats = [{"format": "merged", **near}, {"format": "nf4", **far}, {"format": "q8_0", **gguf}]
    result = {
        "output": str(out),
        "adapter": str(out / "adapter"),
        "merged": str(out / "merged"),
        "nf4": str(out / "nf4"),
        "card": str(out / "merged" / "README.md"),
        "adapter_bytes": 2_293_760,
        "merged_bytes": 6_395_883,
        "nf4_bytes": 2_400_000,
        "dtype": "bf16",
        "parity": {"formats": formats},
        "gguf": str(out / "gguf"),
        "seconds": 12.0,
    }
    put(run.path / "export-job" / "result.json", result)
    return result


class FakeTalk:
    """Stands for `engine.api.Talk`: answers at once, part by part, or waits until it is told to stop."""

    made: ClassVar[list[FakeTalk]] = []
    answer: ClassVar[str] = "1999-05-03"
    base_answer: ClassVar[str] = ""
    waits: ClassVar[bool] = False
    error: ClassVar[EngineError | None] = None
    warning: ClassVar[str] = ""
    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    """What the first answer calls."""
    brings: ClassVar[dict[str, Any]] = {}
    """The run's tools and system message."""

    def __init__(self, run: Run) -> None:
        self.asked: list[dict[str, Any]] = []
        self.silenced, self.ended, self.left = threading.Event(), threading.Event(), False
        FakeTalk.made.append(self)

    def __enter__(self) -> FakeTalk:
        return self

    def __exit__(self, *error: object) -> None:
        self.left = True

    def wait_ready(self) -> Iterator[dict[str, Any]]:
        """A warning when there is one, an error when there is one, then ready."""
        yield {"type": "phase", "name": "load", "detail": "demo"}
        if self.warning:
            yield {"type": "warning", "message": self.warning}
        if self.error is not None:
            raise self.error
        yield {"type": "ready", "context": 512, "base": True, **self.brings}

    def ask(self, messages: list[dict[str, str]], **how: Any) -> Iterator[dict[str, Any]]:
        """The answer in two parts; with `waits` only the first until it is silenced."""
        self.asked.append({"messages": messages, **how})
        self.silenced.clear()
        if messages[-1]["content"] == "refuse":
            yield {"type": "refused", "message": "the conversation fills all 512 tokens"}
            return
        answer = (how["base"] and self.base_answer) or self.answer
        half = len(answer) // 2
        yield {"type": "answer_part", "text": answer[:half]}
        while self.waits and not self.silenced.wait(0.02):
            if self.ended.is_set():
                raise EngineError("the worker ended")
        text = answer[:half] if self.waits else answer
        silenced = self.silenced.is_set()
        named = [{"name": name, "arguments": given} for name, given in self.calls if messages[-1]["role"] == "user"]
        calls = [{"type": "function", "function": function} for function in named]
        yield {
            "type": "answer",
            "text": text,
            "turn": {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})},
            "tokens": 10,
            "seconds": 0.1,
            "stopped": not silenced,
            "silenced": silenced,
        }

    def silence(self) -> None:
        """End the answer."""
        self.silenced.set()

    def stop(self) -> None:
        """End the worker."""
        self.ended.set()


def opened(run: Run) -> DeckApp:
    """A deck whose fifth screen will show `run`."""
    app = deck()
    app.deck.chosen = run
    return app


def screen(app: DeckApp) -> ResultsScreen:
    """The results screen, also when something lies above it."""
    found = app.screen_stack[0]
    assert isinstance(found, ResultsScreen)
    return found


def scored() -> Run:
    """A run with a report and an export."""
    run = settle()
    trained(run)
    put(run.path / "eval" / "report.json", report())
    exported(run)
    return run


async def told(pilot: Pilot[Any], text: str) -> None:
    """Wait for a notice with `text`."""
    await until(pilot, lambda: any(text in str(notice.message) for notice in pilot.app._notifications))
