"""The data files that a profile names: where they are, and whether they can be read at all.

Not here: their content (`engine.data`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.nearby import did_you_mean
from engine.profile.file_patterns import is_pattern, matching_files
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile
from engine.profile.template_file import is_template_file, read_template
from engine.text import sanitize

BUILT_IN = "demo:"
HUB = "hub:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,200})?")
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
TEXT_SUFFIX = ".txt"
_PACKED = {".gz": "gunzip -k", ".zst": "unzstd", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zip": "unzip"}


def data_path(path: str, base_dir: Path) -> Path:
    """The file behind a profile's data path: relative to the profile's folder, `~`, or `demo:NAME`.

    Raises EngineError(DATA) for a built-in name that does not exist.
    """
    if path.startswith(BUILT_IN):
        from engine.demo.paths import data_file

        return data_file(path.removeprefix(BUILT_IN))
    try:
        return base_dir / Path(path).expanduser()
    except RuntimeError:
        return base_dir / path


def hub_reference(path: str) -> tuple[str, str | None]:
    """(OWNER/NAME, revision) of `hub:OWNER/NAME@REVISION`. Raises EngineError(DATA)."""
    name = path.removeprefix(HUB)
    if not _HUB_NAME.fullmatch(name):
        hint = "write hub:OWNER/NAME, with @REVISION behind it for one state of the set"
        raise EngineError(f"no name of the hub: '{name[:200]}'", code=ExitCode.DATA, where=path[:200], hint=hint)
    name, _, revision = name.partition("@")
    return name, revision or None


def check_data_files(loaded: LoadedProfile) -> Iterator[Finding]:
    """Findings about every data file of the profile, each with the absolute path that was tried."""
    profile = loaded.partial
    if profile is None:
        return
    yield from _template_file(loaded, profile.data.template)
    named = [
        (f"data.datasets.{number}.path", item.path, f"{item.subset} {item.split}")
        for number, item in enumerate(profile.data.datasets)
    ]
    if profile.data.validation_path is not None:
        part = f"{profile.data.datasets[0].subset} {profile.data.validation_split}"
        named.append(("data.validation_path", profile.data.validation_path, part))
    named += [(f"evaluate.sets.{name}", path, name) for name, path in profile.evaluate.sets.items()]
    sound = [(key, path, part) for key, path, part in named if loaded.is_sound(key)]
    readable = []
    for key, path, part in sound:
        message, hint = data_trouble(path, loaded.base_dir)
        if message:
            yield finding(loaded, key, message, hint, value=path, code=ExitCode.DATA)
            continue
        readable.append((key, path, part))
        yield from _needless_part(loaded, key, path)
        if path.startswith(HUB) and not _is_cached(path):
            fetch = f"training fetches it; to do it before: hf download --repo-type dataset {hub_reference(path)[0]}"
            yield finding(loaded, key, "the data set is not on this machine", fetch, value=path, is_warning=True)
    yield from _repeated(loaded, readable)


def _needless_part(loaded: LoadedProfile, key: str, path: str) -> Iterator[Finding]:
    """A split or subset of what has none: rows that were asked for would be others than those that are read."""
    profile = loaded.partial
    if profile is None or not key.startswith("data.datasets."):
        return
    item = profile.data.datasets[int(key.split(".")[2])]
    for name in parts_of_a_file(path, loaded.base_dir, item.split, item.subset):
        value = getattr(item, name)
        hint = f"remove {name}, or name the file that holds these rows; folders and sets of the hub have parts"
        where = key.removesuffix("path") + name
        yield finding(loaded, where, f"a file has no {name}", hint, value=value, code=ExitCode.DATA)


def parts_of_a_file(path: str, base_dir: Path, split: str, subset: str | None) -> list[str]:
    """`split` or `subset` where they ask for a part of a plain file, which has none."""
    if path.startswith(HUB) or os.path.isdir(data_path(path, base_dir)):
        return []
    return [name for name, asked in (("split", split != "train"), ("subset", subset is not None)) if asked]


def _template_file(loaded: LoadedProfile, name: str) -> Iterator[Finding]:
    if not is_template_file(name) or not loaded.is_sound("data.template"):
        return
    try:
        read_template(name, loaded.base_dir)
    except EngineError as error:
        yield finding(loaded, "data.template", error.message, error.hint, value=name)


def _is_cached(path: str) -> bool:
    from engine.models.resolve import hub_cache

    owner, _, name = hub_reference(path)[0].partition("/")
    return (hub_cache() / f"datasets--{owner}--{name}" / "snapshots").is_dir()


def data_trouble(path: str, base_dir: Path) -> tuple[str, str]:
    """Why data cannot be read from a path, and what to do; two empty texts when they can be, or are on the hub."""
    try:
        if path.startswith(HUB):
            hub_reference(path)
            return "", ""
        file = data_path(path, base_dir)
        if is_pattern(file):
            for found in matching_files(file, SUFFIXES):
                trouble = _file_trouble(found)
                if trouble[0]:
                    return trouble
            return "", ""
    except EngineError as error:
        return error.message, error.hint
    return _file_trouble(file)


def _file_trouble(file: Path) -> tuple[str, str]:
    shown = sanitize(os.path.normpath(file.absolute()), max_chars=300, single_line=True)
    if os.path.isdir(file):
        return ("", "") if any(file.iterdir()) else (f"the folder {shown} is empty", "put data files into it")
    near = "" if os.path.lexists(file) else did_you_mean(file)
    packer = _PACKED.get(file.suffix.lower())
    if packer is not None and not near:
        return f"{shown} is packed", f"unpack it first: {packer} {sanitize(file.name, max_chars=100, single_line=True)}"
    if file.suffix.lower() not in (*SUFFIXES, TEXT_SUFFIX) and not near:
        return f"{shown} is none of {', '.join(SUFFIXES)}, {TEXT_SUFFIX}", "convert it to one of these"
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no file" if missing else f"cannot look at ({getattr(error, 'strerror', None) or 'bad path'})"
        return f"{reason} {shown}", near or "check the path; it is relative to the profile's folder"
    if not stat.S_ISREG(status.st_mode):
        return f"{shown} is not a file", "name one file; several go into [[data.datasets]] entries of their own"
    if not os.access(file, os.R_OK):
        return f"{shown} may not be read", "change its permissions"
    if status.st_size == 0:
        return f"{shown} is empty", "put examples into it"
    return "", ""


def _repeated(loaded: LoadedProfile, named: list[tuple[str, str, str]]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for key, path, part in named:
        same = os.path.normpath(path)
        if path.startswith(HUB) or os.path.isdir(data_path(path, loaded.base_dir)):
            same = f"{same} {part}"
        if same in seen:
            message = f"the same file as {seen[same]}"
            hint = "held-out examples that were trained on prove nothing"
            if not key.startswith(("data.validation_path", "evaluate.sets")):
                hint = "its examples count twice"
            yield finding(loaded, key, message, hint, value=path, is_warning=True)
        seen.setdefault(same, key)
