"""One or more training files of another tool as a draft of a profile, with every loss named.

Later files win over earlier ones. Nothing here loads data or models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.data_files import BUILT_IN, HUB
from engine.profile.foreign import (
    axolotl,
    axolotl_data,
    dataset_info,
    llamafactory,
    llamafactory_v1,
    shared,
    trl,
    trl_data,
    trl_sections,
)
from engine.profile.foreign.closing import close
from engine.profile.foreign.draft import Draft, Rules, apply_rules, listed
from engine.profile.foreign.yamltext import Entry, read_yaml
from engine.profile.overrides import put
from engine.profile.schema_problems import validate
from engine.profile.tomltext import shown_path


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one tool's files are read."""

    name: str
    tool: str
    rules: Rules
    attach_data: Callable[[Draft, Sequence[Path], Path | None], None]
    decide: Callable[[Draft], None]
    finish: Callable[[Draft], None]
    null_matters: frozenset[str] = frozenset()


DIALECTS = {
    "llamafactory": Dialect(
        "llamafactory",
        llamafactory.TOOL,
        llamafactory.RULES,
        dataset_info.attach_data,
        llamafactory.decide,
        llamafactory.finish,
        llamafactory.NULL_MATTERS,
    ),
    "axolotl": Dialect(
        "axolotl", axolotl.TOOL, axolotl.RULES, axolotl_data.attach_data, axolotl.decide, axolotl.finish
    ),
    "llamafactory-v1": Dialect(
        "llamafactory-v1",
        llamafactory.TOOL,
        llamafactory_v1.RULES,
        llamafactory_v1.attach_data,
        llamafactory_v1.decide,
        llamafactory_v1.finish,
        llamafactory.NULL_MATTERS,
    ),
    "trl": Dialect("trl", trl.TOOL, trl.RULES, trl_data.attach_data, trl.decide, trl.finish, trl.NULL_MATTERS),
}


def read_draft(
    files: Sequence[Path],
    *,
    dialect: str | None = None,
    dataset_dir: Path | None = None,
    model: str | None = None,
    data: Path | None = None,
) -> Draft:
    """The files as a draft. `model` and `data` stand in for what they leave out or name otherwise.

    Raises EngineError(PROFILE) for files that cannot be read or name no model or data.
    """
    entries = {entry.key: entry for file in files for entry in read_yaml(file)}
    chosen = DIALECTS[dialect] if dialect else recognise(entries, files)
    if chosen.name == "llamafactory" and llamafactory_v1.is_newer(entries):
        chosen = DIALECTS["llamafactory-v1"]
    draft = _opened(chosen, entries)
    draft.folders = (Path.cwd(), *(file.absolute().parent for file in files))
    apply_rules(draft, chosen.rules, chosen.null_matters)
    chosen.decide(draft)
    chosen.attach_data(draft, draft.folders, dataset_dir)
    _lines_of_text(draft)
    chosen.finish(draft)
    shared.adapter_decides(draft)
    _stand_in(draft, model, data)
    _refuse_incomplete(draft, files)
    _drop_refused(draft)
    close(draft, chosen.rules)
    return draft


def _lines_of_text(draft: Draft) -> None:
    """Of a text file, these tools take each line for an example."""
    for entry in draft.settings.get("data.datasets", []):
        if Path(entry["path"]).suffix == ".txt":
            entry["documents"] = "line"


def _opened(chosen: Dialect, entries: dict[str, Entry]) -> Draft:
    """An empty draft; sections of TRL's arguments are opened first."""
    if chosen.name != "trl":
        return Draft(chosen.tool, entries)
    found, twice, objective = trl_sections.flat(entries)
    draft = Draft(chosen.tool, found)
    if objective:
        draft.put("train.objective", objective, "the name of a section")
    for place, entry in twice.items():
        draft.told[place] = entry.value
        kept = listed(found[entry.key].value, entry.key)
        draft.note("left out", place, f"{listed(entry.value, entry.key)}: {entry.key} = {kept} comes first")
    return draft


