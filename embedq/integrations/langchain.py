"""LangChain: a vector store and a retriever over the articles that embedq keeps embedded. Extra: `embedq[langchain]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field

from ..client.async_client import AsyncClient
from ..client.client import Client
from ..errors import InputError
from ..model import Article, ArticleDraft, Priority
from . import articles
from .articles import Clients, Found, draft_of, metadata_of


class EmbedqVectorStore(VectorStore):
    """A document is an article of one tenant: its text the content, `metadata["title"]` the title, its id the id.

    Writing saves articles; embedq embeds them in the background with its own model, so no `embedding` can be passed. `wait_s`: how
    many seconds a write waits until its documents can be found (NotWell when they cannot by then); 0 does not wait.
    """

    def __init__(
        self,
        client: Client | None = None,
        async_client: AsyncClient | None = None,
        *,
        tenant_id: str = "default",
        wait_s: float = 0.0,
        priority: Priority | str = Priority.NORMAL,
    ) -> None:
        """A client that is not passed is made when first needed, with the settings of the other, or else of the environment."""
        self.clients = Clients(client, async_client)
        self.tenant_id, self.wait_s, self.priority = tenant_id, wait_s, Priority(priority)

    def close(self) -> None:
        """Close the blocking client, if it was made here."""
        self.clients.close()

    async def aclose(self) -> None:
        """Close both clients, if they were made here."""
        await self.clients.aclose()

    # Writing -------------------------------------------------------------------------------------------------------------------

    def add_documents(self, documents: list[Document], *, ids: list[str] | None = None, **_: Any) -> list[str]:
        """Save these; one whose id exists is replaced. Their ids, in order. Raises InputError for what cannot be saved."""
        return self.clients.do(articles.save, self._drafts(documents, ids), **self._how)

    async def aadd_documents(self, documents: list[Document], *, ids: list[str] | None = None, **_: Any) -> list[str]:
        """As `add_documents`, for an event loop."""
        return await self.clients.ado(articles.save, self._drafts(documents, ids), **self._how)

    async def aadd_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *, ids: list[str] | None = None, **_: Any
    ) -> list[str]:
        """As `add_texts`, for an event loop."""
        return await self.aadd_documents(_documents(list(texts), metadatas), ids=ids)

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete those that exist. Raises InputError without ids, so that an omission does not delete all articles of a tenant."""
        self.clients.do(articles.remove, _named(ids), self.tenant_id)
        return True

    async def adelete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """As `delete`, for an event loop."""
        await self.clients.ado(articles.remove, _named(ids), self.tenant_id)
        return True

    @property
    def _how(self) -> dict[str, Any]:
        return {"priority": self.priority, "reason": "langchain", "wait_s": self.wait_s}

    def _drafts(self, documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[ArticleDraft]:
        keys = [document.id for document in documents] if ids is None else ids
        if len(keys) != len(documents):
            raise InputError(f"{len(documents)} documents and {len(keys)} ids", hint="give each its id, or None", field="ids")
        pairs = zip(keys, documents, strict=True)
        return [draft_of(key, document.page_content, document.metadata, self.tenant_id) for key, document in pairs]

    # Reading -------------------------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Those that exist."""
        return [_document(article) for article in self.clients.do(articles.get, ids, self.tenant_id)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """As `get_by_ids`, for an event loop."""
        return [_document(article) for article in await self.clients.ado(articles.get, ids, self.tenant_id)]

    def similarity_search(self, query: str, k: int = 4, **wishes: Any) -> list[Document]:
        """The k documents nearest in meaning, best first. `wishes`: `filter`, `min_score`, `hybrid`, as for Client.search."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **wishes)]

    async def asimilarity_search(self, query: str, k: int = 4, **wishes: Any) -> list[Document]:
        """As `similarity_search`, for an event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **wishes)]

    def similarity_search_with_score(self, query: str, k: int = 4, **wishes: Any) -> list[tuple[Document, float]]:
        """The same, each with its cosine similarity, -1 to 1."""
        return _scored(self.clients.do(articles.find, query, k, self.tenant_id, wishes))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **wishes: Any) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`, for an event loop."""
        return _scored(await self.clients.ado(articles.find, query, k, self.tenant_id, wishes))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """LangChain's relevance is 0 to 1: the cosine, and 0 where it is negative."""
        return lambda score: min(1.0, max(0.0, score))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **more: Any,
    ) -> EmbedqVectorStore:
        """A store (`more`: its arguments) with these texts. Raises InputError for an `embedding`: embedq embeds by its own model."""
        store = cls._without(embedding, more)
        store.add_documents(_documents(texts, metadatas), ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **more: Any,
    ) -> EmbedqVectorStore:
        """As `from_texts`, for an event loop."""
        store = cls._without(embedding, more)
        await store.aadd_documents(_documents(texts, metadatas), ids=ids)
        return store

    @classmethod
    def _without(cls, embedding: Embeddings | None, more: dict[str, Any]) -> EmbedqVectorStore:
        if embedding is not None:
            raise InputError(
                "an embedding was passed, which would not be used",
                hint="pass None; embedq embeds by its own model (`embedq model list`)",
                field="embedding",
            )
        return cls(**more)


class EmbedqRetriever(BaseRetriever):
    """The `k` documents of a store nearest to a query. `search_kwargs`: `filter`, `min_score`, `hybrid`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    store: EmbedqVectorStore
    k: int = 4
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **wishes: Any
    ) -> list[Document]:
        return self.store.similarity_search(query, **({"k": self.k} | self.search_kwargs | wishes))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **wishes: Any
    ) -> list[Document]:
        return await self.store.asimilarity_search(query, **({"k": self.k} | self.search_kwargs | wishes))


def _documents(texts: Sequence[str], metadatas: Sequence[dict[str, Any]] | None) -> list[Document]:
    metadatas = metadatas or [{} for _ in texts]
    if len(metadatas) != len(texts):
        raise InputError(f"{len(texts)} texts and {len(metadatas)} metadatas", hint="give each text one", field="metadatas")
    return [Document(page_content=text, metadata=metadata) for text, metadata in zip(texts, metadatas, strict=True)]


def _document(article: Article) -> Document:
    return Document(id=article.id, page_content=article.content, metadata=metadata_of(article))


def _scored(found: Sequence[Found]) -> list[tuple[Document, float]]:
    return [(_document(article), score) for article, score in found]


def _named(ids: list[str] | None) -> list[str]:
    if ids is None:
        raise InputError("no ids were given", hint="name the documents to delete", field="ids")
    return ids
