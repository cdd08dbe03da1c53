"""What the tools work with, in one process."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from ..client.client import Client
from ..operations.embedding_status import Pace
from ..settings import Settings

# Threads for tools, and others for those that wait for the provider: saving never waits behind a search (G7).
THREADS, SEARCH_THREADS = 8, 8


@dataclass(slots=True)
class Parts:
    """`waiters`: how many may wait at once for an article to be embedded."""

    client: Client
    settings: Settings
    pace: Pace
    searchers: anyio.CapacityLimiter
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(THREADS))
    waiters: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(32))


def parts_of(settings: Settings) -> Parts:
    """For a process of its own."""
    client = Client(settings, connections=THREADS + SEARCH_THREADS + 2)
    return Parts(client, settings, Pace(lambda: client.store), anyio.CapacityLimiter(SEARCH_THREADS))
