"""Names in the environment that look like settings and are none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

# Likely wrong names, with the setting that is meant: by spelling alone, a different setting would be suggested.
MEANT: Final[Mapping[str, str]] = {
    "EMBEDDING_ASYNC": "EMBEDDING_MODE",
    "EMBEDDING_SYNC": "EMBEDDING_MODE",
    "EMBEDDING_ENABLED": "EMBEDDING_QUEUE_ENABLED",
    "EMBEDDING_WORKERS": "EMBEDDING_CONCURRENT_WORKERS",
    "EMBEDDING_CONCURRENCY": "EMBEDDING_CONCURRENT_WORKERS",
    "EMBEDDING_TIMEOUT": "EMBEDDING_PROVIDER_TIMEOUT",
    "EMBEDDING_REDIS_URL": "REDIS_URL",
    "EMBEDDING_DATABASE_URL": "DATABASE_URL",
}


def unknown_names(env: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """Names of EMBEDDING_* and EMBEDQ_* that are no setting, each with the nearest one."""
    known, found = list(settings), []
    for name in sorted(env):
        if name.startswith(("EMBEDDING_", "EMBEDQ_")) and name not in known and not name.startswith("EMBEDQ_TEST_"):
            near = [MEANT[name]] if name in MEANT else difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            found.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return found
