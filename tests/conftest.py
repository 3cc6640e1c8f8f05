"""Settings for every test process; set before anything imports torch."""

from __future__ import annotations

import os
import tempfile

# Two processes with two OpenMP threads each on two cores run a hundred times slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

# What a person's own runs measured and kept, and models of their own list, must not change what tests expect.
_HOME = tempfile.TemporaryDirectory(prefix="tunedeck-test-home-")
os.environ["XDG_STATE_HOME"] = os.path.join(_HOME.name, "state")
os.environ["XDG_CACHE_HOME"] = os.path.join(_HOME.name, "cache")
os.environ["XDG_CONFIG_HOME"] = os.path.join(_HOME.name, "config")
