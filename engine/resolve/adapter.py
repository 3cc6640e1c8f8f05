"""An adapter that a run begins with: found, read, and compared with the profile that names it.

What the adapter fixes (rank, scale, targets) comes from its own configuration; a profile that says otherwise, or names
another base, is refused before anything is loaded. Not here: loading it (`engine.modeling.adapters`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.errors import EngineError, ExitCode
from engine.models.spec import ModelSpec
from engine.nearby import did_you_mean
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile
from engine.profile.schema import Profile
from engine.profile.tables.tuning import Lora
from engine.resolve.base_of_adapter import by_name_alone, same_base
from engine.runs import store
from engine.runs.record import RUN_FILE, RunRecord, load_record, summary_or_empty
from engine.runs.start import ADAPTER, Start, adapter_files
from engine.runs.state import LIVE_STATES, run_state
from engine.text import sanitize

KEY = "tuning.adapter"
_TOKENS = "model.additional_special_tokens"
"""Their order counts: it gives them their numbers."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MOST_BYTES = 4 * 1024 * 1024
_MOST_TARGETS = 512
_ALPHA = 8
"""PEFT's own `lora_alpha`, where a configuration has none."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` that leave another base behind than the one that the adapter names."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder. `record`: of the run that made it, where one did."""

    folder: Path
    config: Mapping[str, Any]
    run: str = ""
    step: int | None = None
    record: RunRecord | None = field(default=None, compare=False)

    def start(self) -> Start:
        """What a run's record says of it."""
        path = str(self.folder)
        return Start(kind=ADAPTER, run=self.run, path=path, step=self.step, files=adapter_files(self.folder))

    @property
    def named(self) -> str:
        """The adapter in words."""
        return f"the adapter of run {self.run}" if self.run else f"the adapter in {self.folder}"


def find_adapter(reference: str, base_dir: Path) -> Adapter:
    """The adapter in a folder, in a run's folder, or of a finished run by name.

    Raises EngineError(MODEL) where there is none that training can start from.
    """
    # Neither raises for a user or a name that cannot be, as Path's own do.
    path = base_dir / os.path.expanduser(reference)
    if os.path.isdir(path):
        folder = path if (path / CONFIG).is_file() or not (path / "adapter").is_dir() else path / "adapter"
    else:
        folder = _of_run(reference, path)
    made_by = store.Run(folder.parent.name, folder.parent) if (folder.parent / RUN_FILE).is_file() else None
    if made_by is not None and run_state(made_by) in LIVE_STATES:
        raise _error(f"run {made_by.id} is still at work", str(folder), "wait for its end", ExitCode.RESOURCES)
    config = _read_config(folder)
    if not (folder / WEIGHTS).is_file():
        other = "its weights are a pickle: save them as safetensors" if (folder / "adapter_model.bin").exists() else ""
        raise _error(f"the adapter has no {WEIGHTS}", str(folder), other or "name a folder that has both files")
    if made_by is None:
        return Adapter(folder, config)
    record = load_record(made_by.path)
    known = record if isinstance(record, RunRecord) else None
    return Adapter(folder, config, made_by.id, summary_or_empty(made_by.path).weights_step, known)


def _of_run(reference: str, path: Path) -> Path:
    try:
        run = store.find_run(reference)
    except EngineError as error:
        near = did_you_mean(path)
        hint = near or "name a folder with an adapter_config.json, or a run of 'engine runs list'"
        several = "names" in error.message
        message = error.message if several else "there is neither such a folder nor such a run"
        raise _error(message, str(path), error.hint if several else hint) from None
    folder = run.path / "adapter"
    if folder.is_dir():
        return folder
    why = "trained the base itself" if (run.path / "model").is_dir() else "has saved no adapter"
    hint = f"resume it: engine runs resume {run.id}"
    if (run.path / "model").is_dir():
        hint = f"go on from its weights: engine runs branch {run.id}"
    raise _error(f"run {run.id} {why} ({run_state(run)})", str(run.path), hint)


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        text = path.read_bytes()[: _MOST_BYTES + 1]
        found = json.loads(text) if len(text) <= _MOST_BYTES else None
    except FileNotFoundError:
        raise _error(f"the folder holds no {CONFIG}", str(folder), "name the folder of an adapter") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _error(f"{CONFIG} cannot be read: {error}", str(folder), "save the adapter again") from None
    if not isinstance(found, dict):
        raise _error(f"{CONFIG} holds no object", str(folder), "save the adapter again")
    _refuse_kind(found, folder)
    return found


