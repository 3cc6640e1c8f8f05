"""Python imports this at its start: a process that is to be a worker asks the template to fork it instead."""

import os
import sys


def _ask(path: str) -> None:
    import json
    import signal
    import socket

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": [each for each in sys.path if each],
        "arguments": ["engine.worker", *sys.orig_argv[-1:]],
    }
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
    answers = connection.makefile("rb")
    worker = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(worker, number))
    status = int(answers.readline())
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if sys.orig_argv[-3:-1] == ["-m", "engine.worker"] and "TUNEDECK_TEMPLATE" in os.environ:
    _ask(os.environ["TUNEDECK_TEMPLATE"])
