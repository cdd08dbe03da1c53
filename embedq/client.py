"""embedq for an application: articles and search. One `Client` per process; threads may share it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from . import assemble, tracing
from .decide.drafts import check_draft
from .decide.modes import Decision, LiveState, ProcessEnv, decide
from .decide.tokens import estimate_tokens
from .errors import EmbedqError, InputError, InputRefused, NotFound, NotWell, StoreUnavailable
from .forks import in_each_child
from .model import Article, ArticleDraft, Hit, Mode, Priority
from .publishing import Publisher
from .seats import Seats
from .settings import Settings, from_env
from .store.articles import Written
from .store.search import as_texts

if TYPE_CHECKING:
    from .broker import Broker
    from .providers import Provider
    from .store import Store
    from .store.database import Connection

log = logging.getLogger(__name__)

SNIPPET_CHARACTERS = 160

_clients: WeakSet[Client] = WeakSet()


class Client:
    """Create, edit, delete and search articles. Saving never waits for the broker or the provider (SPEC G7).

    With no settings given, the environment is read. `connections`: to PostgreSQL, at most. Every method raises EmbedqError with a hint, or succeeds whole.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 8) -> None:
        self.settings = settings or from_env(os.environ)
        self.connections = connections
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._broker: Broker | None = None
        self._provider: Provider | None = None
        self._publisher: Publisher | None = None
        self._seats = Seats()
        _clients.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = assemble.store(self.settings, size=self.connections)
        return self._store

    @property
    def broker(self) -> Broker:
        if self._broker is None:
            self._broker = assemble.broker(self.settings)
        return self._broker

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            with self._lock:
                if self._publisher is None:
                    its_store = assemble.store(self.settings, size=1, name="embedq publisher", by_index=True)
                    its_store.database.lock_timeout_s = self.store.database.lock_timeout_s
                    self._publisher = Publisher(its_store, lambda: self.broker, self.settings)
        return self._publisher

    def close(self) -> None:
        """Publish what waits to be published, then close every connection."""
        for part in (self._publisher, self._provider, self._broker, self._store):
            if part is not None:
                part.close()
        self._publisher = self._provider = self._broker = self._store = None

    def begin_anew(self) -> object:
        """In the child of a fork: what it had is the parent's, and returned. The child makes its own when it first needs them."""
        if self._publisher is not None:
            self._publisher.forget()
        inherited = (self._publisher, self._provider, self._broker, self._store)
        self._publisher = self._provider = self._broker = self._store = None
        self._lock, self._seats = threading.RLock(), Seats()
        return inherited

    # Articles ------------------------------------------------------------------------------------------------------------------

    def create(
        self, title: str, content: str, *, id: str | None = None, slug: str | None = None, tenant_id: str = "default",
        metadata: Mapping[str, Any] | None = None, priority: Priority | str = Priority.NORMAL, reason: str = "create",
    ) -> Article:  # fmt: skip
        """Save an article; its task is committed with it. Raises InputError naming the field that is wrong."""
        draft = ArticleDraft(title, content, id, slug, tenant_id, metadata or {})
        check_draft(draft)
        wanted = Priority(priority)
        with tracing.span("embedq.write", articles=1, priority=str(wanted)):
            # Whether the mode dispatches is not asked before: the trigger knows, and marks no task as ours when it does not.
            by_writer = self.publisher.may_publish(wanted, [tenant_id], 1)
            article, live = self.store.articles.create(
                draft, priority=wanted, reason=reason, mode=self._mode_of_process(), by_writer=by_writer,
                traceparent=tracing.traceparent(),
            )  # fmt: skip
            decision = self._decision(live)
            if by_writer and decision.makes_tasks and decision.dispatches:
                self.publisher.born(article.id, wanted)
            else:
                marked = self.store.articles.left_to_writer([article.id]) if by_writer and decision.makes_tasks else {}
                self._after_commit([article.id], marked, decision)
        return self.get(article.id) if decision.embeds_on_write else article

    def put(
        self,
        drafts: Sequence[ArticleDraft],
        *,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "import",
        replace: bool = True,
    ) -> Written:
        """Save many in one transaction. With `replace`, an article with the same id or slug is updated, and left alone if nothing changed."""
        for draft in drafts:
            check_draft(draft)
        tenants = {draft.tenant_id for draft in drafts}
        with self._writing(Priority(priority), reason, tenants, len(drafts)) as (connection, written):
            merged = self.store.articles.put(connection, drafts, replace=replace)
            written.ids, written.created, written.changed, written.to_publish = (
                merged.ids,
                merged.created,
                merged.changed,
                merged.to_publish,
            )
        return written

    def edit(
        self, article_id: str, *, tenant_id: str | None = None, if_version: int | None = None, if_updated_at: datetime | None = None,
        priority: Priority | str = Priority.NORMAL, reason: str = "update", **changes: Any,
    ) -> Article:  # fmt: skip
        """Change title, content, slug or metadata. A changed text gets a task, or updates the one that waits.

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing written, when somebody has changed it since.
        """
        article = self.store.articles.get(article_id, tenant_id=tenant_id)
        unknown = set(changes) - {"title", "content", "slug", "metadata"}
        if unknown:
            raise InputError(
                f"an article has no {', '.join(sorted(unknown))}",
                hint="title, content, slug and metadata can be edited",
                field=min(unknown),
            )
        check_draft(
            ArticleDraft(
                **(
                    {"title": article.title, "content": article.content, "id": article.id, "tenant_id": article.tenant_id}
                    | changes
                )
            )
        )
        with self._writing(Priority(priority), reason, [article.tenant_id], 1) as (connection, written):
            edited = self.store.articles.edit(
                connection, article.id, tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at, **changes
            )
            if edited is None:
                raise NotFound(
                    f"article {article_id!r} is not as it was read any more", hint="read it again and repeat the edit"
                )
            written.ids = [article.id]
            written.to_publish = self.store.articles.waiting_with_writer(connection, written.ids)
        # As this edit left it: who was next must not lend it the stamp of a text that this caller has not seen.
        return replace(self.store.articles.get(article.id, tenant_id=tenant_id), **edited)

    def delete(
        self,
        article_id: str,
        *,
        tenant_id: str | None = None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
    ) -> None:
        """Delete an article with its vectors and open tasks; its last text stays in the history until clean-up.

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing deleted, when somebody has changed it since.
        """
        article = self.store.articles.get(article_id, tenant_id=tenant_id)
        with self.store.database.transaction() as connection:
            deleted = self.store.articles.delete(
                connection, [article.id], tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at
            )
            if not deleted:
                raise NotFound(f"article {article_id!r} is not as it was read any more", hint="read it again")

    def restore(
        self, article_id: str, version: int | None = None, *, tenant_id: str | None = None,
        priority: Priority | str = Priority.HIGH, reason: str = "restore",
    ) -> Article:  # fmt: skip
        """Bring back an earlier text (the last one, without a version), also of a deleted article, then by its id."""
        try:
            article: Article | None = self.get(article_id, tenant_id=tenant_id)
        except NotFound:
            article = None
        key = article.id if article else article_id
        earlier = {row["version_number"]: row for row in self.store.articles.versions(key, tenant_id=tenant_id)}
        if not earlier or (version is not None and version not in earlier):
            raise NotFound(
                f"article {article_id!r} has no earlier version {version or ''}".rstrip(),
                hint=f"versions kept: {sorted(earlier) or 'none'}",
            )
        row = earlier[version if version is not None else max(earlier)]
        if article is not None:
            return self.edit(
                key, tenant_id=tenant_id, title=row["title"], content=row["content"], priority=priority, reason=reason
            )
        draft = ArticleDraft(row["title"], row["content"], key, row["slug"], row["tenant_id"], row["metadata"])
        self.put([draft], priority=priority, reason=reason)
        return self.get(key, tenant_id=tenant_id)

    def get(self, article_id: str, *, tenant_id: str | None = None) -> Article:
        return self.store.articles.get(article_id, tenant_id=tenant_id)

    @contextmanager
    def within(self, connection: Any, *, priority: Priority | str = Priority.NORMAL, reason: str = "create") -> Iterator[None]:
        """Inside the caller's own transaction (psycopg or SQLAlchemy connection or session): articles written in this block get
        tasks of this priority and reason, committed or rolled back with everything else the caller does."""
        raw = _psycopg_connection(connection)
        with self.store.articles.writing(
            priority=Priority(priority), reason=reason, mode=self._mode_of_process(), connection=raw,
            traceparent=tracing.traceparent(),
        ):  # fmt: skip
            yield

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
        decision = self.decision()
        may_publish = decision.dispatches and decision.makes_tasks
        by_writer = may_publish and self.publisher.may_publish(priority, tenants, articles)
        written = Written()
        with self.store.articles.writing(
            priority=priority,
            reason=reason,
            mode=self._mode_of_process(),
            by_writer=by_writer,
            traceparent=tracing.traceparent(),
        ) as connection:
            yield connection, written
        self._after_commit(written.ids, written.to_publish, decision)

    def _after_commit(self, ids: Sequence[str], to_publish: Mapping[Priority, Sequence[int]], decision: Decision) -> None:
        if any(to_publish.values()):
            if decision.dispatches:
                self.publisher.publish(to_publish)
            else:  # stopped, or switched since: what was marked as ours goes back to the table
                self.store.tasks.free([task for tasks in to_publish.values() for task in tasks])
        if decision.embeds_on_write and ids:
            self._embed_now(ids)

    def _embed_now(self, article_ids: Sequence[str]) -> None:
        from .now import embed_now

        try:
            provider = self.provider
            budget = assemble.budget(self.settings, self.store, provider.model)
            with self._seats.taken():
                embed_now(self.store, provider, article_ids, budget=budget, prices=self.settings.prices)
        except EmbedqError as failed:
            log.warning(
                "saved, but not embedded (it is stale, and found by `embedq reconcile` once the mode makes tasks): %s", failed
            )

    # Search --------------------------------------------------------------------------------------------------------------------

    def search(
        self, query: str, k: int = 10, *, tenant_id: str | None = None, min_score: float | None = None,
        filter: Mapping[str, Any] | None = None, hybrid: bool = False,
    ) -> list[Hit]:  # fmt: skip
        """The k articles nearest in meaning, best first. Raises NotWell while search is switched off.

        `min_score`: the least cosine of a result. `filter`: values that the article's metadata must have. `hybrid`: ranked by
        meaning and by words together; the score stays the cosine.
        """
        if not query.strip():
            raise InputError("the query is empty", hint="say what to search for", field="query")
        if not 1 <= k <= 1000:
            raise InputError(f"k is {k}", hint="ask for 1 to 1000 results", field="k")
        decision = self.decision()
        if not decision.search_enabled:
            raise NotWell(
                f"semantic search is disabled ({decision.source}: {decision.reason})",
                hint="`embedq mode celery --reason …` switches it on",
            )
        wishes = {"tenant_id": tenant_id, "metadata": as_texts(filter or {}), "min_score": min_score}
        provider = self.provider
        try:
            return self._found(provider, query, k, hybrid, wishes)
        except StoreUnavailable:
            # Another model was activated, and this one dropped, between our question and its answer.
            if self.provider.model == provider.model:
                raise
            return self._found(self.provider, query, k, hybrid, wishes)

    def _found(self, provider: Provider, query: str, k: int, hybrid: bool, wishes: Mapping[str, Any]) -> list[Hit]:
        self._spend(provider, query)
        try:
            vector = provider.embed([query]).vectors[0]
        except InputRefused as refused:
            raise InputError(
                f"the query cannot be embedded: {refused}", hint="shorten it, or write it anew", field="query"
            ) from refused
        search, model = self.store.search, provider.model
        rows = search.mixed(model, vector, query, k, **wishes) if hybrid else search.nearest(model, vector, k, **wishes)
        return [_hit(row) for row in rows]

    def _spend(self, provider: Provider, query: str) -> None:
        """A query is paid from the same budget as everything else, and never waits for it."""
        budget = assemble.budget(self.settings, self.store, provider.model)
        if budget is not None:
            budget.spend(estimate_tokens(query))

    @property
    def provider(self) -> Provider:
        """The active model's provider; made anew when another model was activated."""
        active = self.store.models.active() or assemble.agreed_model(self.settings, self.store)
        if self._provider is None or self._provider.model != active:
            self._provider = tracing.traced(assemble.provider_factory(self.settings)(active))
        return self._provider

    # Mode ----------------------------------------------------------------------------------------------------------------------

    def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return self._decision(self.store.status.live())

    def _decision(self, row: Mapping[str, Any] | None) -> Decision:
        live = row or {}
        state = LiveState(
            Mode(live.get("mode", self.settings.mode)), live.get("is_running", True), live.get("submissions_accepted", True),
            live.get("reason"), live.get("changed_by"), live.get("changed_at"),
        )  # fmt: skip
        return decide(state, ProcessEnv(queue_enabled=self.settings.queue_enabled, search_enabled=self.settings.search_enabled))

    def _mode_of_process(self) -> Mode | None:
        if not self.settings.search_enabled:
            return Mode.OFF
        return None if self.settings.queue_enabled else Mode.SYNC


def _hit(row: Mapping[str, Any]) -> Hit:
    text = f"{row['title']}\n\n{row['content']}".strip()
    snippet = " ".join(text[row["starts_at"] : row["ends_at"]].split())
    snippet = snippet.removeprefix(row["title"]).strip() or row["title"]
    return Hit(
        row["article_id"], row["tenant_id"], row["slug"], row["title"], snippet[:SNIPPET_CHARACTERS], float(row["score"])
    )


def _psycopg_connection(connection: Any) -> Any:
    """The psycopg connection under a SQLAlchemy connection or session; a psycopg connection is itself."""
    if hasattr(connection, "get_bind") and hasattr(connection, "connection"):
        connection = connection.connection()
    inner = getattr(connection, "connection", connection)
    return getattr(inner, "driver_connection", inner)


in_each_child(lambda: [client.begin_anew() for client in list(_clients)])
