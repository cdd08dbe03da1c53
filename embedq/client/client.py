"""embedq for an application: articles and search. One `Client` per process; threads may share it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

import psycopg

from .. import wiring
from ..decide.answers import Wanted
from ..decide.drafts import check_draft
from ..decide.filters import check_filter
from ..decide.modes import Decision, LiveState, decide, mode_of_process
from ..decide.modes import Source as DecidedBy
from ..decide.preparation import wants_the_same
from ..decide.sections import path_at
from ..decide.sources import source_of
from ..decide.tokens import estimate_tokens
from ..errors import EmbedqError, InputError, InputRefused, NotFound, NotWell, StoreUnavailable
from ..forks import in_each_child
from ..model import Article, ArticleDraft, Hit, Priority, Role, Source, SourceDraft
from ..operations import sources as attaching
from ..settings import Settings, from_env
from ..store.articles import Created, Written, beginning, of_a_source
from ..store.callers import Statement, tell
from ..telemetry import tracing
from .answering import Answering, passage, text_of
from .bulkhead import Seats
from .publisher import Publisher

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..broker import Broker
    from ..engine.sameness import Sameness
    from ..model import Model
    from ..providers import Embedded, Provider
    from ..store import Store
    from ..store.database import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

SNIPPET_CHARACTERS = 160
# Of an article whose newest text has no vector yet.
UNDER_WAY = ("queued", "processing")
# How long `wait` pauses between two looks: at first, and, as each pause is twice the one before, at most.
FIRST_LOOK_S, LAST_LOOKS_S = 0.02, 0.5
EVERYTHING = "all"
MOST_QUERIES = 50
APPLICATION = "the application"

_clients: WeakSet[Client] = WeakSet()


# Of what disables search, the next step; of a setting of this process, that it is the cause.
SEARCH_ON = {DecidedBy.LIVE: "`embedq mode celery --reason …` switches it on"}


class Client:
    """Create, edit, delete and search articles. Saving never waits for the broker or the provider (G7).

    With no settings given, the environment is read. `connections`: to PostgreSQL, at most. Every method raises EmbedqError with a hint, or succeeds whole.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 8) -> None:
        self.settings = settings or from_env(os.environ)
        self.connections = connections
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._broker: Broker | None = None
        self._provider: Provider | None = None  # for questions
        self._for_texts: Provider | None = None  # for texts, where the model wants something else before them
        self._publisher: Publisher | None = None
        self._looks: Sameness | None = None
        self._seats = Seats()
        self._answering = Answering(self._apart)
        _clients.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self._make_store()
        return self._store

    def _make_store(self) -> Store:
        return wiring.store(self.settings, size=self.connections)

    @property
    def broker(self) -> Broker:
        if self._broker is None:
            self._broker = wiring.broker(self.settings)
        return self._broker

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            with self._lock:
                if self._publisher is None:
                    its_store = wiring.store(self.settings, size=1, name="embedq publisher", by_index=True)
                    its_store.database.lock_timeout_s = self.store.database.lock_timeout_s
                    self._publisher = Publisher(its_store, lambda: self.broker, self.settings)
        return self._publisher

    def close(self) -> None:
        """Publish what waits to be published, then close every connection."""
        for part in (self._publisher, self._provider, self._for_texts, self._broker, self._store):
            if part is not None:
                part.close()
        self._publisher = self._provider = self._for_texts = self._broker = self._store = None
        self._looks = None

    def begin_anew(self) -> object:
        """In the child of a fork: what it had is the parent's, and returned. The child makes its own when it first needs them."""
        if self._publisher is not None:
            self._publisher.forget()
        inherited = (self._publisher, self._provider, self._for_texts, self._broker, self._store)
        self._publisher = self._provider = self._for_texts = self._broker = self._store = None
        self._lock, self._seats, self._looks = threading.RLock(), Seats(), None
        return inherited

    # Articles ------------------------------------------------------------------------------------------------------------------

    def create(
        self,
        title: str,
        content: str,
        *,
        id: str | None = None,
        slug: str | None = None,
        tenant_id: str = "default",
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "create",
    ) -> Article:
        """Save an article; its task is committed with it. Raises InputError naming the field that is wrong."""
        draft = ArticleDraft(title, content, id, slug, tenant_id, metadata or {})
        return self.create_with_task(draft, priority=priority, reason=reason).article

    def create_with_task(
        self, draft: ArticleDraft, *, priority: Priority | str = Priority.NORMAL, reason: str = "create"
    ) -> Created:
        """As `create`; returns the task as well."""
        check_draft(draft)
        wanted = Priority(priority)
        with tracing.span("embedq.write", articles=1, priority=str(wanted)):
            # Whether the mode dispatches is not asked before: the trigger knows, and marks no task as ours when it does not.
            by_writer = self._may_publish(wanted, [draft.tenant_id], 1)
            created = self.store.articles.create(
                draft,
                priority=wanted,
                reason=reason,
                mode=mode_of_process(self.settings.switches),
                by_writer=by_writer,
                traceparent=tracing.traceparent(),
            )
            decision = self._decision(created.live)
            article, task = created.article, created.task
            marked = {Priority(task["priority"]): [task["id"]]} if task is not None and task["dispatched"] else {}
            self._after_commit([article.id], marked, decision)
        return created._replace(article=self.get(article.id)) if decision.embeds_on_write else created

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
        self,
        article_id: str,
        *,
        tenant_id: str | None = None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "update",
        **changes: Any,
    ) -> Article:
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
        _refuse_row_of_source(article)
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
        # As this edit left it: a later edit's stamp belongs to a text that this caller has not seen.
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
        _refuse_row_of_source(article)
        with self.store.database.transaction() as connection:
            deleted = self.store.articles.delete(
                connection, [article.id], tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at
            )
            if not deleted:
                raise NotFound(f"article {article_id!r} is not as it was read any more", hint="read it again")

    def restore(
        self,
        article_id: str,
        version: int | None = None,
        *,
        tenant_id: str | None = None,
        priority: Priority | str = Priority.HIGH,
        reason: str = "restore",
    ) -> Article:
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
        """By id, or by slug. Raises NotFound."""
        return self.store.articles.get(article_id, tenant_id=tenant_id)

    def get_many(self, article_ids: Sequence[str], *, tenant_id: str | None = None) -> list[Article]:
        """Those that exist, in the order of their ids here."""
        return self.store.articles.get_many(article_ids, tenant_id=tenant_id)

    def wait(self, article_ids: Sequence[str], timeout_s: float = 30.0, *, tenant_id: str | None = None) -> dict[str, str]:
        """Wait until no article of these is `queued` or `processing`; the `embedding_status` of each that exists.

        Raises NotWell when some still are after `timeout_s` seconds.
        """
        ends_at, pause_s = time.monotonic() + timeout_s, FIRST_LOOK_S
        while True:
            statuses = self.store.articles.embedding_statuses(article_ids, tenant_id=tenant_id)
            waiting = [article for article, status in statuses.items() if status in UNDER_WAY]
            left_s = ends_at - time.monotonic()
            if not waiting:
                return statuses
            if left_s <= 0:
                raise _not_embedded(waiting, timeout_s)
            self._pause(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LAST_LOOKS_S)

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _apart(self, work: Callable[[], list[int]]) -> list[int]:
        return work()

    @contextmanager
    def within(self, connection: Any, *, priority: Priority | str = Priority.NORMAL, reason: str = "create") -> Iterator[None]:
        """Inside the caller's own transaction: articles written in this block get tasks of this priority and reason, committed or
        rolled back with everything else the caller does.

        `connection`: psycopg's, a SQLAlchemy Connection or Session, or Django's. Raises InputError for any other kind, and for one
        that is in no transaction.
        """
        tell(connection, self._beginning(Priority(priority), reason))
        yield

    def _beginning(self, priority: Priority, reason: str) -> list[Statement]:
        return beginning(priority, reason, mode_of_process(self.settings.switches), traceparent=tracing.traceparent())

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
        by_writer = may_publish and self._may_publish(priority, tenants, articles)
        written = Written()
        with self.store.articles.writing(
            priority=priority,
            reason=reason,
            mode=mode_of_process(self.settings.switches),
            by_writer=by_writer,
            traceparent=tracing.traceparent(),
        ) as connection:
            yield connection, written
        self._after_commit(written.ids, written.to_publish, decision)

    def _may_publish(self, priority: Priority, tenants: Collection[str], articles: int) -> bool:
        return self.publisher.may_publish(priority, tenants, articles)

    def _after_commit(self, ids: Sequence[str], to_publish: Mapping[Priority, Sequence[int]], decision: Decision) -> None:
        if any(to_publish.values()):
            if decision.dispatches:
                self.publisher.publish(to_publish)
            else:  # stopped, or switched since: what was marked as ours goes back to the table
                self.store.tasks.free([task for tasks in to_publish.values() for task in tasks])
        if decision.embeds_on_write and ids:
            self._embed_now(ids)

    def _embed_now(self, article_ids: Sequence[str]) -> None:
        from .sync import embed_now

        try:
            provider = self._writing_provider()
            budget = wiring.budget(self.settings, self.store, provider.model)
            with self._seats.taken():
                size = wiring.chunk_size(self.settings, provider.model)
                prices, sameness = self.settings.prices, self._sameness()
                embed_now(self.store, provider, article_ids, budget=budget, prices=prices, size=size, sameness=sameness)
        except EmbedqError as failed:
            log.warning(
                "saved, but not embedded (it is stale, and found by `embedq reconcile` once the mode makes tasks): %s", failed
            )

    def _sameness(self) -> Sameness:
        """Of this process, for what it embeds itself."""
        from ..engine.sameness import Sameness

        if self._looks is None:
            name = f"{self.store.database.name}@{socket.gethostname()}:{os.getpid()}"
            self._looks = Sameness(self.store, name, lambda model: wiring.server_of(self.settings, model))
        return self._looks

    # Sources -------------------------------------------------------------------------------------------------------------------

    def attach(
        self,
        table: str,
        *,
        title: str | None = None,
        content: str | None = None,
        where: str | None = None,
        tenant: str | None = None,
        metadata: Sequence[str] = (),
        key: Sequence[str] = (),
        name: str | None = None,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "attach",
        fill: bool = True,
    ) -> str:
        """Keep the rows of a table of yours embedded; the name of the source. Nothing of the table changes but that it has triggers.

        The words are those of `SourceDraft`. With `fill` the rows that are there are taken in before this returns; without, by the workers.
        Attached under its name again, a source changes to what is said now. Raises InputError with the reason when it cannot be.
        """
        draft = SourceDraft(table, title, content, where, tenant, tuple(metadata), tuple(key), name, Priority(priority))
        made = attaching.attach(self.store, draft, APPLICATION, reason)
        if fill:
            attaching.compare(self.store, made)
        return made

    def detach(self, name: str, *, keep_vectors: bool = False, reason: str = "detach") -> int:
        """Take the triggers away and remove what is embedded of the source; how many rows. `keep_vectors`: for attaching it again. Raises NotFound."""
        return attaching.detach(self.store, name, APPLICATION, reason, keep_vectors=keep_vectors)

    def sources(self) -> list[Source]:
        """Every source, with its state and what is wrong with it."""
        return [source_of(row) for row in self.store.sources.all()]

    # Search --------------------------------------------------------------------------------------------------------------------

    @overload
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        tenant_id: str | None = None,
        min_score: float | None = None,
        filter: Mapping[str, Any] | None = None,
        hybrid: bool = False,
        offset: int | None = None,
        fold: bool = False,
        diversity: float = 0.0,
        rerank: str | None = None,
        source: str | Sequence[str] | None = None,
        load: None = None,
        session: Session | None = None,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        tenant_id: str | None = None,
        min_score: float | None = None,
        filter: Mapping[str, Any] | None = None,
        hybrid: bool = False,
        offset: int | None = None,
        fold: bool = False,
        diversity: float = 0.0,
        rerank: str | None = None,
        source: str | Sequence[str] | None = None,
        load: type[T],
        session: Session | None = None,
    ) -> list[T]: ...

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        tenant_id: str | None = None,
        min_score: float | None = None,
        filter: Mapping[str, Any] | None = None,
        hybrid: bool = False,
        offset: int | None = None,
        fold: bool = False,
        diversity: float = 0.0,
        rerank: str | None = None,
        source: str | Sequence[str] | None = None,
        load: type[T] | None = None,
        session: Session | None = None,
    ) -> list[Hit] | list[T]:
        """The k articles nearest in meaning, best first. Raises NotWell while search is switched off.

        `min_score`: the least cosine of a result. `filter`: what the article's metadata must have
        (`decide.filters` says how ranges, lists, dates and nesting are written). `hybrid`: ranked by
        meaning and by words together; the score stays the cosine. `source`: rows of one source, of several, or `all`: everything;
        without it, what was written as articles.

        `offset`: results before this page; every page is cut from the same ranking. `fold`: articles of the same content are one
        result. `diversity`: 0 to 1, results unlike each other. `rerank`: a reranker that a package registers (`providers.reranking`).

        `load`: a class that SQLAlchemy maps to a source's table; the rows that were found come as
        its objects, in their order, by one query more: in `session`, or detached.
        """
        wanted = Wanted(k, hybrid, offset, fold, diversity, rerank)
        wishes = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        if load is not None:
            return self._loaded(load, session, query, k, **wishes, **_more(wanted))
        return self._answers([query], wanted, **wishes)[0]

    def search_many(self, queries: Sequence[str], k: int = 10, **wishes: Any) -> list[list[Hit]]:
        """Several queries by one request to the provider, each answered as `search` answers it, with the same wishes."""
        narrow = {name: wishes.pop(name, None) for name in ("tenant_id", "min_score", "filter", "source")}
        if not 1 <= len(queries) <= MOST_QUERIES:
            raise InputError(f"there are {len(queries)} queries", hint=f"ask 1 to {MOST_QUERIES} at once", field="query")
        return self._answers(queries, Wanted(k, **wishes), **narrow)

    def more_like(
        self,
        article_id: str,
        k: int = 10,
        *,
        tenant_id: str | None = None,
        min_score: float | None = None,
        filter: Mapping[str, Any] | None = None,
        source: str | Sequence[str] | None = None,
        offset: int | None = None,
        fold: bool = False,
        diversity: float = 0.0,
    ) -> list[Hit]:
        """The k articles nearest to one (by id or slug), without itself: by its vectors, so that no provider is asked. The wishes are
        those of `search`; without `tenant_id` in the article's tenant. Raises NotFound, and NotWell while it has no vector."""
        wanted = Wanted(k, offset=offset, fold=fold, diversity=diversity)
        wishes = self._wishes(wanted, tenant_id, min_score, filter, source)
        article, model = self.get(article_id, tenant_id=tenant_id), self.provider.model
        vector = self.store.search.vector_of(model, article.id)
        if vector is None:
            raise NotWell(
                f"article {article_id!r} has no vector of {model} yet",
                hint=f"`embedq explain {article.id}` says what it waits for",
            )
        wishes["tenant_id"] = article.tenant_id
        return self._hits(self._answering.rows(self.store, model, vector, "", wanted, wishes, without=article.id))

    def _answers(self, queries: Sequence[str], wanted: Wanted, **narrow: Any) -> list[list[Hit]]:
        if not all(query.strip() for query in queries):
            raise InputError("the query is empty", hint="say what to search for", field="query")
        wishes = self._wishes(wanted, **narrow)
        provider = self.provider
        try:
            return self._found(provider, queries, wanted, wishes)
        except StoreUnavailable:
            # Another model was activated, and this one dropped, between our question and its answer.
            if self.provider.model == provider.model:
                raise
            return self._found(self.provider, queries, wanted, wishes)

    def _wishes(
        self,
        wanted: Wanted,
        tenant_id: str | None,
        min_score: float | None,
        filter: Mapping[str, Any] | None,
        source: str | Sequence[str] | None,
    ) -> dict[str, Any]:
        """As the store takes them. Raises InputError, and NotWell while search is switched off."""
        wanted.check()
        decision = self.decision()
        if not decision.search_enabled:
            raise NotWell(
                f"semantic search is disabled ({decision.source}: {decision.reason})",
                hint=SEARCH_ON.get(
                    decision.source, f"unset {decision.source} in this process's environment; the live mode is not the cause"
                ),
            )
        check_filter(filter or {})
        sources = self._sources_named(source)
        return {"tenant_id": tenant_id, "metadata": filter or {}, "min_score": min_score, "sources": sources}

    def _found(self, provider: Provider, queries: Sequence[str], wanted: Wanted, wishes: Mapping[str, Any]) -> list[list[Hit]]:
        self._spend(provider, queries)
        try:
            vectors = self._ask(provider, queries).vectors
        except InputRefused as refused:
            raise InputError(
                f"the query cannot be embedded: {refused}", hint="shorten it, or write it anew", field="query"
            ) from refused
        asked = zip(queries, vectors, strict=True)
        return [
            self._hits(self._answering.rows(self.store, provider.model, vector, query, wanted, wishes))
            for query, vector in asked
        ]

    def _hits(self, rows: Sequence[Mapping[str, Any]]) -> list[Hit]:
        keys = self._keys(rows)
        return [_hit(row, keys.get(row["article_id"])) for row in rows]

    def _loaded(self, model: type[T], session: Session | None, query: str, k: int, **wishes: Any) -> list[T]:
        from .loading import loaded, own_session

        keys = self._found_keys(model, query, k, **wishes)
        if session is not None:
            return loaded(model, keys, session)
        with own_session(lambda: psycopg.connect(self.store.database.url)) as own:
            return loaded(model, keys, own)

    def _found_keys(self, model: type[Any], query: str, k: int, **wishes: Any) -> list[Mapping[str, Any]]:
        """The keys of the rows that were found of the source which is this class's table."""
        from .loading import source_of_model

        source = wishes.pop("source") or source_of_model(model, self.store.sources.all())
        return [hit.key for hit in self.search(query, k, source=source, **wishes) if hit.key is not None]

    def _keys(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """The keys of those that are rows of sources, by the article's id."""
        of_sources = [row["article_id"] for row in rows if row["source"] is not None]
        if not of_sources:
            return {}
        return self.store.sources.keys(of_sources, {source["name"]: source for source in self.store.sources.all()})

    def _sources_named(self, source: str | Sequence[str] | None) -> Sequence[str] | None:
        """As the store has it: none for what was written as articles, None for everything. Raises NotFound."""
        if source is None or source == EVERYTHING:
            return () if source is None else None
        names = [source] if isinstance(source, str) else list(source)
        unknown = sorted(set(names) - set(self.store.sources.names()))
        if unknown or not names:
            raise NotFound(
                f"there is no source {', '.join(map(repr, unknown)) or 'of no name'}", hint="`embedq source list` names them"
            )
        return names

    def _ask(self, provider: Provider, texts: Sequence[str]) -> Embedded:
        return provider.embed(texts)

    def _spend(self, provider: Provider, queries: Sequence[str]) -> None:
        """A query is paid from the same budget as everything else, and never waits for it."""
        budget = wiring.budget(self.settings, self.store, provider.model)
        if budget is not None:
            budget.spend(sum(map(estimate_tokens, queries)) + len(queries) * provider.limits.overhead_tokens)

    @property
    def provider(self) -> Provider:
        """The active model's provider, for questions; made anew when another model was activated."""
        active = self.store.models.active() or wiring.agreed_model(self.settings, self.store)
        if self._provider is None or self._provider.model != active:
            self._provider = self._make_provider(active)
        return self._provider

    def _make_provider(self, model: Model, role: Role = Role.QUERY) -> Provider:
        return tracing.traced(wiring.provider_factory(self.settings, role)(model))

    def _writing_provider(self) -> Provider:
        """For texts that are stored."""
        asking = self.provider
        if wants_the_same(asking.model.preparation):
            return asking
        with self._lock:
            if self._for_texts is None or self._for_texts.model != asking.model:
                self._for_texts = self._make_provider(asking.model, Role.DOCUMENT)
            return self._for_texts

    # Mode ----------------------------------------------------------------------------------------------------------------------

    def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return self._decision(self.store.status.live())

    def _decision(self, live: LiveState) -> Decision:
        return decide(live, self.settings.switches)


def _more(wanted: Wanted) -> dict[str, Any]:
    """What of the wishes is not `k`, by its name."""
    return {name: value for name, value in wanted._asdict().items() if name != "k"}


def _not_embedded(waiting: Sequence[str], timeout_s: float) -> NotWell:
    return NotWell(
        f"{len(waiting)} articles are not embedded after {timeout_s:g} s, for example {min(waiting)!r}",
        hint=f"they are saved; `embedq explain {min(waiting)}` says what they wait for",
    )


def _refuse_row_of_source(article: Article) -> None:
    if article.source is not None:
        raise of_a_source(article.id, article.source)


def _hit(row: Mapping[str, Any], key: Mapping[str, Any] | None) -> Hit:
    snippet = " ".join(passage(row).split())
    snippet = snippet.removeprefix(row["title"]).strip() or row["title"]
    return Hit(
        row["article_id"],
        row["tenant_id"],
        row["slug"],
        row["title"],
        snippet[:SNIPPET_CHARACTERS],
        float(row["score"]),
        row["metadata"],
        row["updated_at"],
        row["source"],
        key,
        path_at(text_of(row), row["starts_at"]),
        row["created_at"],
        row.get("duplicates", ()),
    )


in_each_child(lambda: [client.begin_anew() for client in list(_clients)])
