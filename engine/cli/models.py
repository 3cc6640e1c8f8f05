"""`engine models list|show|add|remove`: the models that `engine fit` knows by name.

Arguments, layout and writing the user's own list. Nothing is downloaded.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.common import json_option, line, note, print_json, table, warn, width
from engine.cli.flags import group_flags
from engine.cli.names import complete_models
from engine.errors import EngineError, ExitCode
from engine.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.models.catalog import Listing
    from engine.models.spec import ModelSpec

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def _count(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    parts = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([KMBT]?)", value.strip().upper())
    if parts is None:
        raise click.BadParameter("write a number such as 8B or 500M")
    return float(parts[1]) * _UNITS[parts[2]]


@click.group()
@group_flags
def models() -> None:
    """List known models, show one's numbers, add your own."""


@models.command("list")
@click.argument("word", required=False)
@click.option("--family", help="Only this family, with its experts and vision variants, e.g. qwen3.")
@click.option("--max-parameters", callback=_count, metavar="N", help="Only models up to N parameters, e.g. 8B.")
@click.option("--licence", help="Only this license, e.g. apache-2.0.")
@json_option
def list_(
    word: str | None, family: str | None, max_parameters: float | None, licence: str | None, as_json: bool
) -> None:
    """List known models, newest first; WORD is a part of a name or a use such as 'code'."""
    own = _own_names()
    filters = ((family or "").lower(), (licence or "").lower(), (word or "").lower())
    matches = [
        spec
        for spec in _newest_first(_known(), own)
        if _matches(spec, *filters) and (max_parameters is None or spec.sizes.loaded_parameters <= max_parameters)
    ]
    rows = [row(spec, own) for spec in matches]
    if as_json:
        print_json({"models": rows})
    elif rows:
        _print_list(rows)
    else:
        note(f"no known model matches{_families_like(family)}")


@models.command()
@click.argument("name", shell_complete=complete_models)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show numbers, license, source and parameters of NAME, and where its files are on this machine."""
    from engine.models.abilities import abilities_of
    from engine.models.catalog import listing_of
    from engine.models.resolve import resolve_model

    own = _own_names()
    spec = resolve_model(name)
    is_own = spec.name in own
    listed = None if is_own else listing_of(spec.name)
    parts = breakdown(spec)
    if as_json:
        more = {"own": is_own, "checked_against": listed.checked if listed else "", "breakdown": parts}
        print_json({**asdict(spec), **_listed(listed), "abilities": asdict(abilities_of(spec)), **more})
        return
    for key, value in facts(spec, own=is_own, listed=listed):
        line(f"{key:<12} {value}")
    for key, count in parts.items():
        line(f"  {key:<10} {count:>18,}")


@models.command()
@click.argument("model", metavar="PATH_OR_HUB_ID")
@click.option("--name", help="Name for the list; default: its own name.")
@click.option("--licence", help="Its license.")
@click.option("--quality", type=click.IntRange(0, 100), default=0, help="Rank among others, 1 to 100; 0 = unknown.")
@click.option("--replace", "replacing", is_flag=True, help="Replace a known model of that name.")
@json_option
def add(model: str, name: str | None, licence: str | None, quality: int, replacing: bool, as_json: bool) -> None:
    """Add a model on this machine to your own list: a directory, a .gguf file or a cached hub id."""
    from engine.models.catalog import shipped_catalog

    own = _own()
    spec = _entry(model, name)
    spec = replace(spec, quality=quality, licence=sanitize(licence or spec.licence, max_chars=40, single_line=True))
    taken = {known.name.lower() for known in (*shipped_catalog(), *own)}
    if spec.name.lower() in taken and not replacing:
        hint = "choose another with --name, or replace it with --replace"
        raise EngineError("a model has this name", code=ExitCode.MODEL, where=spec.name, hint=hint)
    path = _write([known for known in own if known.name.lower() != spec.name.lower()] + [spec])
    if as_json:
        print_json({"name": spec.name, "path": str(path)})
        return
    line(f"{spec.name} added")
    note(f"next: engine fit {spec.name}")


@models.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove NAME from your own list. Its files stay; shipped models cannot be removed."""
    own = _own()
    remaining = [spec for spec in own if spec.name.lower() != name.lower()]
    if len(remaining) == len(own):
        where = sanitize(name, max_chars=100, single_line=True)
        names = ", ".join(spec.name for spec in own[:5])
        hint = f"yours are {names}" if names else "it is empty"
        raise EngineError("your own list has no model of this name", code=ExitCode.MODEL, where=where, hint=hint)
    path = _write(remaining)
    print_json({"removed": name, "path": str(path)}) if as_json else line(f"{name} removed")


