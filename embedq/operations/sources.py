"""Sources: attach a table, compare it with its embedded rows, detach it. Triggers follow every write; the comparison finds changes that
bypassed them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..decide.prices import cost, number_for
from ..decide.tokens import BYTES_PER_TOKEN
from ..errors import EmbedqError, NotFound, NotWell
from ..model import Model, SourceDraft
from ..steward.sources import STEP, hook, step
from ..store import Store
from .backfill import RATE_OF_S, active

LOOK_AGAIN_S = 0.1
PATIENCE_S = 30.0

Show = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class AttachEstimate:
    """Estimated effort of attaching a table, from its first thousand rows and the planner's row count. `seconds`: at the rate of the last
    ten minutes, None when there was none. `cost`: None without a price. `disk_bytes`: of the texts that embedq keeps, and of the
    vectors."""

    name: str
    table: str
    key: list[str]
    rows: int
    tokens: int
    model: Model
    cost: float | None
    seconds: float | None
    disk_bytes: int
    locks: str


def estimate(store: Store, prices: str, draft: SourceDraft) -> AttachEstimate:
    """Make all checks of `attach` without changing anything. Raises InputError with the reason of a refusal."""
    made, seen, model = store.sources.define(draft), store.sources.sample(draft), active(store)
    share = seen["articles"] / seen["rows"] if seen["rows"] else 0.0
    all_rows = seen["counted"] if seen["counted"] < 100_000 else max(seen["about_rows"] or 0, seen["counted"])
    rows, price = round(share * all_rows), number_for(prices, model)
    tokens = round(rows * seen["bytes"] / BYTES_PER_TOKEN)
    rate = store.overview.settled(RATE_OF_S)["completed"] / RATE_OF_S
    table = f"{made['schema_name']}.{made['table_name']}"
    return AttachEstimate(
        made["name"],
        table,
        made["key_columns"],
        rows,
        tokens,
        model,
        cost(tokens, price) if price else None,
        rows / rate if rate else None,
        round(rows * (1.2 * seen["bytes"] + 4 * model.dimensions)),
        f"SHARE ROW EXCLUSIVE on {table} while four triggers are made: writers wait some milliseconds, and for the lock 200 ms at a time at most",
    )


def attach(store: Store, draft: SourceDraft, who: str, why: str) -> str:
    """Make the table a source; returns its name. Existing rows are taken in by `compare`, or by the steward."""
    store.sources.sample(draft)
    name = store.sources.attach(draft)
    store.audit.write("source", f"{draft.table} was attached as the source {name}", who=who, reason=why, source=name)
    store.workers.wake()
    return name


def detach(store: Store, name: str, who: str, why: str, *, keep_vectors: bool = False, show: Show = lambda done: None) -> int:
    """Drop triggers, function and view, then delete the articles with tasks and vectors, in short transactions; returns their number.
    Raises NotFound.

    `keep_vectors`: vectors stay, and are reused when a table is attached under this name again.
    """
    known = store.sources.unhook(name)
    if not known and not store.sources.size(name)["articles"]:
        raise NotFound(f"there is no source {name!r}", hint="`embedq source list` names them")
    removed = 0
    while step := store.sources.forget(name, kept=keep_vectors):
        removed += step
        show(removed)
    store.audit.write(
        "source", f"the source {name} was detached", who=who, reason=why, source=name, removed=removed, kept=keep_vectors
    )
    return removed


def compare(store: Store, name: str, show: Show = lambda seen: None, *, anew: bool = True) -> dict[str, Any]:
    """Compare a source with its table from the first row to the last and repair differences. Returns the numbers of rows `seen`, `written`,
    `removed` and `unreadable`, with an `example`. `anew`: start over instead of resuming a running comparison. Raises NotWell for a problem
    of the whole source."""
    store.sources.one(name)
    hook(store, name)
    if anew:
        store.sources.begin_comparison(name)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        row = step(store, name)
        if row is None:
            if time.monotonic() > deadline:
                raise NotWell(
                    f"the source {name} is being compared by another process", hint=f"`embedq source status {name}` follows it"
                )
            time.sleep(LOOK_AGAIN_S)
            continue
        deadline = time.monotonic() + PATIENCE_S
        if row["progress"] is None:
            return dict(row["outcome"])
        show(row["progress"]["seen"])


def import_vectors(
    store: Store, name: str, column: str, model: Model, who: str, why: str, show: Show = lambda seen: None
) -> dict[str, int]:
    """Import the vectors in the table's `column`, which this model must have made from the current texts, so that they are not bought
    again. Returns numbers of rows by result, as the function embedq_import_vectors. Raises InputError for a missing column, NotFound for an
    unknown source."""
    store.sources.one(name)
    became: Counter[str] = Counter()
    seen, after = 0, None
    while True:
        row = store.sources.import_vectors(name, column, model.id, after, STEP)
        became.update(row["became"] or {})
        seen, after = seen + row["seen"], row["last"]
        show(seen)
        if row["seen"] < STEP:
            break
    store.audit.write(
        "source",
        f"{became['taken']} vectors of the source {name} were taken over from its column {column}",
        who=who,
        reason=why,
        source=name,
        model=str(model),
        became=dict(became),
    )
    return dict(became)


def compare_all(store: Store, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Compare all sources, or those named. Returns the results by name; a source that cannot be compared has a `problem`. Raises NotFound."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        store.sources.one(name)
    for name in names or store.sources.names():
        try:
            found[name] = compare(store, name)
        except EmbedqError as failed:
            found[name] = {"seen": 0, "written": 0, "removed": 0, "unreadable": 0, "problem": str(failed)}
    return found
