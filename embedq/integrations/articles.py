"""Saves, finds and removes articles for the framework adapters, with a `Client` or an `AsyncClient`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from uuid import uuid4

from ..client.async_client import AsyncClient
from ..client.client import Client
from ..errors import InputError, NotFound
from ..model import Article, ArticleDraft, Priority
from ..settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
TITLE = "title"


class Found(NamedTuple):
    """`score`: the cosine similarity, -1 to 1."""

    article: Article
    score: float


class Clients:
    """The clients that were passed in; a missing one is made when first needed, with the settings of the other, or else of the environment."""

    def __init__(self, client: Client | None = None, async_client: AsyncClient | None = None) -> None:
        given = client or async_client
        self._settings: Settings | None = given.settings if given else None
        self._given = client, async_client

    @cached_property
    def client(self) -> Client:
        return self._given[0] or Client(self._settings)

    @cached_property
    def async_client(self) -> AsyncClient:
        return self._given[1] or AsyncClient(self._settings)

    def do(self, act: Callable[Concatenate[Client, P], T], *args: P.args, **more: P.kwargs) -> T:
        return act(self.client, *args, **more)

    async def ado(self, act: Callable[Concatenate[Client, P], T], *args: P.args, **more: P.kwargs) -> T:
        """The same, without blocking the event loop."""
        return await self.async_client._run(act, self.async_client._client, *args, **more)

    def close(self) -> None:
        """Close the blocking client, if it was made here."""
        if self._given[0] is None and "client" in vars(self):
            self.client.close()

    async def aclose(self) -> None:
        """Close both, if they were made here."""
        if self._given[1] is None and "async_client" in vars(self):
            await self.async_client.close()
        self.close()


def draft_of(key: str | None, text: str, metadata: Mapping[str, Any], tenant_id: str) -> ArticleDraft:
    """A `title` in the metadata becomes the article's title, which is embedded with the text. Without an id, one is generated."""
    rest = dict(metadata)
    title = rest.pop(TITLE) if isinstance(rest.get(TITLE), str) else ""
    return ArticleDraft(title, text, key or str(uuid4()), tenant_id=tenant_id, metadata=rest)


def metadata_of(article: Article) -> dict[str, Any]:
    return {**article.metadata, TITLE: article.title} if article.title else dict(article.metadata)


def save(client: Client, drafts: Sequence[ArticleDraft], *, priority: Priority | str, reason: str, wait_s: float) -> list[str]:
    """Save drafts of one tenant, all with ids; of two with the same id the last. `wait_s`: see Client.wait; 0 waits for nothing."""
    by_id = {draft.id: draft for draft in drafts if draft.id is not None}
    if not by_id:
        return []
    tenant_id = drafts[0].tenant_id
    written = client.put(list(by_id.values()), priority=priority, reason=reason)
    _refuse_taken(client, by_id.keys() - set(written.ids), tenant_id)
    if wait_s:
        client.wait(list(by_id), wait_s, tenant_id=tenant_id)
    return [draft.id for draft in drafts if draft.id is not None]


def _refuse_taken(client: Client, unchanged: set[str], tenant_id: str) -> None:
    taken = (
        unchanged - {article.id for article in client.get_many(list(unchanged), tenant_id=tenant_id)} if unchanged else set()
    )
    if taken:
        raise InputError(
            f"{len(taken)} ids cannot be used by the tenant {tenant_id!r}, for example {min(taken)!r}",
            hint="choose other ids; the rest is saved",
            field="id",
        )


def find(client: Client, query: str, k: int, tenant_id: str, wishes: Mapping[str, Any]) -> list[Found]:
    """The k articles nearest to the query, whole, best first. `wishes`: further arguments of Client.search."""
    scores = {hit.article_id: hit.score for hit in client.search(query, k, tenant_id=tenant_id, **wishes)}
    return [Found(article, scores[article.id]) for article in client.get_many(list(scores), tenant_id=tenant_id)]


def get(client: Client, ids: Sequence[str], tenant_id: str) -> list[Article]:
    return client.get_many(ids, tenant_id=tenant_id)


def remove(client: Client, ids: Sequence[str], tenant_id: str) -> None:
    """Delete those that exist."""
    for article in client.get_many(ids, tenant_id=tenant_id):
        with suppress(NotFound):  # another process deleted it first
            client.delete(article.id, tenant_id=tenant_id)
