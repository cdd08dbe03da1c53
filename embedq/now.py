"""Mode `sync`: the write embeds before it returns, without a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .asking import Asker
from .engine import planned, stored, without_asking
from .errors import Fault
from .model import Claimed, Outcome, Priority, TaskStatus
from .store.vectors import put_vectors

if TYPE_CHECKING:
    from .providers import Provider
    from .store import Store


def embed_now(store: Store, provider: Provider, article_ids: Sequence[str]) -> int:
    """Embed these articles' present texts and store the vectors; how many. Raises the Fault of the first that could not be embedded."""
    asked = [task for task in _as_claimed(store, provider, article_ids) if without_asking(task) is None]
    plans = list(planned(asked, provider.limits.max_input_tokens))
    answers = Asker(provider, 1000).ask([chunk.text for plan in plans for chunk in plan.chunks], stop=lambda: False)
    whole = [plan for plan in plans if all(position in answers.vectors for position in plan.positions)]
    _store_whole(store, [Outcome(plan.task, TaskStatus.COMPLETED, stored=stored(plan, answers)) for plan in whole])
    fault: Fault | None = answers.busy or next(iter(answers.refused.values()), None)
    if fault is not None:
        raise fault
    return len(whole)


def _store_whole(store: Store, outcomes: Sequence[Outcome]) -> None:
    """Without a task to hold on to, the articles themselves are held: one deleted meanwhile gets no vector."""
    with store.database.transaction() as connection:
        held = store.articles.hold(connection, [outcome.task.article_id for outcome in outcomes])
        put_vectors(connection, [outcome for outcome in outcomes if outcome.task.article_id in held])


def _as_claimed(store: Store, provider: Provider, article_ids: Sequence[str]) -> list[Claimed]:
    rows = store.articles.texts(provider.model.id, article_ids)
    now = datetime.now(UTC)
    facts = {
        "id": 0,
        "model_id": provider.model.id,
        "priority": Priority.NORMAL,
        "claim": 0,
        "attempts": 0,
        "lost_leases": 0,
        "created_at": now,
    }
    return [Claimed(**(row | facts)) for row in rows]
