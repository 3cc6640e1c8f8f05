"""A finished export on the Hugging Face hub, when the user names a repository.

The token comes from HF_TOKEN or the stored login, never from a profile, and is neither shown nor written. Nothing here
imports torch; huggingface_hub is loaded when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.export.clean import redact
from engine.export.formats import QUANTIZED
from engine.export.report import MARK_FILE, PARITY_FILE
from engine.text import SECRET, format_bytes, sanitize

STAYS = (MARK_FILE, PARITY_FILE, "parity.txt")
"""Not uploaded: the reports quote held-out rows."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SCANNED = (".md", ".json", ".jinja", "Modelfile")
_VOCABULARY = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class Upload:
    """One file: its path in the repository, where it is here, and its size."""

    path: str
    local: Path
    size_bytes: int


@dataclass(slots=True)
class Hub:
    """A repository that may be written, with the connection and the token for it."""

    repo: str
    api: Any = field(repr=False)
    token: str = field(repr=False)


def connect(repo: str) -> Hub:
    """A checked way to `repo` (OWNER/NAME), before anything long begins.

    Raises EngineError: PROFILE for a bad name, ENVIRONMENT without token, network or a place among the owner's.
    """
    if not _NAME.fullmatch(repo) or ".." in repo or "--" in repo:
        raise EngineError(
            f"'{sanitize(repo, max_chars=100, single_line=True)}' is no name on the hub",
            code=ExitCode.PROFILE,
            where="--push",
            hint="OWNER/NAME",
        )
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise EngineError(
            "no token for the hub",
            code=ExitCode.ENVIRONMENT,
            where="--push",
            hint="set HF_TOKEN to one that may write, or log in with 'hf auth login'",
        )
    hub = Hub(repo, HfApi(token=token), token)
    with _errors(hub, "nothing was exported"):
        known = hub.api.whoami()
    names = [str(known.get("name", "")), *(str(part.get("name", "")) for part in known.get("orgs") or [])]
    owner = repo.partition("/")[0]
    if owner.lower() not in (name.lower() for name in names):
        raise EngineError(
            f"the token is not {owner}'s, nor that of a member",
            code=ExitCode.ENVIRONMENT,
            where="--push",
            hint=f"it may write for: {', '.join(sanitize(name, max_chars=60, single_line=True) for name in names)}",
        )
    return hub


def files_of(export: Path) -> list[Upload]:
    """What of an export goes up: its main model at the top, every other format in a folder of its own.

    Raises EngineError(DATA) for a file that holds something like a token.
    """
    main = "merged" if (export / "merged").is_dir() else "adapter"
    found = []
    for local in sorted(path for path in export.rglob("*") if path.is_file()):
        path = local.relative_to(export).as_posix()
        if path in STAYS:
            continue
        _refuse_secrets(local, path)
        found.append(Upload(path.removeprefix(f"{main}/"), local, local.stat().st_size))
    return found


def _refuse_secrets(local: Path, path: str) -> None:
    if local.name.endswith(_SCANNED) and local.name not in _VOCABULARY:
        text = local.read_text(encoding="utf-8", errors="replace")
        if SECRET.search(text):
            raise EngineError(
                "a file of the export holds what looks like a token",
                code=ExitCode.DATA,
                where=path,
                hint="nothing was uploaded: take it out of the system message or the chat template, then export again",
            )


def listing(files: list[Upload], repo: str, *, public: bool) -> list[str]:
    """Lines that say what goes where, and what stays."""
    total = format_bytes(sum(file.size_bytes for file in files))
    kind = "public" if public else "private"
    lines = [f"to {repo} ({kind}): {len(files)} files, {total}"]
    lines += [f"  {format_bytes(file.size_bytes):>9}  {file.path}" for file in files]
    return [*lines, f"  {', '.join(STAYS)} stay here: they quote held-out rows"]


def upload(hub: Hub, export: Path, files: list[Upload], *, public: bool) -> dict[str, Any]:
    """One commit with all files; the repository's address and what it holds now.

    Raises EngineError(ENVIRONMENT); the export itself stands.
    """
    from huggingface_hub import CommitOperationAdd

    with _errors(hub, f"the export itself is whole, at {export}"):
        hub.api.create_repo(hub.repo, private=not public, exist_ok=True)
        if not public and not hub.api.repo_info(hub.repo).private:
            raise EngineError(
                f"{hub.repo} is public already",
                code=ExitCode.ENVIRONMENT,
                where="--push",
                hint="say --public, or choose another name; nothing was uploaded",
            )
        operations = [
            CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=_content(file, export)) for file in files
        ]
        done = hub.api.create_commit(hub.repo, operations, commit_message="Export by Tunedeck")
    return {
        "repo": hub.repo,
        "url": str(done.repo_url),
        "private": not public,
        "files": len(files),
        "bytes": sum(file.size_bytes for file in files),
    }


def _content(file: Upload, export: Path) -> str | bytes:
    """The file's path, or for the card at the top its text with the other formats named."""
    if file.path != "README.md":
        return str(file.local)
    here = file.local.parent.name
    also = [name for name in ("adapter", *QUANTIZED, "gguf") if name != here and (export / name).is_dir()]
    text = file.local.read_text(encoding="utf-8")
    if also:
        lines = "\n".join(f"- `{name}/`" for name in also)
        how = "Load them with `subfolder=` in every call that takes the name, otherwise as their own cards say."
        text += f"\n## Other formats here\n\n{lines}\n\n{how}\n"
    return text.encode("utf-8")


@contextmanager
def _errors(hub: Hub, stands: str) -> Iterator[None]:
    """What huggingface_hub and its HTTP client raise, as EngineError(ENVIRONMENT) without the token."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        from_client = type(error).__module__.partition(".")[0] in ("huggingface_hub", "httpx", "httpx2", "hf_xet")
        if not from_client and not isinstance(error, OSError):
            raise
        message, hint = _told(error, status, hub)
        raise EngineError(message, code=ExitCode.ENVIRONMENT, where="--push", hint=f"{hint}; {stands}") from None


def _told(error: Exception, status: int | None, hub: Hub) -> tuple[str, str]:
    if status == 401:
        return "the hub does not know this token", "make a new one under Settings, Access Tokens"
    if status == 403:
        return f"this token may not write to {hub.repo}", "it needs the permission to write"
    text = redact(str(error).replace(hub.token, "[secret]"))
    first = sanitize((text.strip().splitlines() or [type(error).__name__])[0], max_chars=200, single_line=True)
    if status is None:
        return f"the hub cannot be reached: {first}", "look at the network, HF_ENDPOINT and HF_HUB_OFFLINE"
    return f"the hub refuses ({status}): {first}", "look at its status, then try again"
