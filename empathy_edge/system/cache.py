"""Where converted and downloaded models, hashes and measurements of this machine are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache's folder; EMPATHY_EDGE_CACHE moves it."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "empathy-edge"
    return Path(os.environ.get("EMPATHY_EDGE_CACHE", default)).expanduser()
