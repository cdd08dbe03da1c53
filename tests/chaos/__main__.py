"""`python -m tests.chaos --minutes N --seed S`: chaos for as long as you like; exit code 1 when anything was lost."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from .run import run
from .table import table

ROUND_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description="Break everything at random, then look whether anything is lost."
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; each further round adds one")
    parser.add_argument(
        "--round", type=float, default=ROUND_S, help="seconds of chaos before everything is put back and judged"
    )
    wish = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if wish.seed is None else wish.seed
    ends, bad = time.monotonic() + wish.minutes * 60, 0
    while time.monotonic() < ends:
        bad += not _round(seed, min(wish.round, max(15.0, ends - time.monotonic())))
        seed += 1
    return 1 if bad else 0


def _round(seed: int, seconds: float) -> bool:
    logs = Path(mkdtemp(prefix=f"embedq-chaos-{seed}-"))
    print(f"seed {seed}, {seconds:.0f} s of chaos, logs in {logs}", flush=True)
    try:
        result = run(seed, seconds, logs)
    except AssertionError as stuck:
        print(f"seed {seed}: {stuck}", flush=True)
        return False
    print(
        table(result),
        *(f"problem: {problem}" for problem in result.problems),
        *result.innocent_failed,
        "",
        sep="\n",
        flush=True,
    )
    return not result.problems


if __name__ == "__main__":
    sys.exit(main())
