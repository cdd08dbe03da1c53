"""Start of the command line, over the start of Python itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tests.support import env

from .figures import Figure
from .world import World, seconds, side_by_side

LIMIT_S = 0.3


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Each command in a process of its own, with a bare `python -c pass` in the same rounds."""
    rounds = 3 if quick else 15
    with world.yard() as yard:
        yard.add_articles(100)
        commands = {
            "import": ["-c", "import embedq.__main__"],
            "embedq --help": ["-m", "embedq", "--help"],
            "embedq status": ["-m", "embedq", "status"],
        }
        for name, arguments in commands.items():
            yield _over_python(name, arguments, yard.environment, rounds)


def _over_python(name: str, arguments: Sequence[str], environment: Mapping[str, str], rounds: int) -> Figure:
    timed = side_by_side(
        rounds, {"ours": lambda: _run(arguments, environment), "python": lambda: _run(["-c", "pass"], environment)}
    )
    over = [ours - python for ours, python in zip(timed["ours"], timed["python"], strict=True)]
    value = median(over)
    raw = {"ours": timed["ours"], "other": timed["python"]}
    target, met = f"<= {LIMIT_S:g} s over it", value <= LIMIT_S
    return Figure(f"{name}, over `python -c pass`", value, "s", target=target, met=met, raw=raw)


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    return seconds(
        lambda: subprocess.run(
            [sys.executable, *arguments], env=env(environment), capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    )
