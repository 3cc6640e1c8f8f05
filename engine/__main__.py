"""`python -m engine`, and the `engine` script: what must hold before anything else of the engine can be imported."""

import os
import sys


def main() -> None:
    """Run the command line; a Python or a library that it cannot start with is told in one sentence."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout is started by any Python
        version = ".".join(str(part) for part in sys.version_info[:2])
        sys.stderr.write(f"error: tunedeck needs Python 3.11 or newer; {sys.executable} is {version}\n")
        sys.exit(9)
    _leave_ascii()
    try:
        from engine.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, AttributeError, TypeError) as failure:
        from engine.libraries import report_failed_start

        code = report_failed_start(failure)
        if code is None:
            raise
        sys.exit(code)
    run()


def _leave_ascii() -> None:
    """Start again in UTF-8 mode where the locale knows ASCII alone: a file's name with another letter cannot be opened.

    What the terminal is believed to show stays ASCII.
    """
    if sys.getfilesystemencoding() != "ascii" or not sys.orig_argv or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", "ascii")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
