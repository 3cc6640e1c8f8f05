"""Talking to a run's model: the side that asks. The worker's side is `engine.inference.chat`.

Files only, as everywhere: conversations are appended to `asks.jsonl` in a folder of its own, answers are events.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from engine.errors import EngineError
from engine.files import write_json_atomic, write_text_atomic
from engine.runs.events import Event, EventReader, EventWriter
from engine.runs.launch import died, end_worker, spawn_worker, worker_environment
from engine.runs.parent import tied
from engine.runs.ranks import refuse_ranks
from engine.runs.record import JOB_FILE, JOB_VERSION, read_record
from engine.runs.store import Run
from engine.runs.temporary import make_temporary

POLL_S = 0.02
Turns = Sequence[dict[str, Any]]


class Talk:
    """A worker that answers. Use it as a context: it ends with it. Raises EngineError(ENVIRONMENT) in a rank."""

    def __init__(self, run: Run) -> None:
        refuse_ranks()
        launch = read_record(run.path).launch
        self.place = make_temporary("chat")
        try:
            job = {"v": JOB_VERSION, "job": "chat", "run_dir": str(run.path), "owner": os.getpid()}
            write_json_atomic(self.place / JOB_FILE, job)
            self._asks = EventWriter(self.place / "asks.jsonl")
            self._events = EventReader(self.place / "events.jsonl")
            self._process: subprocess.Popen[bytes] = spawn_worker(self.place, tied(worker_environment(launch)))
        except BaseException:
            shutil.rmtree(self.place, ignore_errors=True)
            raise

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._asks.write("end")
        self._asks.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            end_worker(self._process)
        shutil.rmtree(self.place, ignore_errors=True)

    def wait_ready(self) -> Iterator[Event]:
        """Events up to `ready`, which is the last one. Raises the worker's EngineError."""
        yield from self._until("ready")

    def ask(
        self,
        messages: Turns,
        *,
        base: bool,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int | None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> Iterator[Event]:
        """`answer_part` events, then one `answer` or `refused`. `base`: without the adapter.

        An `answer` has its `turn` as the next question's messages take it, with the tool calls in it.
        """
        self._asks.write(
            "ask",
            messages=list(messages),
            tools=list(tools),
            base=base,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        yield from self._until("answer", "refused")

    def rest(self) -> Iterator[Event]:
        """What is left of the answer under way."""
        yield from self._until("answer", "refused")

    def silence(self) -> None:
        """End the answer that is under way; its `answer` event still comes."""
        write_text_atomic(self.place / "silence", "")

    def stop(self) -> None:
        """End the worker at once, whatever it does; safe from another thread. Who waits for it gets an EngineError."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def _until(self, *last: str) -> Iterator[Event]:
        while True:
            over = self._process.poll() is not None
            events = self._events.read()
            for event in events:
                if event["type"] == "error":
                    raise EngineError.from_dict(event)
                yield event
                if event["type"] in last:
                    return
            if over and not events:
                raise died(self.place, self._process)
            if not events:
                time.sleep(POLL_S)