def _stand_in(draft: Draft, model: str | None, data: Path | None) -> None:
    """What the command line says in place of the files."""
    given: dict[str, tuple[Any, str]] = {}
    if model is not None:
        given["model.name_or_path"] = (shared.model_path(draft, model), "--model")
    if data is not None:
        path = str(data) if str(data).startswith((BUILT_IN, HUB)) else str(data.absolute())
        given["data.datasets"] = ([{"path": path}], "--data")
    for key, (value, origin) in given.items():
        before = draft.origins.get(key, "")
        if before in draft.entries and draft.settings[key] != value:
            draft.note("changed", before, f"{listed(draft.value(before))}: {origin} says otherwise")
        draft.put(key, value, origin)


def recognise(entries: dict[str, Entry], files: Sequence[Path]) -> Dialect:
    """The tool whose keys these are. Raises EngineError(PROFILE) when no tool knows most of them."""
    if not entries:
        hint = "give a training file of LLaMA-Factory, Axolotl, TRL or Unsloth"
        raise EngineError("holds no settings", code=ExitCode.PROFILE, where=shown_path(files[0]), hint=hint)
    newer = llamafactory_v1.is_newer(entries)
    tried = [DIALECTS["llamafactory-v1" if newer else "llamafactory"], DIALECTS["axolotl"], DIALECTS["trl"]]
    keys = {dialect.name: list(entries) for dialect in tried} | {"trl": list(trl_sections.flat(entries)[0])}
    known = {dialect.name: sum(key in dialect.rules for key in keys[dialect.name]) for dialect in tried}
    best = max(tried, key=lambda dialect: known[dialect.name] / max(1, len(keys[dialect.name])))
    count = len(keys[best.name])
    if 2 * known[best.name] < count:
        raise EngineError(
            f"{known[best.name]} of {count} keys are {best.tool}'s, the others are not known",
            code=ExitCode.PROFILE,
            where=shown_path(files[0]),
            hint="give a training file of LLaMA-Factory, Axolotl, TRL or Unsloth",
        )
    return best


def _refuse_incomplete(draft: Draft, files: Sequence[Path]) -> None:
    needs = {"model.name_or_path": "no model: give --model", "data.datasets": "no training data: give --data"}
    unread = [f" ({note})" for note in draft.notes if note.key == "train_dataset" and note.kind == "left out"]
    needs["data.datasets"] += "".join(unread)
    lacking = [message for key, message in needs.items() if key not in draft.settings]
    if lacking:
        raise EngineError(
            f"names {'; '.join(lacking)}",
            code=ExitCode.PROFILE,
            where=shown_path(files[0]),
            hint="or import it together with the file that names them",
        )


def _drop_refused(draft: Draft) -> None:
    """Leave out values that a profile does not take, such as a rank of 0, each with the reason."""
    for problem in validate(tree_of(draft.settings), lambda key: (key, None)).problems:
        message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
        key = next((key for key in draft.settings if problem.key == key or problem.key.startswith(f"{key}.")), "")
        if key == "data.datasets" and _drop_from_entry(draft.settings[key], problem.key):
            draft.note("left out", draft.origins[key], message)
        elif key in ("", "model.name_or_path", "data.datasets"):
            raise EngineError(str(problem), code=ExitCode.PROFILE, hint="correct it in the other tool's file")
        else:
            origin = draft.origins[key]
            draft.note("left out", origin if origin in draft.entries else key, message)
            del draft.settings[key]


def _drop_from_entry(entries: list[dict[str, Any]], key: str) -> bool:
    """Take `data.datasets.N.name` out of its entry; False when the entry cannot do without."""
    _, _, number, name, *_ = [*key.split("."), "", ""]
    if name in ("", "path"):
        return False
    entries[int(number)].pop(name, None)
    return True


def tree_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested tables."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        put(tree, key, value)
    return tree
