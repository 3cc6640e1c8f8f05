"""From the `path` of a data set to its files: one file, a folder by the hub's conventions, or a set of the hub.

Rows are read by `rows.py`, whatever the source. Only data files are fetched, no code runs, and no file outside the
folder is opened, whatever its README says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.files import KINDS, data_error
from engine.profile.data_files import HUB, data_path, hub_reference
from engine.profile.file_patterns import is_pattern, matching_files

if TYPE_CHECKING:
    from engine.profile.schema import Dataset

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")
_FETCHED = ["README.md", *(f"*{suffix}" for suffix in KINDS)]


def data_files(dataset: Dataset, base_dir: Path) -> tuple[Path, ...]:
    """The files of a data set in their order. Raises EngineError(DATA)."""
    if dataset.path.startswith(HUB):
        return _folder_files(_from_hub(dataset.path), dataset)
    path = data_path(dataset.path, base_dir)
    if os.path.isdir(path):
        return _folder_files(path, dataset)
    return tuple(matching_files(path, tuple(KINDS))) if is_pattern(path) else (path,)


def _from_hub(path: str) -> Path:
    """The local copy of a set of the hub, fetched where it is not here yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, revision = hub_reference(path)
    wanted: dict[str, Any] = {"repo_type": "dataset", "revision": revision, "allow_patterns": _FETCHED}
    try:
        try:
            found = Path(snapshot_download(name, **wanted, local_files_only=True))
            if any(file.suffix in KINDS for file in found.rglob("*")) and not _missing_shards(found):
                return found
        except LocalEntryNotFoundError:
            pass
        found = Path(snapshot_download(name, **wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "check the name, or log in with 'hf auth login' for a gated set"
        raise data_error(f"'{name}' is not here and cannot be fetched: {first}", where=path, hint=hint) from error
    missing = _missing_shards(found)
    if missing:
        hint = f"fetch the rest (hf download --repo-type dataset {name}), or name the files that you mean by their path"
        raise data_error(f"only a part of '{name}' is here: {missing} files are missing", where=path, hint=hint)
    return found


def _missing_shards(folder: Path) -> int:
    """How many files of a numbered row (`train-00003-of-00010`) a copy lacks, as one that was cut off does."""
    rows: dict[tuple[str, ...], set[int]] = {}
    for file in folder.rglob("*"):
        shard = _SHARD.fullmatch(file.name)
        if shard and file.suffix in KINDS and file.exists():
            rows.setdefault((str(file.parent), shard[1], shard[3], shard[4]), set()).add(int(shard[2]))
    return sum(int(total) - len(found) for (_, _, total, _), found in rows.items())


def _folder_files(folder: Path, dataset: Dataset) -> tuple[Path, ...]:
    if (folder / "dataset_dict.json").is_file():
        folder = _inside(folder, [dataset.split])[0]
        if not folder.is_dir():
            raise data_error(f"no split '{dataset.split}'", where=str(folder.parent), hint=_splits(folder.parent))
    if (folder / "state.json").is_file():
        return _saved_files(folder)
    found = _by_convention(folder, dataset)
    if not found:
        raise data_error("no data files there", where=str(folder), hint=f"known: {', '.join(KINDS)}")
    return found


def _splits(folder: Path) -> str:
    return "it has " + ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _saved_files(folder: Path) -> tuple[Path, ...]:
    """What `datasets.Dataset.save_to_disk` wrote."""
    try:
        names = [str(item["filename"]) for item in json.loads((folder / "state.json").read_text())["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise data_error(f"not a saved data set: {error}", where=str(folder / "state.json")) from error
    return _inside(folder, names)


def _inside(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """The named files; by name, not by link: the files of a hub snapshot are links into the cache beside it."""
    found = []
    for name in names:
        file = Path(os.path.normpath(folder / name))
        if not file.is_relative_to(os.path.normpath(folder)) or "://" in name:
            raise data_error("names a file outside the folder", where=f"{folder}: {name}", hint="do not use this set")
        found.append(file)
    return tuple(found)


def _by_convention(folder: Path, dataset: Dataset) -> tuple[Path, ...]:
    """Files of the wanted split, by the README's configurations or else by their names, as `datasets` finds them."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern

    configured = _configured(folder, dataset)
    try:
        patterns = configured or get_data_patterns(str(folder))
    except EmptyDatasetError:
        return ()
    if dataset.split not in patterns:
        hint = f"it has {', '.join(map(str, patterns))}; name one with split = '…'"
        raise data_error(f"no split '{dataset.split}'", where=str(folder), hint=hint)
    _inside(folder, patterns[dataset.split])
    named: list[str] = []
    for pattern in patterns[dataset.split]:
        try:
            named += resolve_pattern(pattern, base_path=str(folder), allowed_extensions=list(KINDS))
        except FileNotFoundError:
            continue
    return _inside(folder, dict.fromkeys(named))


def _configured(folder: Path, dataset: Dataset) -> dict[str, list[str]]:
    """Split -> patterns of the subset that the README names; empty where it names none."""
    from datasets.data_files import sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData
    from huggingface_hub.repocard import metadata_load

    readme = folder / "README.md"
    try:
        known = MetadataConfigs.from_dataset_card_data(DatasetCardData(**(metadata_load(readme) or {})))
    except (OSError, ValueError, TypeError):
        known = MetadataConfigs()
    subsets = {name: config for name, config in known.items() if config.get("data_files")}
    if not subsets and dataset.subset is None:
        return {}
    wanted = dataset.subset or known.get_default_config_name() or (next(iter(subsets)) if len(subsets) == 1 else None)
    if wanted not in subsets:
        what = f"no subset '{wanted}'" if wanted else "there are several subsets"
        hint = f"it has {', '.join(subsets) or 'none'}; name one with subset = '…'"
        raise data_error(what, where=str(folder), hint=hint)
    return {str(split): list(found) for split, found in sanitize_patterns(subsets[wanted]["data_files"]).items()}
