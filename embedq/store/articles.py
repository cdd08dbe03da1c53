"""Articles: written in transactions of the caller's choice; the trigger makes their tasks in the same one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from ..decide.modes import LiveState
from ..errors import InputError, NotFound
from ..model import Article, ArticleDraft, Mode, Priority
from .callers import Statement
from .database import Connection, Database, Row
from .drafts import by_statement, columns
from .queries import QUERIES


@dataclass(slots=True)
class Written:
    """The result of a write. `to_publish`: ids of tasks by priority that the trigger marked as dispatched by this writer."""

    ids: list[str] = field(default_factory=list)
    created: int = 0
    changed: int = 0
    to_publish: dict[Priority, list[int]] = field(default_factory=dict)


class Created(NamedTuple):
    """A new article, the live status as its statement saw it, and its task, as `Watch.task_of` gives it; None if the mode makes none."""

    article: Article
    live: LiveState
    task: Row | None


class History(NamedTuple):
    """`newest`: None where the article is deleted. `earlier`: the former texts, the last one included if it is deleted."""

    id: str
    newest: Article | None
    earlier: list[Row]


class Articles:
    def __init__(self, database: Database) -> None:
        self.database = database

    @contextmanager
    def writing(
        self,
        *,
        priority: Priority | None = None,
        reason: str = "",
        mode: Mode | None = None,
        by_writer: bool = False,
        traceparent: str | None = None,
    ) -> Iterator[Connection]:
        """A transaction that begins with `beginning`."""
        with self.database.transaction() as connection:
            for statement in beginning(priority, reason, mode, by_writer, traceparent):
                connection.execute(*statement)
            yield connection

    def create(
        self,
        draft: ArticleDraft,
        *,
        priority: Priority,
        reason: str,
        mode: Mode | None,
        by_writer: bool,
        traceparent: str | None,
    ) -> Created:
        """Write one article that is not there yet: one statement, committed at once. The rest is as in `beginning`."""
        told = _settings(priority, reason, mode, by_writer) | {"traceparent": traceparent or ""}
        facts = {
            "id": draft.id,
            "tenant_id": draft.tenant_id,
            "slug": draft.slug,
            "title": draft.title,
            "content": draft.content,
            "metadata": json.dumps(dict(draft.metadata)),
        }
        with _conflicts_told():
            row = self.database.one(QUERIES.create_article, told | facts)
        assert row is not None
        article = Article(
            row["id"],
            draft.tenant_id,
            draft.slug,
            draft.title,
            draft.content,
            row["metadata"] or {},
            "queued",
            row["version"],
            row["created_at"],
            row["updated_at"],
        )
        return Created(article, LiveState.of(row["live"]), _new_task(row))

    def put(self, connection: Connection, drafts: Sequence[ArticleDraft], *, replace: bool) -> Written:
        """Write drafts, which must differ in id and in (tenant, slug). With `replace`, one that exists is updated, else refused."""
        written = Written()
        _refuse_rows_of_sources(connection, [draft.id for draft in drafts if draft.id and ":" in draft.id])
        for statement, group in by_statement(drafts, replace):
            with _conflicts_told():
                rows = connection.execute(getattr(QUERIES, statement), columns(group)).fetchall()
            written.ids += [row["id"] for row in rows]
            written.created += sum(row["created"] for row in rows)
        written.changed = len(written.ids) - written.created
        written.to_publish = self.waiting_with_writer(connection, written.ids)
        return written

    def waiting_with_writer(self, connection: Connection, article_ids: Sequence[str]) -> dict[Priority, list[int]]:
        """The tasks that this transaction's trigger marked as dispatched by the writer."""
        return _by_priority(connection.execute(QUERIES.waiting_of_articles, {"article_ids": list(article_ids)}).fetchall())

    def edit(
        self,
        connection: Connection,
        article_id: str,
        *,
        tenant_id: str | None = None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
        **changes: Any,
    ) -> Row | None:
        """Change title, content, slug or metadata. The article as this left it; None when there is none, or it has changed since it was read."""
        given: dict[str, Any] = {"title": None, "content": None, "slug": None, "metadata": None} | changes
        if given["metadata"] is not None:
            given["metadata"] = json.dumps(given["metadata"])
        with _conflicts_told():
            read = {"id": article_id, "tenant_id": tenant_id, "if_version": if_version, "if_updated_at": if_updated_at}
            return connection.execute(QUERIES.edit_article, given | read).fetchone()

    def delete(
        self,
        connection: Connection,
        ids: Sequence[str],
        *,
        tenant_id: str | None = None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
    ) -> list[str]:
        """Ids of those that were deleted; those that do not exist, or have changed since they were read, are not."""
        read = {"ids": list(ids), "tenant_id": tenant_id, "if_version": if_version, "if_updated_at": if_updated_at}
        rows = connection.execute(QUERIES.delete_articles, read).fetchall()
        return [row["id"] for row in rows]

    def origins(self, tenant_id: str, slugs: Sequence[str]) -> list[Row]:
        """Of the tenant's articles with these slugs: slug, and the path of the file that each was imported from, or None."""
        return self.database.fetch(QUERIES.article_origins, {"tenant_id": tenant_id, "slugs": list(slugs)})

    def imported_below(self, tenant_id: str, folder: str) -> list[Row]:
        """The tenant's articles that were imported from files below a folder: id, slug, path."""
        return self.database.fetch(
            QUERIES.articles_imported_below, {"tenant_id": tenant_id, "folder": f"{folder.rstrip('/')}/"}
        )

    def get(self, key: str, *, tenant_id: str | None = None) -> Article:
        """By id, or by slug. Raises NotFound; another tenant's article is not found either."""
        row = self.database.one(QUERIES.article, {"key": key, "tenant_id": tenant_id})
        if row is None:
            raise NotFound(f"there is no article {key!r}", hint="`embedq articles list` shows ids and slugs")
        return Article(**row)

    def get_many(self, ids: Sequence[str], *, tenant_id: str | None = None) -> list[Article]:
        """Those that exist, in the order of `ids`."""
        rows = self.database.fetch(QUERIES.articles_by_id, {"ids": list(ids), "tenant_id": tenant_id})
        return [Article(**row) for row in rows]

    def embedding_statuses(self, ids: Sequence[str], *, tenant_id: str | None = None) -> dict[str, str]:
        """By id, of those that exist."""
        rows = self.database.fetch(QUERIES.embedding_statuses, {"ids": list(ids), "tenant_id": tenant_id})
        return {row["id"]: row["embedding_status"] for row in rows}

    def page(
        self,
        *,
        tenant_id: str | None = None,
        status: str | None = None,
        source: str | None = None,
        after: str = "",
        limit: int = 50,
    ) -> list[Row]:
        """In the order of ids. `source`: the rows of that source, or `all`; without it, what was written as articles."""
        asked = {"tenant_id": tenant_id, "status": status, "source": source, "after": after, "limit": limit}
        return self.database.fetch(QUERIES.list_articles, asked)

    def versions(self, article_id: str, *, tenant_id: str | None = None) -> list[Row]:
        return self.database.fetch(QUERIES.article_versions, {"id": article_id, "tenant_id": tenant_id})

    def history(self, key: str, *, tenant_id: str | None) -> History:
        """By id or slug; of a deleted article by its id. Empty where there never was one."""
        try:
            newest: Article | None = self.get(key, tenant_id=tenant_id)
        except NotFound:
            newest = None
        article_id = newest.id if newest else key
        return History(article_id, newest, self.versions(article_id, tenant_id=tenant_id))

    def count_by_status(self) -> Mapping[str, int]:
        return {row["embedding_status"]: row["articles"] for row in self.database.fetch(QUERIES.count_by_status)}

    def texts(self, model_id: int, article_ids: Sequence[str]) -> list[Row]:
        return self.database.fetch(QUERIES.texts_of, {"model_id": model_id, "article_ids": list(article_ids)})

    def hold(self, connection: Connection, article_ids: Sequence[str]) -> dict[str, bytes]:
        """Those of the articles that exist, with their text's hash, kept from being changed or deleted until the transaction ends."""
        rows = connection.execute(QUERIES.hold_articles, {"article_ids": list(article_ids)}).fetchall()
        return {row["id"]: row["text_hash"] for row in rows}


