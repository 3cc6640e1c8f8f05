"""Fixed prompts that a model answers while it learns: before the first step and at each evaluation, always greedy.

A member of the trainer, which says when. The prompts are written as training writes conversations, or go on as plain
text where the data are plain text. Nothing here touches what the next step depends on: no gradient, no random number,
no dropout. Not here: scores of held-out rows (`validation.py`, `engine.evaluate`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from engine.data.asked import tokens_of_conversations, tokens_of_text
from engine.data.chat import Tokenizer
from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.prepare import Prepared
from engine.errors import is_out_of_memory
from engine.inference.answers import Answer, Room, Sampling, answer, stop_ids
from engine.modeling import attention
from engine.modeling.adapters import base_of
from engine.profile.schema import Profile
from engine.runs.job import Job, Warn
from engine.text import format_bytes
from engine.train.compiled import COMPILED

if TYPE_CHECKING:
    from engine.train.trainer import EngineTrainer

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of the profile, by its place there, and its tokens with the start of the answer."""

    index: int
    text: str
    ids: tuple[int, ...]


def questions_of(settings: Profile, tokenizer: Tokenizer, prepared: Prepared, warn: Warn) -> list[Question]:
    """The prompts of `evaluate.prompts` as tokens; one that the template refuses is left out, aloud."""
    prompts = settings.evaluate.prompts
    plain = all(dataset.format == "text" for dataset in prepared.report.datasets) and not prepared.report.written_rows
    if plain:
        texts: list[list[int] | RowProblem] = [tokens_of_text(tokenizer, prompt) for prompt in prompts]
    else:
        head = [{"role": "system", "content": settings.data.system}] if settings.data.system.strip() else []
        asked = [Conversation([*head, {"role": "user", "content": prompt}]) for prompt in prompts]
        texts = tokens_of_conversations(tokenizer, prepared.template, asked)
    found = []
    for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        if isinstance(text, RowProblem):
            warn("prompt_refused", f"prompt {index + 1} of evaluate.prompts is left out: {text.cause}: {text.detail}")
        else:
            found.append(Question(index, prompt, tuple(text)))
    return found


class Prompts:
    """Answers the questions of one run and writes a `sample` event for each."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        questions: Sequence[Question],
        *,
        job: Job,
        how: Sampling,
        context: int,
        step_bytes: int | None = None,
        compiled: bool = False,
    ) -> None:
        """`context` bounds prompt and answer together; `compiled`: some layers of the model are."""
        self._model, self._tokenizer, self._job = model, tokenizer, job
        self._questions = [each for each in questions if len(each.ids) < context]
        for each in questions:
            if len(each.ids) >= context:
                message = f"prompt {each.index + 1} of evaluate.prompts is left out: its {len(each.ids):,} tokens fill"
                job.warn("prompt_too_long", f"{message} the context of {context:,}")
        self._longest = max((len(each.ids) for each in self._questions), default=0)
        self._how = replace(how, max_new_tokens=min(how.max_new_tokens, context - self._longest))
        self._step_bytes, self._compiled = step_bytes, compiled
        self._room: Room | None = None

    def answer(self, step: int, autocast: Autocast) -> None:
        """Answer every prompt and write the events; a failure ends the answers of this run, not the run."""
        if not self._questions:
            return
        began = time.monotonic()
        self._job.progress("answers", 0, len(self._questions), "prompts")
        try:
            with _aside(self._model, self._compiled), autocast():
                answers = answer(
                    self._model,
                    self._tokenizer,
                    [each.ids for each in self._questions],
                    self._room_there(),
                    lambda done, total: self._job.progress("answers", done, total, "prompts"),
                    ended=lambda: bool(self._job.stop),
                )
        except Exception as error:
            self._give_up(error)
            return
        if self._job.stop:
            self._job.warn("prompts_cut", f"the answers at step {step} were ended by the request to stop")
            return
        self._write(step, answers, time.monotonic() - began)

    def _room_there(self) -> Room:
        """Measured once, so that the same prompts share a batch at every step."""
        if self._room is None:
            self._room = Room(self._model, self._how, self._job.warn, self._step_bytes)
            self._tell_more(self._room.bytes_of(self._longest))
        return self._room

    def _tell_more(self, needed: int) -> None:
        if self._step_bytes is not None and needed > self._step_bytes:
            more = needed - self._step_bytes
            self._job.warn(
                "prompts_memory",
                f"one answer to evaluate.prompts takes {format_bytes(needed)} for a while, a step"
                f" {format_bytes(self._step_bytes)}: the peak may be {format_bytes(more)} above the prediction."
                " A lower evaluate.max_new_tokens or shorter prompts take less",
            )

    def _write(self, step: int, answers: Sequence[Answer], seconds: float) -> None:
        share = round(seconds / len(answers), 3)
        for question, found in zip(self._questions, answers, strict=True):
            self._job.events.write(
                "sample",
                step=step,
                index=question.index,
                prompt=question.text,
                output=found.text,
                tokens=found.tokens,
                seconds=share,
                ended=found.stopped,
            )

    def _give_up(self, error: Exception) -> None:
        first = (str(error).splitlines() or [""])[0][:300]
        why = "memory ran out" if is_out_of_memory(error) else f"{type(error).__name__}: {first}"
        self._questions = []
        self._job.warn("prompts_off", f"evaluate.prompts are not answered in this run: {why}. Training goes on")
        if is_out_of_memory(error) and torch.cuda.is_available():
            torch.cuda.empty_cache()


def prompts_of(
    trainer: EngineTrainer, tokenizer: Tokenizer, prepared: Prepared, step_bytes: int | None
) -> Prompts | None:
    """What answers the prompts of a run's profile; None where it has none.

    `step_bytes`: what a step takes of the device for a while, and so what answers may: one prediction covers both.
    """
    settings, model = trainer.settings, trainer.model
    if not settings.evaluate.prompts:
        return None
    known = getattr(base_of(model).config.get_text_config(), "max_position_embeddings", None)
    return Prompts(
        model,
        tokenizer,
        questions_of(settings, tokenizer, prepared, trainer.job.warn),
        job=trainer.job,
        how=Sampling(
            settings.evaluate.max_new_tokens,
            settings.evaluate.batch_size,
            stop_ids(tokenizer, model, prepared.end_token_ids),
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        ),
        context=int(known or settings.model.max_length),
        step_bytes=step_bytes,
        compiled=COMPILED.key in trainer.ways,
    )


@contextmanager
def _aside(model: Any, compiled: bool) -> Iterator[None]:
    """The model answering: in evaluation mode, with attention that reads a cache; random states stay as they were.

    Not in inference mode: what a model keeps from one pass to the next could take no part in a backward pass then.
    Compiled layers run as they were before: each new length would be compiled anew.
    """
    base = base_of(model)
    devices = [base.device] if base.device.type == "cuda" else []
    plain = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    model.eval()
    with torch.random.fork_rng(devices), torch.no_grad(), attention.answering(base), plain:
        yield
