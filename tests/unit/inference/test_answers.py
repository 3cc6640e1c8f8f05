"""Batched greedy answers: equal to one at a time, in order, and what is counted as wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.inference import answers as generation
from engine.inference.answers import Answer, Sampling, counts, generate, is_degenerate, stop_ids

WORDS = 40


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    vocabulary = {"<pad>": 0, "<eos>": 1, "<turn>": 2} | {f"w{number}": number for number in range(3, WORDS)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    made.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    return made


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(4)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, initializer_range=0.8, eos_token_id=1, **sizes)).eval()
    made.generation_config = GenerationConfig(
        eos_token_id=1, do_sample=True, temperature=3.0, repetition_penalty=5.0, top_k=4
    )
    return made


PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17], [5, 6, 7]]


def quiet(*_: Any) -> None:
    return None


def one_at_a_time(network: Any, prompt: list[int], stops: tuple[int, ...], limit: int) -> list[int]:
    """Greedy without cache, batch or padding."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(limit):
            token = int(network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token in stops:
                break
            ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_equals_one_at_a_time_and_ignores_sampling_of_the_model(network: Any, tokenizer: Any, batch_size: int) -> None:
    seen: list[tuple[int, int]] = []
    how = Sampling(12, batch_size, (1, 2), 0)
    answers = generate(network, tokenizer, PROMPTS, how, lambda done, total: seen.append((done, total)), quiet)
    wanted = [one_at_a_time(network, prompt, (1, 2), 12) for prompt in PROMPTS]
    assert [answer.text for answer in answers] == [tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted]
    assert [answer.tokens for answer in answers] == [len(ids) for ids in wanted]
    assert seen[-1] == (5, 5)
    assert network.generation_config.temperature == 3.0


def test_stops_at_every_stop_token(network: Any, tokenizer: Any) -> None:
    free = generate(network, tokenizer, PROMPTS[:1], Sampling(6, 1, (), 0), quiet, quiet)[0]
    third = one_at_a_time(network, PROMPTS[0], (), 6)[2]
    stopped = generate(network, tokenizer, PROMPTS[:1], Sampling(6, 1, (1, third), 0), quiet, quiet)[0]
    assert (free.tokens, free.stopped) == (6, False)
    assert stopped.stopped
    assert stopped.tokens <= 2


def test_halves_the_batch_when_memory_ends(network: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes, told = generation._run, [], []

    def narrow(base: Any, prompts: Any, how: Any, ended: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(base, prompts, how, ended)

    monkeypatch.setattr(generation, "_run", narrow)
    how = Sampling(4, 5, (1,), 0)
    answers = generate(network, tokenizer, PROMPTS, how, quiet, lambda code, text: told.append(code))
    assert sizes == [5, 2, 2, 1]
    assert told == ["generate_batch"]
    assert answers[0] == answers[4]


def test_stop_ids_come_from_model_tokenizer_and_training(network: Any, tokenizer: Any) -> None:
    # 30 is an ordinary word at the end of a document that was cut: not a stop.
    assert stop_ids(tokenizer, network, {2, 30}) == (1, 2)


@pytest.mark.parametrize(
    ("tokens", "degenerate"),
    [
        ([7] * 16, True),
        ([7] * 15, False),
        ([1, 2, 3, *[4, 5] * 8], True),
        ([*range(10)] * 4, True),
        ([*range(10)] * 3, False),
        ([*[7] * 40, 8], False),
        (list(range(200)), False),
        ([], False),
    ],
)
def test_degenerate(tokens: list[int], degenerate: bool) -> None:
    assert is_degenerate(tokens) is degenerate


def test_counts() -> None:
    answers = [Answer(" \n", 1, True, False), Answer("x", 1, False, True), Answer("y", 1, True, False)]
    assert counts(answers) == {"empty": 1, "degenerate": 1, "unstopped": 1}
