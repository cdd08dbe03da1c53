"""Mode `sync`: the write embeds before it returns, without a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..decide.prices import number_for
from ..engine.answers import Answers
from ..engine.chunking import USUAL, ChunkSize
from ..engine.outcomes import without_asking
from ..engine.requests import Asker
from ..engine.vectors import Plan, buy, planned, stored, usage
from ..errors import Fault, ProviderBusy
from ..model import Claimed, Outcome, Priority, TaskStatus
from ..store.usage import put_usage
from ..store.vectors import put_vectors

if TYPE_CHECKING:
    from ..engine.sameness import Sameness
    from ..providers import Provider
    from ..store import Store
    from ..store.rate_limit import Budget


def embed_now(
    store: Store,
    provider: Provider,
    article_ids: Sequence[str],
    *,
    budget: Budget | None = None,
    prices: str = "",
    size: ChunkSize = USUAL,
    sameness: Sameness | None = None,
) -> int:
    """Embed these articles' present texts and store the vectors; how many. Raises the Fault of the first that could not be embedded.

    A caller waits for the write: it has the rate limit of urgent tasks.
    """
    asked = [task for task in _as_claimed(store, provider, article_ids) if without_asking(task) is None]
    asker = Asker(provider, 1000, budget=budget)
    looks = sameness is not None and _may_store(store, asker, sameness) and sameness.is_due(asker)
    plans, answers = buy(
        store.vectors,
        asker,
        list(planned(asked, asker.max_input_tokens, size, headings=provider.model.preparation.headings)),
        lambda: False,
        Priority.URGENT,
        with_canary=looks,
    )
    if sameness is not None and any(had.share for had in answers.had.values()):
        _refuse(sameness.seen(asker))
    price = number_for(prices, provider.model)
    outcomes = [_outcome(plan, answers, price) for plan in plans]
    _store_whole(store, outcomes)
    fault: Fault | None = answers.busy or next(iter(answers.refused.values()), None) or _spent(answers)
    if fault is not None:
        raise fault
    return sum(outcome.stored is not None for outcome in outcomes)


def _may_store(store: Store, asker: Asker, sameness: Sameness) -> bool:
    """True; raises ProviderBusy when the model makes other vectors than before."""
    _refuse(sameness.hindrance(asker, next(iter(store.canaries.swapped(asker.provider.model.id)), None)))
    return True


def _refuse(why: str | None) -> None:
    if why is not None:
        raise ProviderBusy(why, hint="`embedq health` says what to do; `embedq reconcile` finds the article later")


def _outcome(plan: Plan, answers: Answers, price: float) -> Outcome:
    whole = all(position in answers.had for position in plan.positions)
    vectors = stored(plan, answers) if whole else None
    return Outcome(plan.task, TaskStatus.COMPLETED, stored=vectors, usage=usage(plan, answers, price))


def _spent(answers: Answers) -> ProviderBusy | None:
    if answers.later is None:
        return None
    return ProviderBusy(
        "the provider's budget is spent", hint="`embedq reconcile` finds the article later", retry_after_s=answers.later.wait_s
    )


def _store_whole(store: Store, outcomes: Sequence[Outcome]) -> None:
    """Without a task to hold on to, the articles themselves are held: one that meanwhile was deleted, edited, or deleted and made
    anew (its versions begin anew, too) gets no vector of its former text."""
    with store.database.transaction() as connection:
        held = store.articles.hold(connection, [outcome.task.article_id for outcome in outcomes])
        theirs = [o for o in outcomes if o.stored is not None and held.get(o.task.article_id) == o.task.text_hash]
        put_vectors(connection, theirs, replacing=True, anyway=True)
        put_usage(connection, outcomes)


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
