"""embedq for an application: articles and search. One `Client` per process; threads may share it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..decide.answers import Wanted
from ..decide.modes import Decision
from ..decide.sources import source_of
from ..model import Article, ArticleDraft, Hit, Priority, Source, SourceDraft
from ..operations import sources as attaching
from ..settings import Settings, from_env
from ..store.articles import Created, Written
from ..store.callers import tell
from .parts import Parts
from .searching import Searching
from .waiting import wait
from .wishes import Narrow, SearchWishes
from .writing import Writing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..broker import Broker
    from ..providers import Provider
    from ..store import Store
    from .publisher import Publisher

T = TypeVar("T")

APPLICATION = "the application"


class Client:
    """Create, edit, delete and search articles. Saving never waits for the broker or the provider (G7).

    With no settings given, the environment is read. `connections`: to PostgreSQL, at most. Every method raises EmbedqError with a hint, or succeeds whole.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 8) -> None:
        self._parts = self._make_parts(settings or from_env(os.environ), connections)
        self.settings, self.connections = self._parts.settings, connections
        self._writing, self._searching = Writing(self._parts), Searching(self._parts)

    def _make_parts(self, settings: Settings, connections: int) -> Parts:
        return Parts(settings, connections)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Publish what waits to be published, then close every connection."""
        self._parts.close()

    @property
    def store(self) -> Store:
        return self._parts.store

    @property
    def broker(self) -> Broker:
        return self._parts.broker

    @property
    def publisher(self) -> Publisher:
        return self._parts.publisher

    @property
    def provider(self) -> Provider:
        return self._parts.provider

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
        return self._writing.create(draft, priority, reason).article

    def create_with_task(
        self, draft: ArticleDraft, *, priority: Priority | str = Priority.NORMAL, reason: str = "create"
    ) -> Created:
        """As `create`; returns the task as well."""
        return self._writing.create(draft, priority, reason)

    def put(
        self,
        drafts: Sequence[ArticleDraft],
        *,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "import",
        replace: bool = True,
    ) -> Written:
        """Save many in one transaction. With `replace`, an article with the same id or slug is updated, and left alone if nothing changed."""
        return self._writing.put(drafts, priority, reason, replace=replace)

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

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing written, if it was changed since.
        """
        as_read: dict[str, Any] = {"if_version": if_version, "if_updated_at": if_updated_at}
        return self._writing.edit(article_id, priority, reason, tenant_id=tenant_id, **as_read, **changes)

    def delete(
        self,
        article_id: str,
        *,
        tenant_id: str | None = None,
        if_version: int | None = None,
        if_updated_at: datetime | None = None,
    ) -> None:
        """Delete an article with its vectors and open tasks; its last text stays in the history until clean-up.

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing deleted, if it was changed since.
        """
        self._writing.delete(article_id, tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at)

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
        return self._writing.restore(article_id, version, priority, reason, tenant_id=tenant_id)

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
        return wait(self._parts, article_ids, timeout_s, tenant_id)

    @contextmanager
    def within(self, connection: Any, *, priority: Priority | str = Priority.NORMAL, reason: str = "create") -> Iterator[None]:
        """Inside the caller's own transaction: articles written in this block get tasks of this priority and reason, committed or
        rolled back with everything else the caller does.

        `connection`: psycopg's, a SQLAlchemy Connection or Session, or Django's. Raises InputError for any other kind, and for one
        that is in no transaction.
        """
        tell(connection, self._writing.beginning(Priority(priority), reason))
        yield

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
        """Keep the rows of one of your tables embedded; the name of the source. Nothing of the table changes but that it has triggers.

        The words are those of `SourceDraft`. With `fill` the rows that are there are taken in before this returns; without, by the workers.
        Attached under its name again, a source changes to what is said now. Raises InputError with the reason when it cannot be.
        """
        draft = SourceDraft(table, title, content, where, tenant, tuple(metadata), tuple(key), name, Priority(priority))
        return self._attach(draft, reason, fill=fill)

    def _attach(self, draft: SourceDraft, reason: str, *, fill: bool) -> str:
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
        self, query: str, k: int = 10, *, load: None = None, session: Session | None = None, **wishes: Unpack[SearchWishes]
    ) -> list[Hit]: ...

    @overload
    def search(
        self, query: str, k: int = 10, *, load: type[T], session: Session | None = None, **wishes: Unpack[SearchWishes]
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
        narrow: Narrow = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        if load is not None:
            return self._searching.loaded(load, session, query, wanted, **narrow)
        return self._searching.answers([query], wanted, **narrow)[0]

    def search_many(self, queries: Sequence[str], k: int = 10, **wishes: Any) -> list[list[Hit]]:
        """Several queries by one request to the provider, each answered as `search` answers it, with the same wishes."""
        return self._searching.many(queries, k, **wishes)

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
        narrow: Narrow = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        return self._searching.like(article_id, Wanted(k, offset=offset, fold=fold, diversity=diversity), **narrow)

    # Mode ----------------------------------------------------------------------------------------------------------------------

    def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return self._parts.decision()
