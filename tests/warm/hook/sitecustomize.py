"""Python imports this at its start: a process of torch's asks the template to fork it instead."""

import os
import sys

FORKED = ("engine.worker", "engine.oracle")


def _ask(path: str, module: str, arguments: list[str]) -> None:
    import json
    import signal
    import socket

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": [each for each in sys.path if each],
        "arguments": [module, *arguments],
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


if "TUNEDECK_TEMPLATE" in os.environ and "-m" in sys.orig_argv:
    _module, *_arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    if _module in FORKED:
        _ask(os.environ["TUNEDECK_TEMPLATE"], _module, _arguments)
