"""`python -m engine`, and the `engine` script: what must hold before anything else of the engine can be imported."""

import sys


def main() -> None:
    """Run the command line; a Python or a library that it cannot start with is told in one sentence."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout is started by any Python
        version = ".".join(str(part) for part in sys.version_info[:2])
        sys.stderr.write(f"error: tunedeck needs Python 3.11 or newer; {sys.executable} is {version}\n")
        sys.exit(9)
    try:
        from engine.cli import main as run
    except (ImportError, AttributeError, TypeError) as failure:
        from engine.libraries import report_failed_start

        code = report_failed_start(failure)
        if code is None:
            raise
        sys.exit(code)
    run()


if __name__ == "__main__":
    main()
