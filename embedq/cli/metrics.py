"""`embedq metrics`: what the steward sampled, as sparklines."""

from __future__ import annotations

import click

from ..decide.sparkline import sparkline
from .fences import opened
from .voice import Answer, Table, command

Series = dict[str, list[float | None]]


@command(name="metrics")
@click.option("--hours", default=1.0, show_default=True, type=click.FloatRange(0.01, 24 * 90), help="How far back.")
@click.option("--points", default=40, show_default=True, type=click.IntRange(5, 200), help="Number of intervals.")
def metrics(hours: float, points: int) -> Answer:
    """Depth, throughput and failures over time: sampled by the steward every ten seconds, kept EMBEDDING_CLEANUP_RETENTION_DAYS.

    Example:  embedq metrics --hours 6
    """
    seconds = hours * 3600
    with opened() as store:
        depth, ended = store.history.depth(seconds, points), store.history.ended(seconds, points)
    data = {"hours": hours, "stretch_s": seconds / points, "depth": depth, "per_s": ended}
    if not depth and not ended:
        return Answer(data, ["nothing was sampled in that time: a running worker's steward samples"])
    rows = [*_rows("open, ", depth), *_rows("a second, ", ended)]
    return Answer(data, [Table(("what", f"the last {hours:g} h", "least", "most", "last"), rows)])


def _rows(words: str, series: Series) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, line in sorted(series.items()):
        known = [value for value in line if value is not None]
        rows.append((words + name, sparkline(line), min(known), max(known), known[-1]))
    return rows
