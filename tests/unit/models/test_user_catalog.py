"""A person's own models: added, listed, planned for, removed; damaged files and unusable names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.fit import fit
from engine.cli.models import models
from engine.errors import EngineError, ExitCode
from engine.models.catalog import catalog_index, catalog_problem, forget_catalog, load_catalog, shipped_catalog
from engine.models.resolve import resolve_model
from engine.models.user_catalog import format_user_catalog, read_user_catalog, user_catalog_path
from tests.unit.models.test_resolve import LLAMA, write_model


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    forget_catalog()
    yield
    monkeypatch.undo()
    forget_catalog()


def run(*arguments: str, command: Any = models) -> Result:
    return CliRunner().invoke(command, list(arguments))


def refusal(*arguments: str) -> EngineError:
    error = run(*arguments).exception
    assert isinstance(error, EngineError)
    assert error.code is ExitCode.MODEL
    assert error.hint
    return error


def rows(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("list", *arguments, "--json").stdout)["models"]
    return found


def damage(text: str) -> None:
    user_catalog_path().parent.mkdir(parents=True, exist_ok=True)
    user_catalog_path().write_text(text)
    forget_catalog()


def test_the_list_filters_and_starts_with_the_newest() -> None:
    everything = rows()
    assert len(everything) == len(shipped_catalog())
    months = [row["released"] for row in everything]
    assert months == sorted(months, reverse=True)
    latest = [row["parameters"] for row in everything if row["released"] == months[0]]
    assert latest == sorted(latest), "the smallest first within a month"
    small = rows("--family", "qwen3", "--max-parameters", "4.1B", "--licence", "Apache-2.0", "Instruct")
    assert [row["name"] for row in small] == ["Qwen/Qwen3-4B-Instruct-2507"]
    assert {row["name"] for row in rows("code")} >= {"codellama/CodeLlama-7b-Instruct-hf"}
    assert run("list", "--max-parameters", "many").exit_code == 2
    assert "no known model" in run("list", "no-such-word").stderr


def test_a_family_comes_with_its_experts_and_an_unknown_one_with_those_there_are() -> None:
    assert {row["family"] for row in rows("--family", "qwen3")} == {"qwen3", "qwen3_moe"}
    assert {row["family"] for row in rows("--family", "qwen3_moe")} == {"qwen3_moe"}
    assert {row["family"] for row in rows("--family", "Gemma3")} == {"gemma3_text"}
    assert "families are gemma2, gemma3, " in run("list", "--family", "nope").stderr


def test_the_list_fits_80_columns_and_json_says_all(tmp_path: Path) -> None:
    run("add", str(write_model(tmp_path / "mine", LLAMA)), "--licence", "a-license-with-quite-a-long-name")
    shown = run("list").stdout.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[0].split() == ["model", "size", "ctx", "release", "license"]
    assert shown[1].startswith("mine "), "your own come first"
    assert any(text.split() == ["google/gemma-2-9b-it", "9.24B", "8K", "2024-06", "gated,", "gemma"] for text in shown)
    (row,) = rows("Qwen3-8B-Base")
    able = {"fit": True, "train": True, "merge": True, "gguf": "qwen3", "kernels": True}
    facts = ("released", "modality", "context", "licence", "gated", "quality", "abilities")
    assert [row[key] for key in facts] == ["2025-04", "text", 32768, "apache-2.0", False, 66, able]
    assert (rows("mine")[0]["released"], rows("mine")[0]["modality"]) == (None, None)


def test_show_breaks_the_parameters_down() -> None:
    shown = json.loads(run("show", "qwen3-8b", "--json").stdout)
    parts = shown["breakdown"]
    assert sum(parts[key] for key in ("linear", "experts", "embeddings", "norms")) == parts["computed"]
    assert parts["total"] == shown["parameters"] == 8190735360
    text = run("show", "meta-llama/Llama-3.1-8B").stdout
    assert "llama3.1, gated" in text
    assert "released     2024-07" in text
    assert "GGUF (llama)" in text
    assert "no GGUF" in run("show", "SmolLM3-3B").stdout
    assert "not on this machine" in text


def test_an_added_directory_is_known_by_name_until_it_is_removed(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "mine", LLAMA)
    assert run("add", str(directory), "--licence", "mit", "--quality", "40").exit_code == 0
    spec = resolve_model("MINE", base_dir=tmp_path / "config")
    assert (spec.name, spec.licence, spec.quality, spec.path) == ("mine", "mit", 40, str(directory))
    assert (spec.hidden_size, spec.num_key_value_heads, spec.source) == (64, 2, "directory")
    assert load_catalog()[-1] == spec
    (row,) = rows("mine")
    assert (row["own"], row["path"]) == (True, str(directory))
    assert "your own list" in run("show", "mine").stdout
    assert run("mine", "--gpu", "T4", command=fit).exit_code == 0
    assert run("remove", "mine").exit_code == 0
    assert load_catalog() == shipped_catalog()
    assert directory.is_dir()


def test_an_entry_is_replaced_only_when_asked(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", LLAMA)
    assert run("add", str(directory), "--name", "me/m").exit_code == 0
    before = user_catalog_path().read_bytes()
    assert refusal("add", str(directory), "--name", "ME/m").where == "ME/m"
    assert refusal("add", str(directory), "--name", "Qwen/Qwen3-8B").where == "Qwen/Qwen3-8B"
    assert user_catalog_path().read_bytes() == before
    assert run("add", str(directory), "--name", "Qwen/Qwen3-8B", "--replace").exit_code == 0
    assert catalog_index()["qwen3-8b"].hidden_size == 64
    assert len(load_catalog()) == len(shipped_catalog()) + 1
    assert run("remove", "Qwen/Qwen3-8B").exit_code == 0
    assert catalog_index()["qwen3-8b"].hidden_size == 4096


def test_a_cached_hub_model_keeps_no_path_of_its_own(tmp_path: Path) -> None:
    commit = "a" * 40
    root = tmp_path / "hub" / "models--me--tiny"
    write_model(root / "snapshots" / commit, LLAMA)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    assert run("add", "me/tiny").exit_code == 0
    (spec,) = read_user_catalog()
    assert (spec.name, spec.path, spec.source) == ("me/tiny", None, "cache")
    assert resolve_model("tiny").path == str(root / "snapshots" / commit)


def test_files_that_are_gone_leave_the_numbers(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "mine", LLAMA)
    run("add", str(directory))
    (directory / "config.json").unlink()
    directory.rmdir()
    forget_catalog()
    (spec,) = read_user_catalog()
    assert (spec.path, spec.hidden_size) == (None, 64)


def test_what_is_not_here_is_not_added() -> None:
    assert "not on this machine" in refusal("add", "Qwen/Qwen3-8B").message
    assert "not on this machine" in refusal("add", "demo").message
    assert not user_catalog_path().exists()


@pytest.mark.parametrize("name", ["../up", "a/b/c", "/etc", "", "demo", "x.gguf", 'a"]\n[b', "a\x1b[2J", "a..b", "~x"])
def test_a_name_never_picks_a_path(tmp_path: Path, name: str) -> None:
    refusal("add", str(write_model(tmp_path / "bad name", LLAMA)), "--name", name)
    assert not user_catalog_path().exists()


def test_only_own_models_can_be_removed() -> None:
    assert refusal("remove", "Qwen/Qwen3-8B").where == "Qwen/Qwen3-8B"


def test_layers_of_several_kinds_are_kept(tmp_path: Path) -> None:
    told = {
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "vocab_size_per_layer_input": 100,
        "hidden_size_per_layer_input": 8,
    }
    directory = write_model(tmp_path / "gemma", {**LLAMA, "model_type": "gemma4_text", **told})
    before = resolve_model(str(directory)).sizes
    assert run("add", str(directory), "--name", "own").exit_code == 0
    forget_catalog()
    (found,) = read_user_catalog()
    assert len(found.layer_groups) == 2
    assert found.sizes == before


@pytest.mark.parametrize(
    "groups", ["[1]", "[[1, [['q', 1]], 0, 0, 0, 0]]", "[[1, 2, 0, 0, 0, 0]]", "[[1, [], -1, 0, 0, 0]]"]
)
def test_damaged_layers_are_told(tmp_path: Path, groups: str) -> None:
    run("add", str(write_model(tmp_path / "m", LLAMA)), "--name", "own")
    damage(user_catalog_path().read_text() + f"layer_groups = {groups}\n")
    assert "layer_groups" in str(catalog_problem())


@pytest.mark.parametrize("family", ["from_tomorrow", "gpt2"])
def test_an_own_model_of_a_family_without_numbers_is_told(tmp_path: Path, family: str) -> None:
    run("add", str(write_model(tmp_path / "m", LLAMA)), "--name", "own")
    damage(user_catalog_path().read_text().replace('"llama"', f'"{family}"'))
    assert family in str(catalog_problem())


def test_everything_written_is_read_back() -> None:
    user_catalog_path().parent.mkdir(parents=True)
    user_catalog_path().write_text(format_user_catalog(shipped_catalog()))
    assert read_user_catalog() == shipped_catalog()


GOOD = format_user_catalog([shipped_catalog()[0]])


@pytest.mark.parametrize(
    "text",
    [
        "models = 3",
        "[models",
        "\x00",
        "[models]\nx = 1",
        "[models.x]\nhidden_size = 4",
        GOOD.replace("hidden_size = 576", "hidden_size = -1"),
        GOOD.replace("hidden_size = 576", "hidden_size = true"),
        GOOD.replace("hidden_size = 576", 'hidden_size = "576"'),
        GOOD.replace('"apache-2.0"', '"\\u001b[2J"'),
        GOOD.replace("quality = 7", "quality = 101"),
        GOOD + "command = 'rm'\n",
        GOOD.replace("HuggingFaceTB/", "../"),
        "#" * 1_100_000,
    ],
)
def test_a_damaged_file_stops_models_and_is_told_by_fit(text: str) -> None:
    assert text != GOOD
    damage(text)
    for command in (["list"], ["show", "qwen3-8b"], ["remove", "x"], ["add", "demo"]):
        error = refusal(*command)
        assert error.where == str(user_catalog_path())
        assert "\x1b" not in error.message
    assert user_catalog_path().read_text() == text
    assert catalog_problem() is not None
    result = run("--gpu", "T4", command=fit)
    assert result.exit_code == 0
    assert f"warning: {user_catalog_path()}" in result.stderr
    assert "more: --limit 0 shows all" in result.stdout, "the models that come with Tunedeck are still ranked"