def _own() -> tuple[ModelSpec, ...]:
    """All entries of the person's file, also those that are of no use here: what is written keeps them."""
    from engine.models.user_catalog import read_entries

    return read_entries()


def _own_names() -> set[str]:
    """Names of the person's models that can be used, with a warning for the others."""
    from engine.models.user_catalog import read_user_catalog, unusable_entries

    if problem := unusable_entries():
        warn(problem)
    return {spec.name for spec in read_user_catalog()}


def _known() -> tuple[ModelSpec, ...]:
    from engine.models.catalog import load_catalog

    return load_catalog()


def _newest_first(specs: Iterable[ModelSpec], own: set[str]) -> list[ModelSpec]:
    """Your own, then by release, and the smallest first among those of one month."""
    from engine.models.catalog import listing_of

    def released(spec: ModelSpec) -> str:
        listed = listing_of(spec.name)
        return listed.released if listed and spec.name not in own else "9999-99"

    by_size = sorted(specs, key=lambda spec: (spec.sizes.loaded_parameters, spec.name))
    return sorted(by_size, key=released, reverse=True)


def _matches(spec: ModelSpec, family: str, licence: str, word: str) -> bool:
    named = not word or word in spec.name.lower() or word in spec.use_cases
    families = ("", spec.family.lower(), _stem(spec.family))
    return named and family in families and licence in ("", spec.licence.lower())


def _stem(family: str) -> str:
    """`qwen3` of qwen3_moe, `gemma3` of gemma3_text: a family without its variants."""
    return re.sub(r"(_vl)?(_moe)?(_text)?$", "", family.lower())


def _families_like(family: str | None) -> str:
    if not family:
        return ""
    known = sorted({_stem(spec.family) for spec in _known()})
    return "" if family.lower() in known else f"; families are {', '.join(known)}"


def _print_list(rows: list[dict[str, Any]]) -> None:
    """A line for each model; the last column is cut where the terminal ends."""
    cells = [
        (
            item["name"],
            _size(item["parameters"]),
            _context(item["context"]),
            item["released"] or "",
            ", ".join(filter(None, (marks(item), item["licence"]))),
        )
        for item in rows
    ]
    columns = width()
    for text in table(cells, header=("model", "size", "ctx", "release", "license"), right=(1, 2)):
        line(text if len(text) <= columns else f"{text[: columns - 1]}…")


def _size(parameters: int) -> str:
    """`8.19B`, `596M`."""
    return f"{parameters / 1e9:.3g}B" if parameters >= 999.5e6 else f"{parameters / 1e6:.3g}M"


def _context(tokens: int) -> str:
    """`128K` of 131,072 tokens."""
    if tokens >= 1_000_000:
        return f"{tokens / 1e6:.2g}M"
    return f"{tokens // 1024}K" if tokens >= 1024 else str(tokens)


def _listed(listed: Listing | None) -> dict[str, str | None]:
    return {"released": listed.released if listed else None, "modality": listed.modality if listed else None}


def _entry(model: str, name: str | None) -> ModelSpec:
    """The spec to store, read from local files, under a checked name."""
    from engine.models.resolve import cached_snapshot, local_path, read_directory, resolve_model
    from engine.models.user_catalog import check_name

    snapshot = cached_snapshot(model) if not local_path(model).exists() else None
    spec = read_directory(snapshot, name=model, source="cache") if snapshot else resolve_model(model)
    if spec.path is None or spec.source == "built-in":
        where, hint = (
            sanitize(model, max_chars=200, single_line=True),
            "give a directory, a .gguf file or a cached hub id",
        )
        raise EngineError("the model's files are not on this machine", code=ExitCode.MODEL, where=where, hint=hint)
    path = str(Path(spec.path).resolve())
    if sanitize(path, max_chars=4096, single_line=True) != path:
        raise EngineError("the path has control characters", code=ExitCode.MODEL, hint="rename the directory")
    if snapshot and name in (None, model):
        return replace(spec, name=check_name(model), path=None)
    own_name = Path(path).name.removesuffix(".gguf") if spec.source != "cache" else spec.name
    return replace(spec, name=check_name(name or own_name), path=path, source="directory" if snapshot else spec.source)


