"""The chat job: a run's model answers conversations, part by part, until it is told to end.

The request is `{"job": "chat", "run_dir": …, "owner": pid}`. Conversations come as lines of `asks.jsonl` in
the job's directory, answers go out as events: `answer_part`, then `answer` (or `refused`). A file `silence` there ends
the answer that is under way; `end` or the owner's death ends the job. `engine.runs.talk` is the other side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from engine.data.asked import tokens_of_conversations
from engine.data.chat import ChatTemplate, trained_template
from engine.data.conversation import Conversation, turn_of
from engine.data.examples import Message, RowProblem
from engine.inference.answers import stop_ids
from engine.inference.call_forms import AnswerForm, answer_form
from engine.inference.replies import read_reply
from engine.inference.run import OpenedRun, device_of, load_tokenizer, models, open_run, refuse_scores
from engine.inference.tools import tools_of_run
from engine.modeling.adapters import base_of
from engine.runs.events import EventReader
from engine.runs.job import Job

ASKS, SILENCE = "asks.jsonl", "silence"
POLL_S, OWNER_S, PART_S = 0.05, 2.0, 0.05


@dataclass(frozen=True, slots=True)
class Speaker:
    """The loaded model with what answering takes."""

    model: Any
    tokenizer: Any
    template: ChatTemplate
    form: AnswerForm
    stops: tuple[int, ...]
    context: int
    can_show_base: bool


def run(job: Job) -> dict[str, Any]:
    """Answer until the end. Raises EngineError as `open_run` does, and PROFILE for a reward model."""
    trained = open_run(job)
    refuse_scores(trained, "chat with")
    job.phase("load", trained.settings.model.name_or_path)
    speaker = _speaker(job, trained)
    tools, note = tools_of_run(trained.run_dir)
    if note:
        job.warn("tools", f"{note}; name others with --tools")
    job.events.write(
        "ready",
        run=trained.run_dir.name,
        context=speaker.context,
        base=speaker.can_show_base,
        system=trained.settings.data.system.strip(),
        tools=tools,
        writes_calls=speaker.form.calls is not None,
    )
    answers = 0
    for ask in _asks(job):
        with contextlib.suppress(FileNotFoundError):
            (job.directory / SILENCE).unlink()
        _answer(job, speaker, ask)
        answers += 1
    return {"outcome": "completed", "answers": answers}


def _speaker(job: Job, trained: OpenedRun) -> Speaker:
    device = device_of(trained.settings, job.warn)
    tokenizer, model = load_tokenizer(trained, job.warn), None
    for _, each in models(trained, device, job.warn):
        model = each
    assert model is not None
    context = trained.record.model.max_position_embeddings or int(trained.settings.model.max_length)
    # Trained biases stay when adapters are switched off: that would not be the base.
    switchable = trained.is_adapter and trained.settings.lora.bias == "none"
    template = trained_template(trained.settings, tokenizer)
    form = answer_form(tokenizer, template)
    return Speaker(model.eval(), tokenizer, template, form, _stops(trained, tokenizer, model), context, switchable)


def _stops(trained: OpenedRun, tokenizer: Any, model: Any) -> tuple[int, ...]:
    """What ended answers in training, and what the tokenizer and the model name."""
    ends = list(trained.data().ends)
    return stop_ids(tokenizer, model, tokenizer.convert_tokens_to_ids(ends) if ends else [])


def _asks(job: Job) -> Iterator[dict[str, Any]]:
    """Conversations as they come in; ends on `end`, or when whoever asks is gone."""
    reader, looked = EventReader(job.directory / ASKS), time.monotonic()
    while True:
        found = reader.read()
        for ask in found:
            if ask["type"] == "end":
                return
            yield ask
        if not found:
            time.sleep(POLL_S)
        if time.monotonic() - looked > OWNER_S:
            looked = time.monotonic()
            if not psutil.pid_exists(int(job.params["owner"])):
                return


def _answer(job: Job, speaker: Speaker, ask: dict[str, Any]) -> None:
    asked = Conversation(ask["messages"], ask.get("tools") or [])
    tokens = tokens_of_conversations(speaker.tokenizer, speaker.template, [asked])[0]
    if isinstance(tokens, RowProblem):
        job.events.write("refused", message=f"{tokens.cause}: {tokens.detail}")
        return
    ids = torch.tensor([tokens])
    room = speaker.context - ids.shape[1]
    if room < 1:
        job.events.write("refused", message=f"the conversation fills all {speaker.context} tokens of the context")
        return
    if ask["base"] and not speaker.can_show_base:
        job.events.write(
            "refused", message="the base cannot be shown: it was trained itself, or some of its biases were"
        )
        return
    began = time.monotonic()
    with _as_asked(speaker, ask):
        new = _generate(job, speaker, ask, ids, min(room, int(ask["max_new_tokens"])))
    stopped = bool(new) and new[-1] in speaker.stops
    kept = new[:-1] if stopped else new
    reply = read_reply(speaker.tokenizer.decode(kept, skip_special_tokens=False), speaker.form)
    job.events.write(
        "answer",
        text=speaker.tokenizer.decode(kept, skip_special_tokens=True),
        turn=turn_of(Message("assistant", reply.text, reasoning=reply.thought, calls=reply.calls)),
        problem=reply.problem,
        tokens=len(kept),
        stopped=stopped,
        silenced=(job.directory / SILENCE).exists(),
        seconds=round(time.monotonic() - began, 3),
    )


def _as_asked(speaker: Speaker, ask: dict[str, Any]) -> Any:
    return speaker.model.disable_adapter() if ask["base"] else contextlib.nullcontext()


@torch.inference_mode()
def _generate(job: Job, speaker: Speaker, ask: dict[str, Any], ids: torch.Tensor, most: int) -> list[int]:
    base, heat = base_of(speaker.model), float(ask["temperature"])
    sampled = (
        {"do_sample": True, "temperature": heat, "top_p": float(ask["top_p"])} if heat > 0 else {"do_sample": False}
    )
    pad = speaker.tokenizer.pad_token_id
    config = GenerationConfig(
        **sampled, max_new_tokens=most, eos_token_id=list(speaker.stops) or None, pad_token_id=pad
    )
    if ask.get("seed") is not None:
        torch.manual_seed(int(ask["seed"]))
    kept, base.generation_config = base.generation_config, config
    ids = ids.to(base.device)
    try:
        output = base.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            streamer=_Parts(job, speaker),
            stopping_criteria=StoppingCriteriaList([_Silenced(job.directory / SILENCE)]),
        )
    finally:
        base.generation_config = kept
    new: list[int] = output[0, ids.shape[1] :].tolist()
    return new


class _Silenced(StoppingCriteria):
    """Ends an answer when it was asked to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        return torch.full((input_ids.shape[0],), self.path.exists(), device=input_ids.device, dtype=torch.bool)


class _Parts(BaseStreamer):
    """Tells the answer's text as it grows, some times a second, never half a character."""

    def __init__(self, job: Job, speaker: Speaker) -> None:
        self.job, self.speaker = job, speaker
        self.ids: list[int] = []
        self.told, self.last, self.is_prompt = "", 0.0, True

    def put(self, value: torch.Tensor) -> None:
        """The prompt first, then token by token."""
        if self.is_prompt:
            self.is_prompt = False
            return
        self.ids += [token for token in value.flatten().tolist() if token not in self.speaker.stops]
        if time.monotonic() - self.last >= PART_S:
            self._tell()

    def end(self) -> None:
        """The rest."""
        self._tell()

    def _tell(self) -> None:
        text = self.speaker.tokenizer.decode(self.ids, skip_special_tokens=True)
        if text.endswith("\ufffd") or not text.startswith(self.told) or text == self.told:
            return
        self.job.events.write("answer_part", text=text[len(self.told) :])
        self.told, self.last = text, time.monotonic()
