"""Answers of a model to prompts: greedy, batched, with a KV cache, and what is wrong with them.

Prompts come as token ids, so that they are to the token what training showed. Not here: templates and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import EngineError
from engine.hardware.memory import system_memory
from engine.memory.evaluation import answer_bytes, prompts_at_once
from engine.modeling.adapters import base_of
from engine.models.config import spec_from_config
from engine.models.spec import ModelSpec
from engine.runs.job import Warn
from engine.text import format_bytes

LONGEST_PERIOD = 48
FEWEST_REPEATS = 4
FEWEST_REPEATED_TOKENS = 16

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer. `stopped` = it ended by itself, not at the limit of new tokens.

    `written` is the text with its special tokens, but for the one that ended it: what calls of tools are read from.
    """

    text: str
    tokens: int
    stopped: bool
    degenerate: bool
    written: str = ""

    @property
    def empty(self) -> bool:
        """Nothing but white space."""
        return not self.text.strip()


def stop_ids(tokenizer: Any, model: Any, last_trained: Iterable[int]) -> tuple[int, ...]:
    """Every token that ends an answer: the tokenizer's, the model's, and those that training put last."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    own = base_of(model).generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    found = {tokenizer.eos_token_id, *listed, *(token for token in last_trained if token in special)}
    return tuple(sorted(token for token in found if token is not None))


@torch.inference_mode()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], how: Sampling, on_progress: OnProgress, warn: Warn
) -> list[Answer]:
    """One Answer a prompt, in the order given, of a model that learns no more; memory goes by what is free."""
    return answer(model, tokenizer, prompts, Room(model, how, warn), on_progress)


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    room: Room,
    on_progress: OnProgress = lambda done, total: None,
    ended: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """One Answer a prompt, in the order given; prompts of like length share a batch.

    A batch holds as many as `room` has, `room.how.batch_size` at most; where memory ends all the same, it is halved.
    Both are told as warnings. Once `ended` says so, no further token is made.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    found: dict[int, Answer] = {}
    how, size = room.how, room.how.batch_size
    with _greedy(model, how) as generator:
        while len(found) < len(prompts):
            batch = order[len(found) : len(found) + size]
            batch = batch[: room.for_prompt(len(prompts[batch[0]]))]
            try:
                outputs = _run(generator, [prompts[index] for index in batch], how, ended)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size = max(1, len(batch) // 2)
                torch.cuda.empty_cache()
                room.warn("generate_batch", f"out of memory: {size} prompts at once instead of {how.batch_size}")
                continue
            found |= {index: _answer(tokenizer, ids, how) for index, ids in zip(batch, outputs, strict=True)}
            on_progress(len(found), len(prompts))
    return [found[index] for index in range(len(prompts))]


@contextmanager
def _greedy(model: Any, how: Sampling) -> Iterator[Any]:
    """The model with plain greedy settings: a repetition penalty or sampling of its own would not compare."""
    from transformers import GenerationConfig

    base = base_of(model)
    kept = base.generation_config
    base.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=how.max_new_tokens,
        eos_token_id=list(how.stop_ids) or None,
        pad_token_id=how.pad_id,
    )
    try:
        yield base
    finally:
        base.generation_config = kept


