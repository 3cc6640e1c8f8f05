"""Fixed prompts while a model learns: what they say, and that the run learns what it would learn without them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.data.batch import PackedDataset, collate
from engine.data.chat import bos_text, choose_template
from engine.data.encode import encode_examples
from engine.data.examples import Example, Message
from engine.data.formats import with_system
from engine.data.pack import Packed
from engine.demo.paths import model_dir
from engine.inference.answers import Sampling
from engine.modeling import attention, forward
from engine.modeling.adapters import base_of
from engine.profile.schedule import plan_schedule
from engine.profile.schema import Profile
from engine.profile.tables.outcome import Evaluate
from engine.runs.events import read_events
from engine.runs.view import RunFold
from engine.train import prompts
from engine.train.prompts import Prompts, Question, questions_of
from engine.train.trainer import EngineTrainer
from tests.unit.train.conftest import make_settings, make_trainer, weights

NEW = 5
QUESTIONS = [Question(0, "w9 w8 w7", (9, 8, 7)), Question(1, "w5", (5,)), Question(2, "w6 w9", (6, 9))]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    core = Tokenizer(models.WordLevel({f"w{number}": number for number in range(64)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="w0")


def asked(folder: Path, tokenizer: Any, step_bytes: int | None = None, **settings: Any) -> EngineTrainer:
    """A trainer that answers the questions, as `train.run` makes one."""
    trainer = make_trainer(folder, make_settings(**settings))
    how = Sampling(NEW, 8, stop_ids=(), pad_id=0)
    trainer.prompts = Prompts(
        trainer.model, tokenizer, QUESTIONS, job=trainer.job, how=how, context=32, step_bytes=step_bytes
    )
    return trainer


def events_of(trainer: EngineTrainer, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(trainer.job.directory / "events.jsonl")[0] if event["type"] == kind]


def learned(trainer: EngineTrainer) -> tuple[list[float], list[float]]:
    return [[event["loss"] for event in events_of(trainer, kind)] for kind in ("train_step", "eval")]  # type: ignore[return-value]


def greedy(trainer: EngineTrainer, ids: tuple[int, ...]) -> str:
    """The likeliest tokens by the pass that training and validation take, one document at a time, without a cache."""
    found, head = list(ids), base_of(trainer.model).get_output_embeddings()
    trainer.model.eval()
    with torch.no_grad():
        for _ in range(NEW):
            row = np.zeros((1, 32), dtype=np.int32)
            row[0, : len(found)] = found
            lengths = np.array([len(found), 32 - len(found)], dtype=np.int32)
            batch = collate([PackedDataset(Packed(row, row, (lengths,), np.zeros(1, dtype=np.int32)))[0]])
            states = forward.hidden_states(trainer.model, batch)
            found.append(int(head(states[0, len(found) - 1]).argmax()))
    return " ".join(f"w{token}" for token in found[len(ids) :])


def run_to_end(trainer: EngineTrainer) -> EngineTrainer:
    trainer._evaluate(None, None)  # the base, as before the first step
    trainer.train()
    return trainer


def test_every_weight_learns_bit_for_bit_what_it_learns_without_prompts(tmp_path, tokenizer):
    settings = {"dtype": "bf16", "method": "full", "max_steps": 2, "eval_steps": 1}
    plain = run_to_end(make_trainer(tmp_path / "plain", make_settings(**settings)))
    trainer = run_to_end(asked(tmp_path / "asked", tokenizer, **settings))
    assert learned(trainer) == learned(plain)
    ours, theirs = weights(trainer), weights(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_answers_are_the_likeliest_tokens_of_the_trained_pass_and_come_once_a_step(tmp_path, tokenizer):
    """Adapters with dropout, recomputed layers, packed rows; then resumed from a checkpoint between two evaluations."""
    settings = {"every": 2, "max_steps": 4, "eval_steps": 2}
    plain = run_to_end(make_trainer(tmp_path / "plain", make_settings(**settings)))
    trainer = run_to_end(asked(tmp_path / "asked", tokenizer, **settings))
    before = asked(tmp_path / "base", tokenizer, **settings)
    assert learned(trainer) == learned(plain)
    answers = events_of(trainer, "sample")
    assert [(event["step"], event["index"]) for event in answers] == [(step, i) for step in (0, 2, 4) for i in range(3)]
    told = [[event["output"] for event in answers[place : place + 3]] for place in (0, 6)]
    assert told == [[greedy(each, question.ids) for question in QUESTIONS] for each in (before, trainer)]
    assert {(event["tokens"], event["ended"]) for event in answers} == {(NEW, False)}
    assert base_of(trainer.model).config._attn_implementation == attention.NAME

    shutil.copytree(trainer.job.directory, tmp_path / "resumed")
    resumed = asked(tmp_path / "resumed", tokenizer, **settings)
    resumed.job.events.write("started", resumed_from_step=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoints" / "step-3"))
    assert len(events_of(resumed, "sample")) == len(answers) + 3  # step 4 again, step 2 not
    fold = RunFold()
    for event in [*events_of(resumed, "sample")[:9], {"type": "started", "resumed_from_step": 3}]:
        fold.apply(event)
    assert {sample.step for sample in fold.samples.all()} == {0, 2}
    for event in events_of(resumed, "sample")[9:]:
        fold.apply(event)
    ours = [(sample.step, sample.index, sample.output) for sample in fold.samples.all()]
    assert sorted(ours) == [(event["step"], event["index"], event["output"]) for event in answers]


def test_what_goes_wrong_with_answers_ends_them_and_not_the_run(tmp_path, tokenizer, monkeypatch):
    trainer = asked(tmp_path, tokenizer, step_bytes=1000, max_steps=2)

    def broken(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prompts, "answer", broken)
    trainer.train()
    assert trainer.state.global_step == 2
    codes = {event["code"]: event["message"] for event in events_of(trainer, "warning")}
    assert "memory ran out" in codes["prompts_off"]
    assert "above the prediction" in codes["prompts_memory"]
    assert not events_of(trainer, "sample")


def test_a_run_without_held_out_rows_answers_too(tmp_path, tokenizer):
    settings = make_settings().model_copy(update={"evaluate": Evaluate(prompts=["Who are you?"])})
    assert plan_schedule(settings, 11, has_validation=False).eval_steps == 4
    assert plan_schedule(make_settings(), 11, has_validation=False).eval_steps == 0
    trainer = asked(tmp_path, tokenizer, max_steps=1)
    trainer.validation = None
    trainer.train()
    assert [event["step"] for event in events_of(trainer, "sample")] == [1, 1, 1]
    assert not events_of(trainer, "warning")


@pytest.mark.parametrize("system", ["", "Answer in one word."])
def test_a_prompt_is_written_as_the_rows_are(tokenizer, system):
    """With the data's template and system message; plain text goes on as plain text."""
    made = AutoTokenizer.from_pretrained(model_dir())
    settings = Profile.model_validate(
        {
            "model": {"name_or_path": "demo"},
            "data": {"datasets": [{"path": "x"}], "system": system},
            "evaluate": {"prompts": ["Write 3 March 1999 as ISO."]},
        }
    )
    template = choose_template(made)

    def found(layout: str) -> tuple[int, ...]:
        report = SimpleNamespace(datasets=[SimpleNamespace(format=layout)], written_rows=0)
        prepared: Any = SimpleNamespace(report=report, template=template)
        return questions_of(settings, made, prepared, lambda code, message: pytest.fail(message))[0].ids

    turns = (Message("user", settings.evaluate.prompts[0]), Message("assistant", "1999-03-03", True))
    rows = with_system([Example(turns, 1)], system)
    ids = encode_examples(rows, made, template, lambda done, total: None).documents[0].ids.tolist()
    assert list(found("messages")) == ids[: len(found("messages"))]
    assert "1999-03-03" in made.decode(ids[len(found("messages")) :])
    text = bos_text(made) + settings.evaluate.prompts[0]
    assert list(found("text")) == made(text, add_special_tokens=False).input_ids


def test_a_request_to_stop_ends_the_answers(tmp_path, tokenizer):
    trainer = asked(tmp_path, tokenizer)
    trainer.job.stop.ask("asked to stop")
    assert trainer.prompts is not None
    trainer.prompts.answer(3, trainer.autocast)
    assert [event["code"] for event in events_of(trainer, "warning")] == ["prompts_cut"]
    assert not events_of(trainer, "sample")
