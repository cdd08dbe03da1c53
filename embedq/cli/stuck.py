"""`embedq stuck`, `reset-stuck`: tasks that a dead or hanging worker holds."""

from __future__ import annotations

import os

import click

from ..settings import from_env
from ..steward.hand_over import hand_over
from ..store.bulk import Act, Picked
from .fences import opened
from .tasks import planned, swept_answer
from .voice import Answer, Table, command, of_all, who


def stuck_picked(older_than_s: float | None) -> Picked:
    held_s = from_env(os.environ).worker_timeout_s if older_than_s is None else older_than_s
    return Picked(("processing",), held_s=held_s)


OLDER = click.option(
    "--older-than",
    type=click.FloatRange(0),
    metavar="S",
    help="Held for longer than S seconds; default EMBEDDING_WORKER_TIMEOUT.",
)


@command(name="stuck")
@OLDER
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def stuck(older_than: float | None, limit: int) -> Answer:
    """List tasks that are processing although their worker is dead, or has held them too long.

    Example:  embedq stuck --older-than 60
    """
    with opened() as store:
        rows = store.operate.listed(stuck_picked(older_than), limit)
        total = sum(row["tasks"] for row in store.operate.count(stuck_picked(older_than)))
    if not rows:
        return Answer([], ["nothing is stuck"])
    cells = [(r["id"], r["article_id"], r["priority"], r["worker"], r["worker_alive"], r["held_s"]) for r in rows]
    return Answer(
        rows,
        [
            Table(("task", "article", "priority", "held by", "alive", "for s"), cells),
            *of_all(len(rows), total),
            "next: embedq reset-stuck",
        ],
    )


@command(name="reset-stuck", destroys=True)
@OLDER
def reset_stuck(older_than: float | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Hand stuck tasks back to the queue, uncharged. Late results of the worker are discarded.

    Example:  embedq reset-stuck --reason "the node was lost"
    """
    picked = stuck_picked(older_than)
    with opened() as store:
        if dry_run:
            return planned(store, picked, "hand back")
        act = Act("hand_back", "reset-stuck", who(), reason, {"words": "handed back by reset-stuck"})
        done = hand_over(store, picked, act)
        store.workers.wake()
    answer = swept_answer(done.swept, "handed back")
    answer.said += done.warnings()
    return answer
