"""Models that also see: their text side learns, what sees is loaded and stays as it is, and names are the published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from engine.errors import EngineError
from engine.export import merge
from engine.modeling import adapters, forward, load, wrappers
from engine.modeling.checkpointing import checkpointed_layers
from engine.profile.schema import Profile
from engine.runs.view import describe
from engine.train import optimizer, outputs
from engine.train.assembly import wrap
from engine.train.selfcheck import choose_loss
from tests.unit.modeling.wrapper_models import CONFIGS, make_wrapper


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The directory of a small random wrapper by its family's name."""
    root, made = tmp_path_factory.mktemp("wrappers"), {}

    def directory(name: str) -> Path:
        if name not in made:
            made[name] = make_wrapper(name, root / name)
        return made[name]

    return directory


def settings(folder: Path, train: dict[str, Any] | None = None, **tables: Any) -> Profile:
    resolved = {"optim": "adamw_torch_fused", "learning_rate": 1e-2, "activation_checkpointing": False}
    return Profile.model_validate(
        {
            "model": {"name_or_path": str(folder), "dtype": "fp32", "max_length": 64},
            "tuning": {"method": "lora"},
            "data": {"datasets": [{"path": "-"}]},
            "train": resolved | (train or {}),
            "launch": {"device": "cpu"},
            **tables,
        }
    )


def loaded(profile: Profile, *, packed: bool = True) -> Any:
    return load.load_base(profile, Path(), quantized=False, device="cpu", warn=fail, packed=packed)


def trainable(profile: Profile) -> Any:
    return wrap(loaded(profile), profile, keep_last=True, warn=fail)


def fail(code: str, message: str) -> None:
    raise AssertionError(f"{code}: {message}")


def batch() -> dict[str, Any]:
    """Two documents in one row."""
    ids = torch.randint(30, 200, (1, 40), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[:, [0, 16]] = -100
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.cat([torch.arange(16), torch.arange(24)])[None],
        "cu_seq_lens": torch.tensor([0, 16, 40], dtype=torch.int32),
        "max_doc_length": 24,
    }


def two_steps(model: Any, profile: Profile) -> tuple[list[float], Any]:
    """Losses before and after two updates, and the optimizer."""
    found, rows = [], batch()
    learner = optimizer.build_optimizer(model, profile, fail)
    model.train()
    for _ in range(2):
        loss = forward.loss_sum(model, rows)
        loss.backward()
        found.append(float(loss.detach()))
        learner.step()
        learner.zero_grad()
    return [*found, float(forward.loss_sum(model, rows).detach())], learner


def tower_of(model: Any) -> dict[str, torch.Tensor]:
    base = adapters.base_of(model)
    outside = {id(each) for each in wrappers.parameters_outside_text(base)}
    return {name: value.detach().clone() for name, value in base.named_parameters() if id(value) in outside}


def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=batch()["input_ids"]).logits.detach()


@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_learn_on_the_text_side_alone_and_plain_peft_puts_them_on_the_whole_model(name, wrapper, tmp_path):
    folder = wrapper(name)
    profile = settings(folder, train={"activation_checkpointing": True})
    model = trainable(profile)
    with torch.no_grad():
        assert choose_loss(model, batch(), fail) is forward.loss_sum
    adapted = {key for key, _ in model.named_parameters() if "lora_" in key}
    # Seven matrices of two layers, each with an A and a B.
    assert len(adapted) == 28
    assert all(".language_model.layers." in key for key in adapted)
    assert {key for key, value in model.named_parameters() if value.requires_grad} == adapted
    losses, _ = two_steps(model, profile)
    assert losses[2] < losses[1] < losses[0]

    adapters.save_adapter(model, tmp_path / "adapter", profile, tmp_path / "none")
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    before = logits(plain)
    again = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    assert {key for key, _ in again.named_parameters() if "lora_" in key} == adapted
    # The same attention for both: the packed one needs documents.
    ours = adapters.load_adapter(loaded(profile, packed=False), tmp_path / "adapter")
    tuned = logits(again)
    assert torch.allclose(tuned, logits(ours), atol=1e-5)
    assert (tuned - before).abs().max() > 1e-3

    merged = merge.merge(ours)
    merge.save_model(merged, tmp_path / "merged", stop_ids=(2,), pad_id=0, shard_gib=1.0)
    back = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype="auto")
    assert torch.allclose(logits(back), tuned, atol=1e-4)
    original, kept = tower_of(AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")), tower_of(back)
    assert original.keys() == kept.keys()
    assert all(torch.equal(kept[key], value) for key, value in original.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_full_tuning_leaves_what_sees_as_it_was(name, wrapper):
    profile = settings(wrapper(name), tuning={"method": "full"})
    model = trainable(profile)
    before = tower_of(model)
    assert before
    losses, learner = two_steps(model, profile)
    assert losses[2] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in tower_of(model).items())
    outside = {id(each) for each in wrappers.parameters_outside_text(model)}
    assert not outside & {id(each) for group in learner.param_groups for each in group["params"]}
    assert not outside & {id(each) for each in learner.state}
    learns, whole = adapters.parameter_counts(model)
    assert learns + sum(value.numel() for value in before.values()) == whole


def test_a_fully_tuned_model_is_saved_whole_with_its_processor(wrapper, tmp_path):
    folder = wrapper("mistral3")
    profile = settings(folder, tuning={"method": "full"})
    model = trainable(profile)
    outputs.save_weights(tmp_path, model, AutoTokenizer.from_pretrained(folder), profile)
    assert (tmp_path / "model" / "preprocessor_config.json").read_bytes() == (
        folder / "preprocessor_config.json"
    ).read_bytes()
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype="auto")
    assert all(torch.equal(value, tower_of(model)[key]) for key, value in tower_of(again).items())