def beginning(
    priority: Priority | None, reason: str, mode: Mode | None, by_writer: bool = False, traceparent: str | None = None
) -> list[Statement]:
    """The first statement of a transaction: settings from which the trigger takes the priority and reason of the tasks that it makes.

    `mode`: this process's own mode (sync, off) if its settings override the live one. `by_writer`: the tasks are marked as
    dispatched, and this process publishes them right after the commit. `traceparent` (W3C): the trace that they belong to, '' for
    none; None leaves it as the transaction has it.
    """
    said = [Statement(QUERIES.transaction_settings, _settings(priority, reason, mode, by_writer))]
    return said if traceparent is None else [*said, Statement(QUERIES.transaction_trace, {"traceparent": traceparent})]


def _refuse_rows_of_sources(connection: Connection, ids: Sequence[str]) -> None:
    """New ids get the same settings."""
    taken = connection.execute(QUERIES.rows_of_sources, {"ids": list(ids)}).fetchone() if ids else None
    if taken is not None:
        raise of_a_source(taken["id"], taken["source"])


def of_a_source(article_id: str, source: str) -> InputError:
    return InputError(
        f"{article_id!r} is a row of the source {source}", hint="write the row of its table: embedq follows that", field="id"
    )


def _settings(priority: Priority | None, reason: str, mode: Mode | None, by_writer: bool) -> dict[str, str]:
    return {"priority": priority or "", "reason": reason, "mode": mode or "", "dispatch": "writer" if by_writer else ""}


def _new_task(created: Row) -> Row | None:
    if created["task_id"] is None:
        return None
    return {
        "id": created["task_id"],
        "status": "pending",
        "priority": created["priority"],
        "attempts": created["attempts"],
        "error_class": None,
        "dispatched": created["dispatched"],
        "scheduled_at": created["created_at"],
        "due_in_s": 0.0,
    }


def _by_priority(tasks: Sequence[Row]) -> dict[Priority, list[int]]:
    found: dict[Priority, list[int]] = {}
    for row in tasks:
        found.setdefault(Priority(row["priority"]), []).append(row["id"])
    return found


@contextmanager
def _conflicts_told() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as taken:
        field = "slug" if "slug" in (taken.diag.constraint_name or "") else "id"
        raise InputError(
            f"an article with this {field} exists already: {taken.diag.message_detail or ''}".strip(),
            hint="edit that article, or choose another " + field,
            field=field,
        ) from taken
