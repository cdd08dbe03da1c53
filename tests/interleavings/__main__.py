"""`scripts/explore`: pairs or triples of operations through all interleavings. Exit code 0: none breaks a promise; 3: some does."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedq.local.servers import Servers
from tests.support import folder_for_servers

from .case import ISOLATIONS, Case, Explorer, read, replay
from .cases import cases, sampled
from .crew import Crew, fresh_world
from .gate import control_the_clock
from .mutants import MUTANTS, mutated
from .table import Tally
from .world import SERVER

NOT_WELL = 3
MEMORY = Path("/dev/shm")


def main() -> int:
    wish = _wishes().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with _servers() as servers:
        if wish.replay:
            return _replay(servers, wish.replay, wish.without)
        chosen = _chosen(wish)
        tally = Tally(len(chosen), wish.isolation)
        deadline = time.time() + wish.minutes * 60
        with Crew(servers, wish.workers, deadline, most=wish.most, without=wish.without) as crew:
            for result in crew.explore(chosen):
                tally.add(result)
                if wish.verbose:
                    print(tally.line(result), flush=True)
        print(tally.table(wish.traces))
    return NOT_WELL if tally.violations or tally.broken else 0


def _wishes() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument(
        "--pairs", action="store_const", const=2, dest="size", default=2, help="two operations at a time (the default)"
    )
    parser.add_argument(
        "--triples", action="store_const", const=3, dest="size", help="three at a time: hours; bound it by --minutes"
    )
    parser.add_argument(
        "--only", default="", help="names of operations or start states, separated by commas: cases with one of them"
    )
    parser.add_argument("--isolation", default="all", help=f"of the writers: {', '.join(ISOLATIONS)}, or all (the default)")
    parser.add_argument("--seed", type=int, default=None, help="of the sample, and of the order in which cases are taken")
    parser.add_argument("--sample", type=int, default=None, help="so many cases, drawn by the seed")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long, and say how far it came")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with a database of its own")
    parser.add_argument("--most", type=int, default=2000, help="schedules of one case at most")
    parser.add_argument("--replay", metavar="FILE_OR_SCHEDULE", help="one schedule, as a violation prints it")
    parser.add_argument("--without", default="", help=f"a fix to take out first: {', '.join(MUTANTS) or 'none is listed'}")
    parser.add_argument("--traces", type=int, default=10, help="violations whose statements are printed")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    return parser


def _chosen(wish: argparse.Namespace) -> list[Case]:
    isolations = ISOLATIONS if wish.isolation == "all" else [wish.isolation.replace("_", " ")]
    only = [name for name in wish.only.split(",") if name]
    found = cases(wish.size, only=only, isolations=isolations)
    if wish.sample is not None or wish.seed is not None:
        seed = random.SystemRandom().randrange(1_000_000) if wish.seed is None else wish.seed
        print(f"seed {seed}")
        found = sampled(found, seed, len(found) if wish.sample is None else wish.sample)
    return found


def _replay(servers: Servers, given: str, without: str) -> int:
    schedule = Path(given).read_text(encoding="utf-8") if Path(given).is_file() else given
    control_the_clock()
    case, choices = read(schedule)
    with fresh_world(servers.admin_url, "replay") as world, mutated(without, world):
        run, problems = replay(Explorer(world), case, choices)
        print(case, *run.trace(), "", *(problems or ["nothing is wrong with it"]), sep="\n")
    return NOT_WELL if problems else 0


@contextmanager
def _servers() -> Iterator[Servers]:
    if MEMORY.is_dir() and "TMPDIR" not in os.environ:
        tempfile.tempdir = str(MEMORY)
    with folder_for_servers("embedq-explore-") as home, Servers(home, overrides=SERVER) as servers:
        yield servers


if __name__ == "__main__":
    sys.exit(main())