def _write(specs: list[ModelSpec]) -> Path:
    from engine.files import write_text_atomic
    from engine.models.catalog import forget_catalog
    from engine.models.user_catalog import format_user_catalog, user_catalog_path

    path = user_catalog_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, format_user_catalog(specs))
    except OSError as error:
        hint = "free space there, or set XDG_CONFIG_HOME to another folder"
        raise EngineError(
            f"your list of models cannot be written: {error.strerror}", code=ExitCode.DISK, where=str(path), hint=hint
        ) from None
    forget_catalog()
    return path


def row(spec: ModelSpec, own: set[str]) -> dict[str, Any]:
    """One model of the list; `path` is where its files are on this machine."""
    from engine.models.abilities import abilities_of
    from engine.models.catalog import listing_of
    from engine.models.resolve import cached_snapshot

    path = spec.path or cached_snapshot(spec.name)
    listed = None if spec.name in own else listing_of(spec.name)
    return {
        "name": spec.name,
        "family": spec.family,
        "parameters": spec.sizes.loaded_parameters,
        "tower_parameters": spec.sizes.tower_parameters,
        "context": spec.max_position_embeddings,
        "licence": spec.licence,
        "gated": spec.gated,
        **_listed(listed),
        "use_cases": list(spec.use_cases),
        "quality": spec.quality,
        "abilities": asdict(abilities_of(spec)),
        "own": spec.name in own,
        "path": str(path) if path else None,
    }


def marks(row: dict[str, Any]) -> str:
    """Marks of a row: yours, on disk, gated."""
    return ", ".join(text for key, text in (("own", "yours"), ("path", "on disk"), ("gated", "gated")) if row[key])


def breakdown(spec: ModelSpec) -> dict[str, int]:
    """Parameters by kind, their sum, the total in use, and the part that each token uses."""

    return {
        "linear": spec.sizes.linear_parameters,
        "experts": spec.sizes.expert_parameters,
        "embeddings": spec.sizes.embedding_parameters,
        "norms": spec.sizes.small_parameters,
        "computed": spec.sizes.computed_parameters,
        "towers": spec.sizes.tower_parameters,
        "total": spec.sizes.loaded_parameters,
        "active": spec.sizes.active_parameters,
    }


def facts(spec: ModelSpec, *, own: bool, listed: Listing | None) -> list[tuple[str, str]]:
    """Label and text of each line of `engine models show`."""
    from engine.models.abilities import abilities_of, describe_abilities
    from engine.models.resolve import describe_parameters

    heads = f"{spec.num_attention_heads} heads of {spec.head_dim}, {spec.num_key_value_heads} for keys and values"
    experts = f", {spec.num_experts} experts, {spec.num_experts_per_token} a token" if spec.num_experts else ""
    window = f", window {spec.sliding_window}" if spec.sliding_window else ""
    tied = "tied" if spec.tie_word_embeddings else "not tied"
    checked = f"checked against {listed.checked}" if listed and listed.checked else "not checked"
    source = "your own list" if own else f"shipped list, {checked}" if spec.source == "catalogue" else spec.source
    return [
        ("model", spec.name),
        ("family", spec.family),
        *([("released", listed.released), ("takes", listed.modality)] if listed else []),
        ("license", (spec.licence or "unknown") + (", gated" if spec.gated else "")),
        ("context", f"{spec.max_position_embeddings} tokens{window}"),
        ("layers", f"{spec.num_hidden_layers} of {spec.hidden_size}, feed-forward {spec.intermediate_size}{experts}"),
        ("attention", heads),
        ("vocabulary", f"{spec.vocab_size}, embeddings {tied}"),
        ("weights", spec.weights_dtype),
        ("works", describe_abilities(abilities_of(spec))),
        ("source", source),
        ("files", spec.path or "not on this machine"),
        ("parameters", describe_parameters(spec)),
    ]
