"""Whether the base that an adapter names is the model of a profile.

Names differ where weights do not: a hub id, its snapshot in the cache, a copy in a folder. Folders that are both here
are compared by what is in them, everything else by name.
"""

from __future__ import annotations

import re
from pathlib import Path

from engine.models.spec import ModelSpec
from engine.runs.record import RunRecord

_SNAPSHOT = re.compile(r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots")
_QUANTIZED = re.compile(r"(-unsloth)?-bnb-4bit$")
"""Behind names of copies whose weights are stored in four bits."""
_PROBE_BYTES = 64 * 1024
_PROBES = 8


def same_base(written: str, asked: str, spec: ModelSpec | None, base_dir: Path, record: RunRecord | None) -> bool:
    """Whether `written`, of an adapter, means the model that a profile asks for. `record`: of the adapter's run."""
    both = _folders(written, asked, spec, base_dir, record)
    if both is not None:
        return both[0].resolve() == both[1].resolve() or _same_weights(*both)
    names = {_name(asked)} | ({_name(spec.name)} if spec is not None else set())
    return _name(written) in names


def by_name_alone(written: str, asked: str, spec: ModelSpec | None, base_dir: Path, record: RunRecord | None) -> bool:
    """Whether nothing but the last part of their names says that both are one."""
    if _folders(written, asked, spec, base_dir, record) is not None:
        return False
    return _whole(written) not in {_whole(asked), _whole(spec.name) if spec is not None else ""}


def _folders(
    written: str, asked: str, spec: ModelSpec | None, base_dir: Path, record: RunRecord | None
) -> tuple[Path, Path] | None:
    """Both, where both are here."""
    theirs = _folder(written, record.base_dir if record and record.base_dir else base_dir)
    ours = Path(spec.path) if spec is not None and spec.path else _folder(asked, base_dir)
    return (theirs, ours) if theirs is not None and ours is not None and ours.is_dir() else None


def _folder(text: str, base_dir: Path) -> Path | None:
    try:
        path = base_dir / Path(text).expanduser()
        return path if (path / "config.json").is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _name(text: str) -> str:
    """The last part of a hub id or path, small; of a snapshot in the cache, the name of its model."""
    return re.split(r"[/\\]", _whole(text))[-1]


def _whole(text: str) -> str:
    """A hub id or path, small; of a snapshot in the cache, the id of its model."""
    snapshot = _SNAPSHOT.search(text)
    return _QUANTIZED.sub("", (f"{snapshot[1]}/{snapshot[2]}" if snapshot else text.rstrip("/\\")).lower())


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold the same weight files, as far as samples of them tell."""
    ours, theirs = ({path.name: path for path in folder.glob("*.safetensors")} for folder in (one, other))
    return bool(ours) and ours.keys() == theirs.keys() and all(_alike(ours[name], theirs[name]) for name in ours)


def _alike(one: Path, other: Path) -> bool:
    try:
        size = one.stat().st_size
        if size != other.stat().st_size:
            return False
        with one.open("rb") as first, other.open("rb") as second:
            for number in range(_PROBES):
                at = max(0, size - _PROBE_BYTES) * number // (_PROBES - 1)
                first.seek(at)
                second.seek(at)
                if first.read(_PROBE_BYTES) != second.read(_PROBE_BYTES):
                    return False
    except OSError:
        return False
    return True
