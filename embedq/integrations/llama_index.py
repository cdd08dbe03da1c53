"""LlamaIndex: a retriever over the articles that embedq keeps embedded. Extra: `embedq[llama-index]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from ..client.async_client import AsyncClient
from ..client.client import Client
from ..model import ArticleDraft, Priority
from . import articles
from .articles import Clients, Found, draft_of, metadata_of


class EmbedqRetriever(BaseRetriever):
    """The `k` articles of a tenant nearest to a query, as nodes: the content is the text, the title `metadata["title"]`.

    `wishes`: `filter`, `min_score`, `hybrid`, as for Client.search. The score is the cosine, -1 to 1. `add_nodes` and `delete_nodes` write:
    embedq embeds by its own model, in the background; `wait_s`: how many seconds `add_nodes` waits until the nodes can be found (NotWell
    when they cannot by then), 0 does not wait.
    """

    def __init__(
        self,
        client: Client | None = None,
        async_client: AsyncClient | None = None,
        *,
        k: int = 4,
        tenant_id: str = "default",
        wishes: Mapping[str, Any] | None = None,
        wait_s: float = 0.0,
        priority: Priority | str = Priority.NORMAL,
        **more: Any,
    ) -> None:
        """A client that is not passed is made when first needed, with the settings of the other, or else of the environment. `more`:
        arguments of LlamaIndex's BaseRetriever."""
        self.clients = Clients(client, async_client)
        self.k, self.tenant_id, self.wishes = k, tenant_id, dict(wishes or {})
        self.wait_s, self.priority = wait_s, Priority(priority)
        super().__init__(**more)

    def close(self) -> None:
        """Close the blocking client, if it was made here."""
        self.clients.close()

    async def aclose(self) -> None:
        """Close both clients, if they were made here."""
        await self.clients.aclose()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(self.clients.do(articles.find, query_bundle.query_str, self.k, self.tenant_id, self.wishes))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(await self.clients.ado(articles.find, query_bundle.query_str, self.k, self.tenant_id, self.wishes))

    def add_nodes(self, nodes: Sequence[BaseNode]) -> list[str]:
        """Save nodes or documents as articles with their ids; one whose id exists is replaced. Their ids, in order."""
        return self.clients.do(articles.save, self._drafts(nodes), **self._how)

    async def aadd_nodes(self, nodes: Sequence[BaseNode]) -> list[str]:
        """As `add_nodes`, for an event loop."""
        return await self.clients.ado(articles.save, self._drafts(nodes), **self._how)

    def delete_nodes(self, node_ids: Sequence[str]) -> None:
        """Delete those that exist."""
        self.clients.do(articles.remove, node_ids, self.tenant_id)

    async def adelete_nodes(self, node_ids: Sequence[str]) -> None:
        """As `delete_nodes`, for an event loop."""
        await self.clients.ado(articles.remove, node_ids, self.tenant_id)

    @property
    def _how(self) -> dict[str, Any]:
        return {"priority": self.priority, "reason": "llama-index", "wait_s": self.wait_s}

    def _drafts(self, nodes: Sequence[BaseNode]) -> list[ArticleDraft]:
        plain = MetadataMode.NONE
        return [draft_of(node.node_id, node.get_content(plain), node.metadata, self.tenant_id) for node in nodes]


def _nodes(found: Sequence[Found]) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(id_=article.id, text=article.content, metadata=metadata_of(article)), score=score)
        for article, score in found
    ]
