"""What this program takes from whoever starts it, put right once: rights of new files, folders named from here."""

from __future__ import annotations

import os

_FOLDERS = ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR", "HF_HOME")


def settle() -> None:
    """Let nobody else write what we make, and let workers, which start elsewhere, find the folders that we mean."""
    os.umask(os.umask(0o077) | 0o022)
    for name in _FOLDERS:
        told = os.environ.get(name, "")
        if told and not os.path.isabs(told):
            os.environ[name] = os.path.abspath(os.path.expanduser(told))
