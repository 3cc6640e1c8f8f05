"""A process that has imported torch and its friends, and forks one worker for each request.

Importing them takes most of the time of a short job. For tests of what a job does; tests of how its process starts,
is ended and what it measures start it whole. The engine's own code is imported by each worker anew. A request comes
from `hook/sitecustomize.py`, which stands in the place of the process that the engine started: same exit status, and
what ends one ends the other.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PRELOADED = ("torch", "transformers.trainer", "transformers.modeling_utils", "bitsandbytes", "datasets", "peft")
_FDS = 3


def serve(path: Path) -> None:
    """Import, listen at `path`, and fork until the process that started this one closes stdin."""
    for name in PRELOADED:
        importlib.import_module(name)
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")
    others = [name for name in _threads() if name != "jemalloc_bg_thd"]  # it begins anew after a fork by itself
    if len(others) > 1:
        sys.exit(f"a library has started threads, which a fork loses: {', '.join(others)}")
    gc.collect()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in readable:
            _reap()
            return
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _keep(connection)
            return
        connection.close()
        _reap()


def _reap() -> None:
    """Collect the keepers that have ended; their processor time, with their workers', then counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _threads() -> list[str]:
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def _keep(connection: socket.socket) -> None:
    """Fork the worker and pass its end on; a requester that is gone takes the worker with it."""
    data, fds, _, _ = socket.recv_fds(connection, 1 << 20, _FDS)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    request = json.loads(data)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(request, fds)
        return
    connection.sendall(b"%d\n" % child)
    ended = os.pidfd_open(child)
    readable, _, _ = select.select([ended, connection], [], [])
    if ended not in readable:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    try:
        connection.sendall(b"%d\n" % status)
    finally:
        os._exit(0)


def _become(request: dict[str, Any], fds: list[int]) -> None:
    """Be the worker: its session, files, environment, folder and arguments; ends as any Python process does."""
    os.setsid()
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[:] = request["path"]
    sys.argv = request["arguments"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