def _run(base: Any, prompts: Sequence[Sequence[int]], how: Sampling, ended: Callable[[], bool]) -> list[list[int]]:
    """New token ids of each prompt, with whatever stands after the stop token."""
    from transformers import StoppingCriteriaList

    longest = max(len(prompt) for prompt in prompts)
    ids = [[how.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    output = base.generate(
        input_ids=torch.tensor(ids, device=base.device),
        attention_mask=torch.tensor(mask, device=base.device),
        stopping_criteria=StoppingCriteriaList([_Ended(ended)]),
    )
    new: list[list[int]] = output[:, longest:].tolist()
    return new


class _Ended:
    """transformers asks it after each token whether every answer is to end."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self._ended = ended

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._ended(), dtype=torch.bool, device=input_ids.device)


def _answer(tokenizer: Any, new: list[int], how: Sampling) -> Answer:
    end = next((place for place, token in enumerate(new) if token in how.stop_ids), None)
    kept = new if end is None else new[:end]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    written = tokenizer.decode(kept, skip_special_tokens=False)
    return Answer(text, len(kept), end is not None, is_degenerate(kept), written)


def is_degenerate(tokens: Sequence[int]) -> bool:
    """Whether the end repeats one short run of tokens at least four times over sixteen tokens or more."""
    for period in range(1, LONGEST_PERIOD + 1):
        needed = max(FEWEST_REPEATS * period, FEWEST_REPEATED_TOKENS)
        if needed > len(tokens):
            continue
        tail = tokens[-needed:]
        if all(tail[place] == tail[place - period] for place in range(period, needed)):
            return True
    return False


def counts(answers: Sequence[Answer]) -> dict[str, int]:
    """How many answers are empty, repeat themselves, or ran into the limit."""
    return {
        "empty": sum(answer.empty for answer in answers),
        "degenerate": sum(answer.degenerate for answer in answers),
        "unstopped": sum(not answer.stopped for answer in answers),
    }


FREE_SHARE = 0.8
"""Of free memory: the rest is for what others take meanwhile and for what the allocator cannot join."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are made: new tokens at most, prompts at once, and the ids that end or pad."""

    max_new_tokens: int
    batch_size: int
    stop_ids: tuple[int, ...]
    pad_id: int


class Room:
    """Memory that answers may take, and whether a smaller batch was told of already.

    `most_bytes` where they may not have all that is free when the room is made.
    """

    def __init__(self, model: Any, how: Sampling, warn: Warn, most_bytes: int | None = None) -> None:
        base = base_of(model)
        self.how, self.warn = how, warn
        self.spec = _spec(base, warn)
        self.width = torch.finfo(base.dtype).bits // 8
        free = int(FREE_SHARE * free_bytes(base.device))
        self.free_bytes = free if most_bytes is None else min(free, most_bytes)
        self.told = False

    def bytes_of(self, tokens: int) -> int:
        """What one answer to a prompt of `tokens` tokens takes at most; 0 where that is not known."""
        return answer_bytes(self.spec, tokens, self.how.max_new_tokens, self.width) if self.spec is not None else 0

    def for_prompt(self, tokens: int) -> int:
        """How many prompts of `tokens` tokens at once, `how.batch_size` at most."""
        if self.spec is None:
            return self.how.batch_size
        new = self.how.max_new_tokens
        size = min(self.how.batch_size, prompts_at_once(self.spec, tokens, new, self.width, self.free_bytes))
        if size < self.how.batch_size and not self.told:
            self.told = True
            needed = self.how.batch_size * self.bytes_of(tokens)
            self.warn(
                "generate_batch",
                f"{self.how.batch_size} prompts of {tokens} tokens with answers of {new} would take"
                f" {format_bytes(needed)} of cache and logits, {format_bytes(self.free_bytes)} may be used:"
                f" {size} at once",
            )
        return size


def harness_batch(base: Any, max_length: int, wanted: int, warn: Warn) -> int:
    """Rows of `max_length` tokens that are scored at once with whole logits: in the model's dtype, in fp32, as logs."""
    width = torch.finfo(base.dtype).bits // 8
    row_bytes = max_length * int(base.config.get_text_config().vocab_size) * (width + 8)
    size = max(1, min(wanted, int(FREE_SHARE * free_bytes(base.device)) // row_bytes))
    if size < wanted:
        warn("harness_batch", f"{wanted} rows would take {format_bytes(wanted * row_bytes)} of logits: {size} at once")
    return size


def free_bytes(device: torch.device) -> int:
    """What `device` has left for new tensors, with what torch holds and does not use."""
    if device.type != "cuda":
        return system_memory().available_bytes
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def _spec(base: Any, warn: Warn) -> ModelSpec | None:
    """The model's numbers; None, told as a warning, for an architecture that the memory model does not know."""
    numbers = base.config.to_dict()
    # How the weights are stored does not change what answers take.
    numbers.pop("quantization_config", None)
    try:
        return spec_from_config(numbers, "model", "config", source="loaded", path=None)
    except EngineError as error:
        warn("generate_batch", f"memory for answers cannot be predicted ({error.message}): the batch is as set")
        return None
