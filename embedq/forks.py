"""After a fork: drop inherited connections, threads and locks without closing them, because the parent still uses them."""

from __future__ import annotations

import os
from collections.abc import Callable

# References that keep inherited objects alive in the child: their finalizers would close connections that the parent still uses.
_of_the_parent: list[object] = []


def in_each_child(begin_anew: Callable[[], object]) -> None:
    """Register a function to run in the child after each fork. It returns the inherited object, which is kept and never closed. No effect
    on systems without fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _of_the_parent.append(begin_anew()))
