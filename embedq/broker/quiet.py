"""Decides when a drained broker counts as empty: no message came for some seconds. Used for Redis and RabbitMQ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

# Stores messages of a queue, and has committed them when it returns.
Taken = Callable[[str, Sequence[bytes]], None]

LOOK_EVERY_S = 0.1


def until_quiet(empty_once: Callable[[], int], *, quiet_s: float, until: float, quiet_for_s: float = 0.0) -> int:
    """Call `empty_once`, which says how many messages it took, until none came for `quiet_s` seconds (0: once) or the clock passes `until`.

    `quiet_for_s`: seconds of quiet to count from before the call, if the first round finds nothing. Returns how many messages in all.
    """
    taken, quiet_since = 0, time.monotonic() - quiet_for_s
    while True:
        step = empty_once()
        taken += step
        now = time.monotonic()
        quiet_since = now if step else quiet_since
        if now - quiet_since >= quiet_s or now > until:
            return taken
        time.sleep(min(LOOK_EVERY_S, quiet_s))
