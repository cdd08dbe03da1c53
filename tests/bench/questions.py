"""What people ask of a large installation: status, verify, reconcile."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.support import run_command

from . import filling
from .figures import Figure, alone
from .world import World, Yard, seconds

LIMITS_S = {"status": 0.3, "verify": 5.0, "reconcile": 5.0}


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """At a million articles, nearly all embedded; a hundred thousand wait, and a thousand are stale without a promise."""
    size = 20_000 if quick else 1_000_000
    with world.yard(dimensions=8) as yard:
        _fill(yard, size)
        python = sorted(seconds(lambda: run_command_of_python(yard)) for _ in range(3))[1]
        for name, limit_s in LIMITS_S.items():
            arguments = (name, "--yes", "--reason", "benchmark") if name == "reconcile" else (name,)
            timed = [seconds(lambda: run_command(yard.environment, *arguments)) - python for _ in range(3)]  # noqa: B023
            yield alone(f"embedq {name} at {size:,} articles, over the start of Python", "s", timed, at_most=limit_s)


def run_command_of_python(yard: Yard) -> None:
    import subprocess

    from tests.support import env

    subprocess.run([sys.executable, "-c", "pass"], env=env(yard.environment), check=True)


def _fill(yard: Yard, size: int) -> None:
    done, waits = size * 9 // 10, size - size // 1000
    filling.articles(yard, 1, size)
    filling.embedded(yard, 1, done)
    filling.waiting(yard, done + 1, waits)
    filling.settle_down(yard)
