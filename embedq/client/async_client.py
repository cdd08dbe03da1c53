"""embedq for an application with an event loop (FastAPI, asyncio workers). The operations are those of `Client` (docs/why/async.rst)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from ..bridge import bridged
from ..decide.answers import Wanted
from ..decide.modes import Decision
from ..errors import InputError
from ..model import Article, ArticleDraft, Hit, Priority, Source, SourceDraft
from ..settings import Settings
from ..store.articles import Written
from ..store.callers import atell
from .bridged import BridgedClient
from .client import Client
from .wishes import Narrow, SearchWishes

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")


class AsyncClient:
    """`Client` for one event loop: the same methods, each to be awaited; many tasks may share it, and none blocks the loop.

    With no settings given, the environment is read. `connections`: to PostgreSQL, at most. Every method raises EmbedqError with a hint, or
    succeeds whole; a task that is cancelled in the middle leaves nothing half written.
    """

    def __init__(self, settings: Settings | None = None, *, connections: int = 8) -> None:
        self._client = BridgedClient(settings, connections=connections)
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
        draft = ArticleDraft(title, content, id, slug, tenant_id, metadata or {})
        return (await self._run(self._client._writing.create, draft, priority, reason)).article

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

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing written, if it was changed since.
        """
        as_read: dict[str, Any] = {"if_version": if_version, "if_updated_at": if_updated_at}
        return await self._run(
            self._client._writing.edit, article_id, priority, reason, tenant_id=tenant_id, **as_read, **changes
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

        `if_version`, `if_updated_at`: as it was read; NotFound, and nothing deleted, if it was changed since.
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
        await atell(connection, self._client._writing.beginning(Priority(priority), reason))
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
        """Keep the rows of one of your tables embedded; the name of the source. As `Client.attach`; in a thread, because it may take long."""
        draft = SourceDraft(table, title, content, where, tenant, tuple(metadata), tuple(key), name, Priority(priority))
        return await self._in_thread(lambda client: client._attach(draft, reason, fill=fill))

    async def detach(self, name: str, *, keep_vectors: bool = False, reason: str = "detach") -> int:
        """As `Client.detach`; in a thread, because it may take long."""
        return await self._in_thread(lambda client: client.detach(name, keep_vectors=keep_vectors, reason=reason))

    async def sources(self) -> list[Source]:
        """Every source, with its state and what is wrong with it."""
        return await self._run(self._client.sources)

    @overload
    async def search(
        self, query: str, k: int = 10, *, load: None = None, session: AsyncSession | None = None, **wishes: Unpack[SearchWishes]
    ) -> list[Hit]: ...

    @overload
    async def search(
        self, query: str, k: int = 10, *, load: type[M], session: AsyncSession | None = None, **wishes: Unpack[SearchWishes]
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
        wanted = Wanted(k, hybrid, offset, fold, diversity, rerank)
        narrow: Narrow = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        if load is None:
            return (await self._run(self._client._searching.answers, [query], wanted, **narrow))[0]
        if session is None:
            found = load
            return await self._in_thread(lambda client: client._searching.loaded(found, None, query, wanted, **narrow))
        from .loading import loaded

        keys = await self._run(self._client._searching.found_keys, load, query, wanted, **narrow)
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
        narrow: Narrow = {"tenant_id": tenant_id, "min_score": min_score, "filter": filter, "source": source}
        wanted = Wanted(k, offset=offset, fold=fold, diversity=diversity)
        return await self._run(self._client._searching.like, article_id, wanted, **narrow)

    async def decision(self) -> Decision:
        """What this process does about embedding now, and who decided it."""
        return await self._run(self._client.decision)

    async def _in_thread(self, act: Callable[[Client], T]) -> T:
        """By a `Client` of its own."""

        def work() -> T:
            with Client(self.settings, connections=1) as client:
                return act(client)

        return await asyncio.to_thread(work)

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
