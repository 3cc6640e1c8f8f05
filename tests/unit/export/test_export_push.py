"""An export goes to the hub when it is asked for, whole, private, without secrets, and says why when it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from engine.errors import EngineError, ExitCode
from engine.export import push

TOKEN = "hf_" + "Canary9" * 5


class FakeHub:
    """As much of HfApi as is used; `repos` are private flags by name."""

    repos: dict[str, bool]
    commits: list[tuple[str, list[Any]]]

    def __init__(self, token: str) -> None:
        assert token == TOKEN
        self.repos, self.commits = {"me/open": False}, []

    def whoami(self) -> dict[str, Any]:
        return {"name": "Me", "orgs": [{"name": "club"}]}

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.repos.setdefault(repo, private)

    def repo_info(self, repo: str) -> Any:
        return SimpleNamespace(private=self.repos[repo])

    def create_commit(self, repo: str, operations: list[Any], *, commit_message: str) -> Any:
        self.commits.append((repo, operations))
        return SimpleNamespace(repo_url=f"https://hub/{repo}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> push.Hub:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    return push.connect("me/model")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    for path in (
        "merged/model.safetensors",
        "merged/README.md",
        "adapter/README.md",
        "gguf/x-q8_0.gguf",
        "parity.json",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("# Title\n" if path.endswith(".md") else "{}")
    for name in ("parity.txt", "export.json"):
        (tmp_path / name).write_text("held-out rows")
    return tmp_path


def test_the_merged_model_is_at_the_top_and_reports_stay(export: Path, hub: push.Hub) -> None:
    files = push.files_of(export)
    told = push.listing(files, hub.repo, public=False)
    assert told[0] == "to me/model (private): 4 files, 20 B"
    assert told[-1].endswith("stay here: they quote held-out rows")
    done = push.upload(hub, export, files, public=False)
    assert done == {"repo": "me/model", "url": "https://hub/me/model", "private": True, "files": 4, "bytes": 20}
    ((repo, operations),) = hub.api.commits
    assert repo == "me/model"
    assert hub.api.repos["me/model"] is True
    assert [one.path_in_repo for one in operations] == [
        "adapter/README.md",
        "gguf/x-q8_0.gguf",
        "README.md",
        "model.safetensors",
    ]
    assert "- `adapter/`\n- `gguf/`" in operations[2].path_or_fileobj.decode()


def test_public_only_when_it_is_said(export: Path, hub: push.Hub) -> None:
    hub.repo = "me/open"
    with pytest.raises(EngineError, match="is public already") as caught:
        push.upload(hub, export, push.files_of(export), public=False)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert hub.api.commits == []
    assert push.upload(hub, export, push.files_of(export), public=True)["private"] is False


def test_a_file_with_a_token_is_not_uploaded(export: Path) -> None:
    (export / "gguf" / "Modelfile").write_text(f'SYSTEM "use {TOKEN}"\n')
    with pytest.raises(EngineError, match="looks like a token") as caught:
        push.files_of(export)
    assert caught.value.where == "gguf/Modelfile"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "a/b/c", "../x/y", "me/..", "https://hub/me/x", "-x/y", "me/\x1b[2J"])
def test_bad_names(name: str) -> None:
    with pytest.raises(EngineError, match="no name on the hub") as caught:
        push.connect(name)
    assert caught.value.code is ExitCode.PROFILE


def test_without_a_token_or_a_place(hub: push.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TOKEN not in repr(hub)
    with pytest.raises(EngineError, match="the token is not other's") as caught:
        push.connect("other/model")
    assert "Me, club" in caught.value.hint
    push.connect("club/model")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(EngineError, match="no token") as caught:
        push.connect("me/model")
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "HF_TOKEN" in caught.value.hint


def test_the_command_lists_then_uploads(export: Path, hub: push.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    import engine.cli.export as command

    result = {"output": str(export), "card": "README.md", "parity": {"formats": []}, "seconds": 1.0}
    monkeypatch.setattr(command.store, "find_run", lambda run: run)
    monkeypatch.setattr(command, "export_run", lambda *_, **__: dict(result))
    shown = CliRunner().invoke(command.export, ["last", "--push", "me/model"])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.index("to me/model (private): 4 files") < shown.stderr.index("stay here")
    assert "pushed   https://hub/me/model (private)" in shown.stdout
    told = CliRunner().invoke(command.export, ["last", "--push", "me/open", "--public", "--json"])
    assert json.loads(told.stdout)["pushed"]["private"] is False
    assert TOKEN not in shown.output + told.output


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A hub that answers every request with `status`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": f"for {self.headers['Authorization']} at /home/alice/x"}).encode()
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    found = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def real_connect(monkeypatch: pytest.MonkeyPatch, port: int) -> EngineError:
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: real(f"http://127.0.0.1:{port}", token))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(EngineError) as caught:
        push.connect("me/model")
    assert TOKEN not in str(caught.value)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "nothing was exported" in caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not know this token"), (403, "may not write to me/model"), (418, "refuses")]
)
def test_what_the_real_client_raises(
    monkeypatch: pytest.MonkeyPatch, server: HTTPServer, status: int, said: str
) -> None:
    server.status = status  # type: ignore[attr-defined]
    error = real_connect(monkeypatch, server.server_port)
    assert said in error.message
    assert "alice" not in error.message


def test_no_network(monkeypatch: pytest.MonkeyPatch, server: HTTPServer) -> None:
    port = server.server_port
    server.server_close()
    assert "cannot be reached" in real_connect(monkeypatch, port).message
