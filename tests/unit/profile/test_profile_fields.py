"""Fields for the form: limits and words from the schema, text to value and back."""

from __future__ import annotations

import runpy
import sys
import tomllib

import pytest

from engine.profile.docs import reference
from engine.profile.fields import field_at, format_value, json_schema, parse_value, profile_fields
from engine.profile.values import allowed
from tests.unit.profile_machines import DATA, MODEL


def test_every_field_is_described_and_its_default_reads_back():
    fields = profile_fields()
    assert len(fields) > 50
    for field in fields:
        assert field.description, field.key
        assert allowed(field)
        if not field.required and field.default is not None:
            assert parse_value(field, format_value(field.default)) == field.default, field.key


def test_limits_come_from_the_schema():
    rate = field_at("train.learning_rate")
    assert (rate.kind, rate.minimum, rate.above, rate.maximum, rate.auto) == ("float", 0, True, 1, True)
    assert field_at("model.dtype").choices == ("auto", "bf16", "fp16", "fp32")
    assert field_at("train.activation_checkpointing").kind == "switch"
    assert field_at("data.datasets.4.path").required
    assert field_at("train.max_steps").optional
    assert field_at("model.max_length").unit == "tokens"
    assert field_at("lora.nothing") is None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.learning_rate", "2e-4", 2e-4),
        ("train.learning_rate", " auto ", "auto"),
        ("train.seed", "1_000", 1000),
        ("model.max_length", "16k", 16384),
        ("data.max_samples", "16k", 16000),
        ("data.max_samples", "", None),
        ("data.packing", "off", False),
        ("train.activation_checkpointing", "true", True),
        ("train.activation_checkpointing", "4", 4),
        ("lora.target_modules", "all-linear", "all-linear"),
        ("lora.target_modules", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("evaluate.metrics", "rouge,bleu", ["rouge", "bleu"]),
        ("lora.modules_to_save", "", []),
        ("data.datasets.0.columns", "instruction=q, output = a", {"instruction": "q", "output": "a"}),
        ("launch.gpu", "", None),
    ],
)
def test_what_is_typed_becomes_a_value(key, text, value):
    field = field_at(key)
    found = parse_value(field, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("train.learning_rate", "0", "above 0 and at most 1"),
        ("train.learning_rate", "nan", "a number"),
        ("train.learning_rate", "1e999", "above 0"),
        ("train.seed", "auto", "a whole number"),
        ("train.seed", "1.5", "a whole number"),
        ("train.seed", "", "needs a whole number"),
        ("train.seed", "9" * 50, "a whole number"),
        ("lora.dropout", "1", "below 1"),
        ("data.packing", "1", "true or false"),
        ("train.activation_checkpointing", "0", "from 1 to 1,000"),
        ("model.dtype", "bfloat16", "one of 'auto', 'bf16'"),
        ("evaluate.metrics", "rouge,x", "'rouge'"),
        ("lora.target_modules", "", "all-linear"),
        ("name", "../x", "letters"),
        ("model.name_or_path", "", "1 to 4,096"),
        ("launch.gpu", "a\x1b[2J", "control"),
        ("data.datasets.0.columns", "instruction", "table of names"),
    ],
)
def test_what_is_not_allowed_is_told_with_the_range(key, text, said):
    with pytest.raises(ValueError, match=r"must be|needs") as raised:
        parse_value(field_at(key), text)
    assert said in str(raised.value)


def test_what_the_form_accepts_the_schema_accepts(load):
    samples = {"int": "16", "float": "0.5", "bool": "true", "switch": "2", "text": "abc", "list": "rouge", "map": "a=b"}
    samples["table"] = "{ lora.r = [8, 16] }"
    known = {"schema_version": "1", "data.datasets.0.message_keys": "role=b", "data.datasets.0.speakers": "a=user"}
    for field in profile_fields():
        text = field.choices[-1] if field.kind in ("choice", "list") and field.choices else samples[field.kind]
        text = known.get(field.key, text)
        value = parse_value(field, text)
        loaded = load(MODEL + DATA, f"{field.key}={text}")
        assert loaded.problems == (), field.key
        assert value is not None


def test_json_schema_is_closed_and_names_its_dialect():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert all(item["additionalProperties"] is False for item in schema["$defs"].values())


def test_the_reference_is_up_to_date(request):
    page = request.config.rootpath / "docs" / "profile.md"
    assert page.read_text(encoding="utf-8") == reference(), "run: python -m engine.profile.docs"


def test_asking_for_help_writes_no_reference(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["docs", "--help"])
    monkeypatch.delitem(sys.modules, "engine.profile.docs")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("engine.profile.docs", run_name="__main__")
    assert ended.value.code == 0
    assert "docs/profile.md" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_example_in_the_reference_is_a_profile(load):
    example = reference().split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(example)
    assert load(example).problems == ()
