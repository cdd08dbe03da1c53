"""How a client saves, edits, deletes and restores articles: the write and its task in one transaction, publishing after the commit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..decide.drafts import check_draft
from ..decide.modes import Decision, mode_of_process
from ..errors import InputError, NotFound
from ..model import Article, ArticleDraft, Priority
from ..store.articles import Created, Written, beginning, of_a_source
from ..store.callers import Statement
from ..telemetry import tracing
from .parts import Parts

if TYPE_CHECKING:
    from ..store.database import Connection

EDITABLE = ("title", "content", "slug", "metadata")


class Writing:
    """The methods and arguments are those of `Client`."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def create(self, draft: ArticleDraft, given: Priority | str, reason: str) -> Created:
        check_draft(draft)
        priority = Priority(given)
        with tracing.span("embedq.write", articles=1, priority=str(priority)):
            # The mode is not asked before: the trigger knows it, and marks no task as the writer's when it does not dispatch.
            by_writer = self.parts.may_publish(priority, [draft.tenant_id], 1)
            created = self.parts.store.articles.create(
                draft,
                priority=priority,
                reason=reason,
                mode=mode_of_process(self.parts.settings.switches),
                by_writer=by_writer,
                traceparent=tracing.traceparent(),
            )
            decision = self.parts.decision_of(created.live)
            article, task = created.article, created.task
            marked = {Priority(task["priority"]): [task["id"]]} if task is not None and task["dispatched"] else {}
            self._after_commit([article.id], marked, decision)
        return (
            created._replace(article=self.parts.store.articles.get(article.id, tenant_id=None))
            if decision.embeds_on_write
            else created
        )

    def put(self, drafts: Sequence[ArticleDraft], priority: Priority | str, reason: str, *, replace: bool = True) -> Written:
        for draft in drafts:
            check_draft(draft)
        tenants = {draft.tenant_id for draft in drafts}
        with self._writing(Priority(priority), reason, tenants, len(drafts)) as (connection, written):
            merged = self.parts.store.articles.put(connection, drafts, replace=replace)
            written.ids, written.created, written.changed, written.to_publish = (
                merged.ids,
                merged.created,
                merged.changed,
                merged.to_publish,
            )
        return written

    def edit(
        self,
        article_id: str,
        priority: Priority | str,
        reason: str,
        *,
        tenant_id: str | None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
        **changes: Any,
    ) -> Article:
        articles = self.parts.store.articles
        article = articles.get(article_id, tenant_id=tenant_id)
        _check_changes(article, changes)
        with self._writing(Priority(priority), reason, [article.tenant_id], 1) as (connection, written):
            edited = articles.edit(
                connection, article.id, tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at, **changes
            )
            if edited is None:
                raise NotFound(
                    f"article {article_id!r} is not as it was read any more", hint="read it again and repeat the edit"
                )
            written.ids = [article.id]
            written.to_publish = articles.waiting_with_writer(connection, written.ids)
        # As this edit left it: a later edit's stamp belongs to a text that this caller has not seen.
        return replace(articles.get(article.id, tenant_id=tenant_id), **edited)

    def delete(self, article_id: str, *, tenant_id: str | None, if_version: int | None, if_updated_at: datetime | None) -> None:
        store = self.parts.store
        article = store.articles.get(article_id, tenant_id=tenant_id)
        _refuse_row_of_source(article)
        with store.database.transaction() as connection:
            deleted = store.articles.delete(
                connection, [article.id], tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at
            )
            if not deleted:
                raise NotFound(f"article {article_id!r} is not as it was read any more", hint="read it again")

    def restore(
        self, article_id: str, version: int | None, priority: Priority | str, reason: str, *, tenant_id: str | None
    ) -> Article:
        articles = self.parts.store.articles
        key, newest, earlier = articles.history(article_id, tenant_id=tenant_id)
        row = _version(article_id, earlier, version)
        if newest is not None:
            text = {"title": row["title"], "content": row["content"]}
            return self.edit(key, priority, reason, tenant_id=tenant_id, **text)
        draft = ArticleDraft(row["title"], row["content"], key, row["slug"], row["tenant_id"], row["metadata"])
        self.put([draft], priority, reason)
        return articles.get(key, tenant_id=tenant_id)

    def beginning(self, priority: Priority, reason: str) -> list[Statement]:
        """The statements with which a caller's transaction tells the triggers how tasks are made."""
        mode = mode_of_process(self.parts.settings.switches)
        return beginning(priority, reason, mode, traceparent=tracing.traceparent())

    @contextmanager
    def _writing(
        self, priority: Priority, reason: str, tenants: Collection[str], articles: int
    ) -> Iterator[tuple[Connection, Written]]:
        with tracing.span("embedq.write", articles=articles, priority=str(priority)) as note:
            with self._written(priority, reason, tenants, articles) as (connection, written):
                yield connection, written
            note(written=len(written.ids))

    @contextmanager
    def _written(
        self, priority: Priority, reason: str, tenants: Collection[str], articles: int
    ) -> Iterator[tuple[Connection, Written]]:
        decision = self.parts.decision()
        dispatches = decision.dispatches and decision.makes_tasks
        by_writer = dispatches and self.parts.may_publish(priority, tenants, articles)
        written = Written()
        with self.parts.store.articles.writing(
            priority=priority,
            reason=reason,
            mode=mode_of_process(self.parts.settings.switches),
            by_writer=by_writer,
            traceparent=tracing.traceparent(),
        ) as connection:
            yield connection, written
        self._after_commit(written.ids, written.to_publish, decision)

    def _after_commit(self, ids: Sequence[str], to_publish: Mapping[Priority, Sequence[int]], decision: Decision) -> None:
        if any(to_publish.values()):
            if decision.dispatches:
                self.parts.publisher.publish(to_publish)
            else:  # stopped, or switched since: tasks that were marked as the writer's are freed
                self.parts.store.tasks.free([task for tasks in to_publish.values() for task in tasks])
        if decision.embeds_on_write and ids:
            self.parts.embed_now(ids)


def _check_changes(article: Article, changes: dict[str, Any]) -> None:
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise InputError(
            f"an article has no {', '.join(sorted(unknown))}",
            hint="title, content, slug and metadata can be edited",
            field=min(unknown),
        )
    present = {"title": article.title, "content": article.content, "id": article.id, "tenant_id": article.tenant_id}
    check_draft(ArticleDraft(**(present | changes)))
    _refuse_row_of_source(article)


def _version(asked: str, kept: Sequence[Mapping[str, Any]], version: int | None) -> Mapping[str, Any]:
    """The text of this version, or the last one that was kept. Raises NotFound."""
    earlier = {row["version_number"]: row for row in kept}
    if not earlier or (version is not None and version not in earlier):
        raise NotFound(
            f"article {asked!r} has no earlier version {version or ''}".rstrip(),
            hint=f"versions kept: {sorted(earlier) or 'none'}",
        )
    return earlier[version if version is not None else max(earlier)]


def _refuse_row_of_source(article: Article) -> None:
    if article.source is not None:
        raise of_a_source(article.id, article.source)