def _refuse_kind(config: Mapping[str, Any], folder: Path) -> None:
    kind, begun = str(config.get("peft_type")), str(config.get("init_lora_weights"))
    if kind != "LORA":
        raise _error(f"the adapter is of the kind {kind}", str(folder), "training goes on from LoRA adapters alone")
    if begun.lower().startswith(_CHANGES_BASE):
        hint = "save it converted to plain LoRA (PEFT: path_initial_model_for_weight_conversion)"
        raise _error(f"the adapter stands on a base that '{begun}' has changed", str(folder), hint)
    for key in ("alora_invocation_tokens", "layer_replication", "arrow_config"):
        if config.get(key):
            raise _error(f"the adapter uses {key}", str(folder), "training goes on from plain LoRA adapters alone")
    if not isinstance(config.get("r"), int) or config["r"] < 1:
        raise _error(f"{CONFIG} names no rank", str(folder), "save the adapter again")
    alpha = config.get("lora_alpha", _ALPHA)
    if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise _error(f"{CONFIG} names no scale: lora_alpha is {alpha!r}", str(folder), "save the adapter again")


def _error(message: str, where: str, hint: str, code: ExitCode = ExitCode.MODEL) -> EngineError:
    text, place = (sanitize(words, max_chars=300, single_line=True) for words in (message, where))
    return EngineError(text, code=code, where=place, hint=hint)


def fixed_settings(adapter: Adapter, spec: ModelSpec | None) -> dict[str, Any]:
    """Settings that the adapter decides, by key; only those that a profile can hold."""
    config = adapter.config
    found: dict[str, Any] = {
        "tuning.method": "lora",
        "lora.r": int(config["r"]),
        "lora.alpha": float(config.get("lora_alpha", _ALPHA)),
        "lora.target_modules": _targets(config, spec),
        "lora.modules_to_save": sorted(_names(config.get("modules_to_save")) - {"score", "classifier"}),
        "lora.bias": config.get("bias") or "none",
        "lora.use_rslora": bool(config.get("use_rslora")),
        "lora.use_dora": bool(config.get("use_dora")),
        "lora.experts": bool(config.get("target_parameters")),
        "lora.init": "default",
    }
    tokens = adapter.record.setting(_TOKENS) if adapter.record else None
    return found | ({_TOKENS: list(tokens)} if tokens else {})


def decided_by(adapter: Adapter, spec: ModelSpec | None, asked: Profile) -> dict[str, tuple[Any, str]]:
    """The same with the reason, as choices; what the profile as it was asked for has anyway is left out."""
    tree, why = asked.model_dump(), f"as {adapter.named} has it"
    found = {}
    for key, value in fixed_settings(adapter, spec).items():
        table, _, name = key.partition(".")
        if tree[table][name] != value:
            found[key] = (value, why)
    return found


def _names(found: Any) -> set[str]:
    return {str(name) for name in found} if isinstance(found, list) else set()


def _targets(config: Mapping[str, Any], spec: ModelSpec | None) -> Any:
    """The targets as a profile has them; `all-linear` for all of the model, and for a pattern that no list can be."""
    names = _names(config.get("target_modules"))
    every = set(spec.all_linear) if spec is not None else set()
    if not names or len(names) > _MOST_TARGETS or (every and every <= names):
        return "all-linear"
    return sorted(names)


def with_adapter(loaded: LoadedProfile, adapter: Adapter, spec: ModelSpec | None) -> LoadedProfile:
    """The profile with what the adapter decides in place of what nobody has said."""
    fixed = fixed_settings(adapter, spec)

    def filled(profile: Profile | None) -> Profile | None:
        if profile is None:
            return None
        tree = profile.model_dump()
        for key, value in fixed.items():
            table, _, name = key.partition(".")
            if key not in loaded.given or tree[table][name] == "auto":
                tree[table][name] = value
        return Profile.model_validate(tree)

    return replace(loaded, profile=filled(loaded.profile), partial=filled(loaded.partial))


