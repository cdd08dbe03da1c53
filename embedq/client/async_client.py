"""embedq for an application with an event loop (FastAPI, asyncio workers). The operations are those of `Client` (docs/why/async.rst)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .. import wiring
from ..bridge import Room, bridged, in_thread, wait_here
from ..decide.modes import Decision
from ..errors import InputError
from ..model import Article, ArticleDraft, Hit, Model, Priority, Role, Source
from ..providers import Embedded, Provider, asynchronous
from ..settings import Settings
from ..store import Store
from ..store.articles import Written
from ..store.callers import atell
from .client import Client
from .publisher import Publisher

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")


class AsyncClient:
    """`Client` for one event loop: the same methods, each to be awaited; many tasks may share it, and none blocks the loop.

    With no settings given, the environment is read. `connections`: to PostgreSQL, at most. Every method raises EmbedqError with a hint, or
    succeeds whole; a task that is cancelled in the middle leaves nothing half written.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 8) -> None:
        self._client = _Bridged(settings, connections=connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.settings = self._client.settings
        self.connections = connections

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Publish what waits to be published, then close every connection."""
        self._enter()
        await bridged(self._client.close)

    # Articles ------------------------------------------------------------------------------------------------------------------

    async def create(
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
        return await self._run(
            self._client.create,
            title,
            content,
            id=id,
            slug=slug,
            tenant_id=tenant_id,
            metadata=metadata,
            priority=priority,
            reason=reason,
        )

    async def put(
        self,
        drafts: Sequence[ArticleDraft],
        *,
        priority: Priority | str = Priority.NORMAL,
        reason: str = "import",
        replace: bool = True,
    ) -> Written:
        """Save many in one transaction. With `replace`, an article with the same id or slug is updated, and left alone if nothing changed."""
        return await self._run(self._client.put, drafts, priority=priority, reason=reason, replace=replace)

    async def edit(
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
        return await self._run(
            self._client.edit,
            article_id,
            tenant_id=tenant_id,
            if_version=if_version,
            if_updated_at=if_updated_at,
            priority=priority,
            reason=reason,
            **changes,
        )

    async def delete(
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
        await self._run(
            self._client.delete, article_id, tenant_id=tenant_id, if_version=if_version, if_updated_at=if_updated_at
        )

    async def restore(
        self,
        article_id: str,
        version: int | None = None,
        *,
        tenant_id: str | None = None,
        priority: Priority | str = Priority.HIGH,
        reason: str = "restore",
    ) -> Article:
        """Bring back an earlier text (the last one, without a version), also of a deleted article, then by its id."""
        return await self._run(self._client.restore, article_id, version, tenant_id=tenant_id, priority=priority, reason=reason)

    async def get(self, article_id: str, *, tenant_id: str | None = None) -> Article:
        """By id, or by slug. Raises NotFound."""
        return await self._run(self._client.get, article_id, tenant_id=tenant_id)

    async def get_many(self, article_ids: Sequence[str], *, tenant_id: str | None = None) -> list[Article]:
        """Those that exist, in the order of their ids here."""
        return await self._run(self._client.get_many, article_ids, tenant_id=tenant_id)

    async def wait(
        self, article_ids: Sequence[str], timeout_s: float = 30.0, *, tenant_id: str | None = None
    ) -> dict[str, str]:
        """Wait until no article of these is `queued` or `processing`; the `embedding_status` of each that exists.

        Raises NotWell when some still are after `timeout_s` seconds.
        """
        return await self._run(self._client.wait, article_ids, timeout_s, tenant_id=tenant_id)

    @asynccontextmanager
    async def within(
        self, connection: Any, *, priority: Priority | str = Priority.NORMAL, reason: str = "create"
    ) -> AsyncIterator[None]:
        """Inside the caller's own transaction: articles written in this block get tasks of this priority and reason, committed or
        rolled back with everything else the caller does.

        `connection`: psycopg's AsyncConnection, a SQLAlchemy AsyncConnection or AsyncSession, or asyncpg's. Raises InputError for any
        other kind, and for one that is in no transaction.
        """
        await atell(connection, self._client._beginning(Priority(priority), reason))
        yield

    # Search --------------------------------------------------------------------------------------------------------------------

    async def attach(
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
        """Keep the rows of a table of yours embedded; the name of the source. As `Client.attach`; in a thread, because it may take long."""
        made: str = await self._in_thread(
            "attach",
            table,
            title=title,
            content=content,
            where=where,
            tenant=tenant,
            metadata=metadata,
            key=key,
            name=name,
            priority=priority,
            reason=reason,
            fill=fill,
        )
        return made

    async def detach(self, name: str, *, keep_vectors: bool = False, reason: str = "detach") -> int:
        """As `Client.detach`; in a thread, because it may take long."""
        removed: int = await self._in_thread("detach", name, keep_vectors=keep_vectors, reason=reason)
        return removed

    async def sources(self) -> list[Source]:
        """Every source, with its state and what is wrong with it."""
        return await self._run(self._client.sources)

    @overload
    async def search(
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
        session: AsyncSession | None = None,
    ) -> list[Hit]: ...

    @overload
    async def search(
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
        load: type[M],
        session: AsyncSession | None = None,
    ) -> list[M]: ...

    async def search(
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
        load: type[M] | None = None,
        session: AsyncSession | None = None,
    ) -> list[Hit] | list[M]:
        """The k articles nearest in meaning, best first. Raises NotWell while search is switched off. The wishes are those of
        `Client.search`; `session` is SQLAlchemy's AsyncSession here.
        """
        wishes = {
            "tenant_id": tenant_id,
            "min_score": min_score,
            "filter": filter,
            "hybrid": hybrid,
            "offset": offset,
            "fold": fold,
            "diversity": diversity,
            "rerank": rerank,
            "source": source,
        }
        if load is None:
            found: list[Hit] = await self._run(self._client.search, query, k, **wishes)  # type: ignore[arg-type]
            return found
        if session is None:
            objects: list[M] = await self._in_thread("search", query, k, load=load, **wishes)
            return objects
        from .loading import loaded

        keys = await self._run(self._client._found_keys, load, query, k, **wishes)
        return await session.run_sync(lambda under: loaded(load, keys, under))

    async def search_many(self, queries: Sequence[str], k: int = 10, **wishes: Any) -> list[list[Hit]]:
        """Several queries by one request to the provider, each answered as `search` answers it, with the same wishes."""
        return await self._run(self._client.search_many, queries, k, **wishes)

    async def more_like(
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
        """The k articles nearest to one (by id or slug), without itself. The wishes are those of `Client.more_like`."""
        wishes = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        wishes |= {"offset": offset, "fold": fold, "diversity": diversity}
        return await self._run(self._client.more_like, article_id, k, **wishes)  # type: ignore[arg-type]

    async def _in_thread(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """By a `Client` of its own."""

        def work() -> Any:
            with Client(self.settings, connections=1) as client:
                return getattr(client, method)(*args, **kwargs)

        return await asyncio.to_thread(work)

    async def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return await self._run(self._client.decision)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._enter()
        return await bridged(work, *args, **kwargs)

    def _enter(self) -> None:
        """Connections belong to an event loop: those of one that was closed are left, and new ones made here."""
        here = asyncio.get_running_loop()
        if self._loop is not here:
            if self._loop is not None and not self._loop.is_closed():
                raise InputError(
                    "this AsyncClient is used by another event loop, which still runs",
                    hint="make one AsyncClient for each loop",
                )
            self._client.leave_loop()
            self._loop = here


class _Bridged(Client):
    """The client that `AsyncClient` runs below `bridged`. What has no asynchronous form is done by a client of threads: publishing, which has a
    thread of its own anyway, and the embedding of a write in mode `sync`."""

    def __init__(self, settings: Settings | None, *, connections: int) -> None:
        super().__init__(settings, connections=connections)
        self._threaded = Client(self.settings, connections=connections)
        self._making = Room(1)

    def leave_loop(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = self._provider = None
        self._making = Room(1)

    def close(self) -> None:
        try:
            wait_here(in_thread(self._threaded.close))
        except RuntimeError:  # no more threads
            self._threaded.close()
        if self._provider is not None:
            wait_here(asynchronous.close(self._provider))
        if self._store is not None:
            self._store.close()
        self._store = self._provider = None

    @property
    def publisher(self) -> Publisher:
        return self._threaded.publisher

    def _make_store(self) -> Store:
        return wiring.async_store(self.settings, size=self.connections)

    def _make_provider(self, model: Model, role: Role = Role.QUERY) -> Provider:
        """It may read certificates, or load a model, which lasts: once, for all tasks that need it."""
        with self._making:
            if self._provider is None or self._provider.model != model:
                self._provider = wait_here(in_thread(super()._make_provider, model, role))
            return self._provider

    def _ask(self, provider: Provider, texts: Sequence[str]) -> Embedded:
        return wait_here(asynchronous.embed(provider, texts))

    def _may_publish(self, priority: Priority, tenants: Collection[str], articles: int) -> bool:
        if not self.publisher.is_prepared:
            try:
                wait_here(in_thread(self.publisher.prepare))
            except RuntimeError as refused:  # no more threads
                log.warning("not published, the steward will: %s", refused)
                return False
        return super()._may_publish(priority, tenants, articles)

    def _pause(self, seconds: float) -> None:
        wait_here(asyncio.sleep(seconds))

    def _apart(self, work: Callable[[], list[int]]) -> list[int]:
        return wait_here(in_thread(work))

    def _embed_now(self, article_ids: Sequence[str]) -> None:
        wait_here(in_thread(self._threaded._embed_now, article_ids))
