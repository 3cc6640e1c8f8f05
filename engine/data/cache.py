"""Cache of prepared data on disk, keyed by rows, settings, tokenizer, template and this code.

A folder is written under another name and renamed, so it is complete or absent. The least recently used folders are
deleted when the cache takes more than KEPT_BYTES; a run that has mapped their files keeps them until it ends.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from engine.data.chat import ChatTemplate, Tokenizer
from engine.data.files import data_error, open_data
from engine.data.sources import data_files
from engine.data.tokens import backend_of
from engine.errors import EngineError, ExitCode
from engine.io_errors import words_of
from engine.profile.schema import Profile

KEPT_BYTES = 20 * 1024**3
DONE = "done.json"
_BLOCK_BYTES = 1 << 20
_MADE_WITH = ("tokenizers", "transformers", "jinja2", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Origin:
    """The key of a preparation, and an upper bound of its rows: the lines of its text files."""

    key: str
    rows: int


def cache_root() -> Path:
    """`tunedeck/data` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tunedeck" / "data"


def origin_of(settings: Profile, tokenizer: Tokenizer, template: ChatTemplate, base_dir: Path) -> Origin:
    """The key of these rows under these settings. Reads every file once. Raises EngineError(DATA)."""
    digest, rows = hashlib.sha256(_code()), 0
    for part in (_settings_text(settings), _tokenizer_text(tokenizer), template.source, template.name):
        digest.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    for file in _files(settings, base_dir):
        content, lines = _content(file)
        # Reports name the files, so a copy elsewhere is another origin.
        digest.update(content + str(file).encode("utf-8", "surrogateescape"))
        rows += lines
    return Origin(digest.hexdigest()[:32], rows)


def _files(settings: Profile, base_dir: Path) -> list[Path]:
    data = settings.data
    found = [file for dataset in data.datasets for file in data_files(dataset, base_dir)]
    if data.validation_path is not None:
        moved = {"path": data.validation_path, "split": data.validation_split}
        found += data_files(data.datasets[0].model_copy(update=moved), base_dir)
    return found


def _content(path: Path) -> tuple[bytes, int]:
    digest, lines = hashlib.sha256(), 0
    with open_data(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.digest(), lines


def _settings_text(settings: Profile) -> str:
    model, train = settings.model, settings.train
    used = {
        "data": settings.data.model_dump(mode="json"),
        "model": [model.max_length, model.truncation_side, model.additional_special_tokens],
        "train": [train.objective, train.seed],
    }
    # In their own order: a template may write an argument's keys as they come.
    return json.dumps(used)


def _tokenizer_text(tokenizer: Tokenizer) -> str:
    marks = json.dumps({name: str(value) for name, value in tokenizer.special_tokens_map.items()}, sort_keys=True)
    return str(backend_of(tokenizer).to_str()) + marks


def _code() -> bytes:
    """These modules and the libraries that they stand on: other code may give other tokens."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _MADE_WITH).encode())
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.suffix in (".py", ".jinja"):
            digest.update(file.read_bytes())
    return digest.digest()


@contextmanager
def place(key: str, fill: Callable[[Path], None], warn: Callable[[str], None]) -> Iterator[tuple[Path, bool]]:
    """The folder of `key`, and whether it was there before; `fill` writes it where it was not.

    Without a folder that can be written the data go to a temporary one that lasts as long as the context.
    """
    root = cache_root()
    folder = root / key
    if _is_whole(folder):
        with suppress(OSError):
            os.utime(folder)
        yield folder, True
        return
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = Path(tempfile.mkdtemp(dir=root, prefix=".making-"))
    except OSError as error:
        warn(f"prepared data are not cached for the next run: {root} cannot be written ({words_of(error)})")
        with tempfile.TemporaryDirectory(prefix="tunedeck-data-") as name:
            _fill(Path(name), fill)
            yield Path(name), False
        return
    try:
        _fill(beside, fill)
        _settle(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _make_room(root, folder)
    yield folder, False


def _is_whole(folder: Path) -> bool:
    """Whether it was filled to the end and can be read: another user's cache is like none."""
    try:
        return (folder / DONE).is_file()
    except OSError:
        return False


def _fill(folder: Path, fill: Callable[[Path], None]) -> None:
    try:
        fill(folder)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = (
            "free space there, or set XDG_CACHE_HOME to a disk with room"
            if full
            else "check this disk, then start again"
        )
        message = (
            f"{'prepared data cannot be written' if full else 'preparing the data failed'}: {error.strerror or error}"
        )
        where = str(error.filename or folder.parent)
        raise EngineError(message, code=ExitCode.DISK, where=where, hint=hint) from error


def _settle(beside: Path, folder: Path) -> None:
    """Rename into place; if another process was first, its folder stays."""
    (beside / DONE).touch()
    try:
        os.replace(beside, folder)
    except OSError:
        if not (folder / DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(beside, folder)


def _make_room(root: Path, keep: Path) -> None:
    with suppress(OSError):
        entries = sorted(
            (entry for entry in root.iterdir() if entry != keep and not entry.name.startswith(".")),
            key=lambda entry: entry.stat().st_mtime,
        )
        sizes = {entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in [*entries, keep]}
        while entries and sum(sizes.values()) > KEPT_BYTES:
            oldest = entries.pop(0)
            del sizes[oldest]
            shutil.rmtree(oldest, ignore_errors=True)


def damaged(folder: Path, error: Exception) -> EngineError:
    """Delete a cached preparation that cannot be read, and return the error for it."""
    shutil.rmtree(folder, ignore_errors=True)
    return data_error(
        f"the cached data was damaged and is now deleted ({error})", where=str(folder), hint="start again"
    )