def adapter_findings(loaded: LoadedProfile, adapter: Adapter, spec: ModelSpec | None) -> Iterator[Finding]:
    """Where the profile asks for something that cannot be together with its adapter."""
    profile = loaded.partial
    if profile is None:
        return
    if loaded.is_given("tuning.method") and profile.tuning.method in ("full", "freeze"):
        message = f"tuning.method = '{profile.tuning.method}' trains the base itself and has no adapter to start from"
        hint = "set tuning.method = 'lora', or merge the adapter (engine export) and name that as the model"
        yield finding(loaded, KEY, message, hint, value=profile.tuning.adapter)
        return
    objective = profile.train.objective
    if adapter.config.get("task_type") == "SEQ_CLS" and objective != "reward" and loaded.is_sound("train.objective"):
        message = f"{adapter.named} scores answers, and train.objective is '{objective}'"
        yield finding(loaded, KEY, message, "name an adapter that answers", value=profile.tuning.adapter)
    yield from _base(loaded, profile, adapter, spec)
    yield from _out_of_range(loaded, profile, adapter, spec)
    yield from _disagreements(loaded, profile, adapter, spec)


def _base(loaded: LoadedProfile, profile: Profile, adapter: Adapter, spec: ModelSpec | None) -> Iterator[Finding]:
    written, revision = adapter.config.get("base_model_name_or_path"), adapter.config.get("revision")
    asked = profile.model.name_or_path
    if profile.model.initialise == "random":
        message = "an adapter was trained on weights, and model.initialise is 'random'"
        yield finding(loaded, KEY, message, "leave one of the two out", value=profile.tuning.adapter)
    elif not written:
        message = f"{adapter.named} does not say which base it was trained on"
        yield finding(loaded, KEY, message, f"make sure that it is {asked}", is_warning=True)
    elif not same_base(str(written), asked, spec, loaded.base_dir, adapter.record):
        message = f"{adapter.named} was trained on '{written}', and the profile's model is '{asked}'"
        hint = f"set model.name_or_path = '{written}'; if both are the same weights, correct {CONFIG}"
        yield finding(loaded, KEY, message, hint, value=profile.tuning.adapter, code=ExitCode.MODEL)
    elif revision and revision != profile.model.revision:
        message = f"{adapter.named} was trained on revision '{revision}' of its base"
        hint = f"set model.revision = '{revision}'"
        yield finding(loaded, KEY, message, hint, value=profile.tuning.adapter, code=ExitCode.MODEL)
    elif by_name_alone(str(written), asked, spec, loaded.base_dir, adapter.record):
        message = f"{adapter.named} was trained on '{written}', and only that name says that it is '{asked}'"
        yield finding(loaded, KEY, message, "make sure that both are the same weights", is_warning=True)


def _out_of_range(
    loaded: LoadedProfile, profile: Profile, adapter: Adapter, spec: ModelSpec | None
) -> Iterator[Finding]:
    """Values that no profile can have, such as a rank of thousands."""
    lora = {key.partition(".")[2]: value for key, value in fixed_settings(adapter, spec).items() if key[:5] == "lora."}
    try:
        Lora.model_validate(lora)
    except ValidationError as error:
        first = {str(detail["loc"][0]): detail["msg"] for detail in reversed(error.errors(include_url=False))}
        for name, why in first.items():
            message = f"{adapter.named} has lora.{name} = {_shown(lora[name])}: {why[:1].lower()}{why[1:]}"
            hint = "merge it into its base with PEFT, and name that as the model"
            yield finding(loaded, KEY, message, hint, value=profile.tuning.adapter, code=ExitCode.MODEL)


def _disagreements(
    loaded: LoadedProfile, profile: Profile, adapter: Adapter, spec: ModelSpec | None
) -> Iterator[Finding]:
    tree = profile.model_dump()
    for key, value in fixed_settings(adapter, spec).items():
        table, _, name = key.partition(".")
        asked = tree[table][name]
        same = asked == value if key == _TOKENS else _plain(asked) == _plain(value)
        if key == "tuning.method" or not loaded.is_given(key) or same:
            continue
        message = f"{adapter.named} has {_shown(value)}, not {_shown(asked)}"
        yield finding(loaded, key, message, "leave it out: it comes from the adapter", value=asked)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return sanitize(text, max_chars=120, single_line=True) or "none"
