"""POST /api/articles/batch: many articles in one transaction, with an outcome for each."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from ..decide.drafts import check_draft
from ..errors import InputError
from ..model import ArticleDraft
from . import article_answers, shapes
from .problems import Refusal
from .service import Service


def write(service: Service, batch: shapes.Batch) -> article_answers.BatchDone:
    """Raises InputError naming the article and field that is wrong; nothing is written then."""
    most = service.settings.article_batch_max
    if len(batch.articles) > most:
        raise InputError(f"the batch has {len(batch.articles)} articles", hint=f"send at most {most} at once", field="articles")
    drafts = [_draft(one, batch) for one in batch.articles]
    _check_names(drafts)
    return _written(service, batch, [draft if _has_text(draft) else None for draft in drafts])


def _has_text(one: ArticleDraft) -> bool:
    return bool((one.title + one.content).strip())


def _check_names(drafts: Sequence[ArticleDraft]) -> None:
    """Also of an article that is skipped: as if it had a text."""
    _check([draft if _has_text(draft) else replace(draft, title="x") for draft in drafts])


def _written(service: Service, batch: shapes.Batch, every: Sequence[ArticleDraft | None]) -> article_answers.BatchDone:
    """None: an article without text, which is skipped."""
    _check(every)
    drafts = [draft for draft in every if draft is not None]
    store = service.client.store
    ids = [draft.id for draft in drafts if draft.id]
    if store.watch.of_others(ids, batch.tenant_id):
        raise Refusal(
            409, "conflict", "It exists already", "an id of this batch is taken", "choose other ids", field="articles"
        )
    known = _known(service, drafts, batch.tenant_id)
    if not drafts:
        return _told(every, {}, {}, set())
    written = service.client.put(drafts, priority=batch.priority, reason=batch.reason, replace=batch.replace)
    return _told(every, known, _known(service, drafts, batch.tenant_id), set(written.ids))


def _draft(one: shapes.BatchArticle, batch: shapes.Batch) -> ArticleDraft:
    # An article with a slug alone may exist already: the slug decides which one is meant.
    article_id = one.id or (None if one.slug else str(uuid.uuid4()))
    return ArticleDraft(one.title, one.content, article_id, one.slug, batch.tenant_id, one.metadata)


def _check(drafts: Sequence[ArticleDraft | None]) -> None:
    seen: set[tuple[str, str]] = set()
    for number, draft in enumerate(drafts):
        if draft is None:
            continue
        try:
            check_draft(draft)
        except InputError as wrong:
            raise InputError(str(wrong), hint=wrong.hint, field=f"articles[{number}].{wrong.field}") from None
        for name, value in (("id", draft.id), ("slug", draft.slug)):
            if value is not None and (name, value) in seen:
                where = f"articles[{number}].{name}"
                raise InputError(f"{name} {value!r} is in the batch twice", hint="send each article once", field=where)
            seen.add((name, value or ""))


def _known(service: Service, drafts: Sequence[ArticleDraft], tenant_id: str) -> dict[tuple[str, str], str]:
    """("id" or "slug", its value) -> id, of those articles of the batch that exist."""
    rows = service.client.store.watch.named(
        [draft.id for draft in drafts if draft.id], [draft.slug for draft in drafts if draft.slug], tenant_id
    )
    return {("id", row["id"]): row["id"] for row in rows} | {("slug", row["slug"]): row["id"] for row in rows if row["slug"]}


def _told(
    drafts: Sequence[ArticleDraft | None],
    before: dict[tuple[str, str], str],
    after: dict[tuple[str, str], str],
    written: set[str],
) -> article_answers.BatchDone:
    found, existed = [], set(before.values())
    for draft in drafts:
        if draft is None:
            found.append(article_answers.BatchDone.One(id=None, slug=None, outcome="skipped"))
            continue
        article_id = after[("id", draft.id)] if draft.id else after[("slug", draft.slug or "")]
        outcome = "unchanged" if article_id not in written else "changed" if article_id in existed else "created"
        found.append(article_answers.BatchDone.One(id=article_id, slug=draft.slug, outcome=outcome))  # type: ignore[arg-type]
    counts = {name: sum(one.outcome == name for one in found) for name in ("created", "changed", "unchanged", "skipped")}
    return article_answers.BatchDone(articles=found, **counts)
