"""After a fork: drop inherited connections, threads and locks without closing them, because the parent still uses them."""

from __future__ import annotations

import os
from collections.abc import Callable

# Kept for as long as the child lives, so that nothing closes what the parent goes on using.
_of_the_parent: list[object] = []


def in_each_child(begin_anew: Callable[[], object]) -> None:
    """Called in the child after every fork of this process; what it returns is the parent's. Where there is no fork, never."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _of_the_parent.append(begin_anew()))
