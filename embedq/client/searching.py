"""How a client searches: embed the queries, rank, and return hits, or the objects of mapped classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from .. import wiring
from ..decide.answers import Wanted
from ..decide.filters import check_filter
from ..decide.modes import Source as DecidedBy
from ..decide.sections import path_at
from ..decide.tokens import estimate_tokens
from ..errors import InputError, InputRefused, NotFound, NotWell, StoreUnavailable
from ..model import Hit
from .answering import Answering, passage, text_of
from .parts import Parts

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..providers import Provider

T = TypeVar("T")

SNIPPET_CHARACTERS = 160
ALL_SOURCES = "all"
MOST_QUERIES = 50
NARROWING = ("tenant_id", "min_score", "filter", "source")
# The next step where the live mode disables search; where a setting of this process does, the message names it as the cause.
SEARCH_ON = {DecidedBy.LIVE: "`embedq mode celery --reason …` switches it on"}


class Searching:
    """`narrow`: tenant_id, min_score, filter and source, as `Client.search` takes them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._answering = Answering(parts.apart)

    def many(self, queries: Sequence[str], k: int, **wishes: Any) -> list[list[Hit]]:
        """`wishes`: the other arguments of `Client.search`, but `load`."""
        narrow = {name: wishes.pop(name, None) for name in NARROWING}
        if not 1 <= len(queries) <= MOST_QUERIES:
            raise InputError(f"there are {len(queries)} queries", hint=f"ask 1 to {MOST_QUERIES} at once", field="query")
        return self.answers(queries, Wanted(k, **wishes), **narrow)

    def answers(self, queries: Sequence[str], wanted: Wanted, **narrow: Any) -> list[list[Hit]]:
        if not all(query.strip() for query in queries):
            raise InputError("the query is empty", hint="say what to search for", field="query")
        wishes = self._wishes(wanted, **narrow)
        provider = self.parts.provider
        try:
            return self._found(provider, queries, wanted, wishes)
        except StoreUnavailable:
            # Another model was activated, and this one dropped, between the query's embedding and the search.
            if self.parts.provider.model == provider.model:
                raise
            return self._found(self.parts.provider, queries, wanted, wishes)

    def like(self, article_id: str, wanted: Wanted, **narrow: Any) -> list[Hit]:
        wishes = self._wishes(wanted, **narrow)
        store = self.parts.store
        article, model = store.articles.get(article_id, tenant_id=narrow["tenant_id"]), self.parts.provider.model
        vector = store.search.vector_of(model, article.id)
        if vector is None:
            raise NotWell(
                f"article {article_id!r} has no vector of {model} yet",
                hint=f"`embedq explain {article.id}` says what it waits for",
            )
        wishes["tenant_id"] = article.tenant_id
        return self._hits(self._answering.rows(store, model, vector, "", wanted, wishes, without=article.id))

    def loaded(self, model: type[T], session: Session | None, query: str, wanted: Wanted, **narrow: Any) -> list[T]:
        from .loading import loaded, own_session

        keys = self.found_keys(model, query, wanted, **narrow)
        if session is not None:
            return loaded(model, keys, session)
        with own_session(lambda: psycopg.connect(self.parts.store.database.url)) as own:
            return loaded(model, keys, own)

    def found_keys(self, model: type[Any], query: str, wanted: Wanted, **narrow: Any) -> list[Mapping[str, Any]]:
        """The keys of the rows that were found of the source which is this class's table."""
        from .loading import source_of_model

        narrow["source"] = narrow["source"] or source_of_model(model, self.parts.store.sources.all())
        return [hit.key for hit in self.answers([query], wanted, **narrow)[0] if hit.key is not None]

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
        self._refuse_while_disabled()
        check_filter(filter or {})
        sources = self._sources_named(source)
        return {"tenant_id": tenant_id, "metadata": filter or {}, "min_score": min_score, "sources": sources}

    def _refuse_while_disabled(self) -> None:
        decision = self.parts.decision()
        if not decision.search_enabled:
            raise NotWell(
                f"semantic search is disabled ({decision.source}: {decision.reason})",
                hint=SEARCH_ON.get(
                    decision.source, f"unset {decision.source} in this process's environment; the live mode is not the cause"
                ),
            )

    def _sources_named(self, source: str | Sequence[str] | None) -> Sequence[str] | None:
        """As the store takes them: none for what was written as articles, None for everything. Raises NotFound."""
        if source is None or source == ALL_SOURCES:
            return () if source is None else None
        names = [source] if isinstance(source, str) else list(source)
        unknown = sorted(set(names) - set(self.parts.store.sources.names()))
        if unknown or not names:
            raise NotFound(
                f"there is no source {', '.join(map(repr, unknown)) or 'of no name'}", hint="`embedq source list` names them"
            )
        return names

    def _found(self, provider: Provider, queries: Sequence[str], wanted: Wanted, wishes: Mapping[str, Any]) -> list[list[Hit]]:
        self._spend(provider, queries)
        try:
            vectors = self.parts.ask(provider, queries).vectors
        except InputRefused as refused:
            raise InputError(
                f"the query cannot be embedded: {refused}", hint="shorten it, or write it anew", field="query"
            ) from refused
        asked = zip(queries, vectors, strict=True)
        return [
            self._hits(self._answering.rows(self.parts.store, provider.model, vector, query, wanted, wishes))
            for query, vector in asked
        ]

    def _spend(self, provider: Provider, queries: Sequence[str]) -> None:
        """A query counts against the same rate limit as everything else, and never waits for it."""
        budget = wiring.budget(self.parts.settings, self.parts.store, provider.model)
        if budget is not None:
            budget.spend(sum(map(estimate_tokens, queries)) + len(queries) * provider.limits.overhead_tokens)

    def _hits(self, rows: Sequence[Mapping[str, Any]]) -> list[Hit]:
        keys = self._keys(rows)
        return [_hit(row, keys.get(row["article_id"])) for row in rows]

    def _keys(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """The keys of those that are rows of sources, by the article's id."""
        of_sources = [row["article_id"] for row in rows if row["source"] is not None]
        if not of_sources:
            return {}
        sources = self.parts.store.sources
        return sources.keys(of_sources, {source["name"]: source for source in sources.all()})


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