@pytest.mark.parametrize("name", ["gemma3", "qwen3_vl"])
def test_last_layers_alone_learn_where_asked(name, wrapper):
    model = trainable(settings(wrapper(name), tuning={"method": "freeze", "trainable_layers": 1}))
    names = [key for key, value in model.named_parameters() if value.requires_grad]
    assert names
    assert all(".language_model.layers.1." in key for key in names)


def test_names_that_a_tower_shares_reach_the_text_side_alone(wrapper):
    lora = {"target_modules": ["q_proj"], "modules_to_save": ["norm"], "bias": "all"}
    model = trainable(settings(wrapper("qwen3_vl"), lora=lora))
    assert not any("visual" in key for key, value in model.named_parameters() if value.requires_grad)
    lora = {"target_modules": ["q_proj", "k_proj"], "bias": "all"}
    model = trainable(settings(wrapper("gemma3"), lora=lora))
    learning = [key for key, value in model.named_parameters() if value.requires_grad]
    assert len(learning) == 8
    assert all("language_model" in key for key in learning)


def test_names_of_a_tower_alone_are_refused_with_those_of_the_text_side(wrapper):
    with pytest.raises(EngineError) as refused:
        trainable(settings(wrapper("gemma3"), lora={"target_modules": ["fc1", "q_proj"]}))
    [problem] = refused.value.problems
    assert problem.message == "the model has no module 'fc1'"
    assert "its linear layers are: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in problem.hint


def test_only_decoder_layers_are_recomputed(wrapper):
    model = loaded(settings(wrapper("gemma3")))
    assert [type(layer).__name__ for layer in checkpointed_layers(model)] == ["Gemma3DecoderLayer"] * 2


def test_what_sees_keeps_its_own_attention(wrapper):
    config = loaded(settings(wrapper("mistral3"))).config
    assert config.text_config._attn_implementation == "tunedeck_packed"
    assert config.vision_config._attn_implementation == "sdpa"


def test_a_wrapper_without_a_class_that_writes_text_is_refused_in_words():
    with pytest.raises(EngineError, match="no class for 'clip' that writes text"):
        wrappers.generating_class(AutoConfig.for_model("clip"))


def test_scores_are_learned_on_the_text_side_or_refused_in_words(wrapper):
    model = trainable(settings(wrapper("gemma3"), {"objective": "reward"}))
    assert all("language_model" in key or "score" in key for key, value in learning_of(model))
    with pytest.raises(EngineError, match="no class for 'mistral3' that scores texts"):
        loaded(settings(wrapper("mistral3"), {"objective": "reward"}))


def learning_of(model: Any) -> list[tuple[str, Any]]:
    found = [(key, value) for key, value in model.named_parameters() if value.requires_grad]
    assert found
    return found


def test_a_class_whose_library_is_missing_is_named(wrapper, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError("\nTimmWrapperModel requires the timm library.\nInstall it.")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", refuse)
    with pytest.raises(EngineError, match="requires the timm library") as refused:
        loaded(settings(wrapper("gemma3")))
    assert "install the library" in (refused.value.hint or "")


def test_the_log_says_what_stays_as_it_is():
    event = {"type": "started", "device": "CPU", "towers": ["model.visual"], "tower_parameters": 1_230_000}
    assert describe(event) == "training on CPU; its text side learns, visual stays as it is (1.23 M parameters)"
