"""`embedq search`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import click

from ..client.client import Client
from ..errors import InputError
from ..model import Hit
from .voice import Answer, Table, command


@command(name="search")
@click.argument("queries", nargs=-1, metavar="QUERY…")
@click.option("--like", metavar="ARTICLE", help="Instead of a query: articles near this one, by id or slug.")
@click.option("-k", default=5, show_default=True, help="How many results, of each query.")
@click.option("--tenant", help="Only this tenant's articles.")
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Leave out results with a lower score.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only articles whose metadata has this, or a filter as JSON; may be repeated.",
)
@click.option("--hybrid", is_flag=True, help="Rank by meaning and by words together.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME",
    help="Rows of this source, or of all (and the articles); default: articles only. May be repeated.",
)
@click.option("--offset", type=int, help="Results before this page; every page is cut from the same ranking.")
@click.option("--fold", is_flag=True, help="Articles of the same content are one result.")
@click.option("--diversity", type=float, default=0.0, help="0 to 1: results unlike each other.")
@click.option("--rerank", metavar="NAME", help="By this reranker, which another package registers.")
def search(
    queries: tuple[str, ...],
    like: str | None,
    filters: tuple[str, ...],
    sources: tuple[str, ...],
    tenant: str | None,
    hybrid: bool,
    rerank: str | None,
    **wishes: Any,
) -> Answer:
    """Find the articles nearest in meaning, with their scores (cosine, 1 is the same); of a source's rows, with their keys.

    Example:  embedq search "compress a file" -k 5
    Example:  embedq search "compress a file" "wait for a thread"
    Example:  embedq search --like gzip.compress
    Example:  embedq search "compress a file" --filter '{"year": {"$gte": 2020}, "kind": ["class", "function"]}'
    """
    if bool(queries) == (like is not None) or (like is not None and (hybrid or rerank)):
        raise InputError(
            "a search needs a query, or an article by --like: then without a query, --hybrid and --rerank",
            hint="embedq search --help",
            field="query",
        )
    wishes |= {"tenant_id": tenant, "filter": metadata_of(filters), "source": "all" if "all" in sources else sources or None}
    with Client() as client:
        if like is not None:
            answers = [(like, client.more_like(like, wishes.pop("k"), **wishes))]
        else:
            found = client.search_many(queries, wishes.pop("k"), hybrid=hybrid, rerank=rerank, **wishes)
            answers = [*zip(queries, found, strict=True)]
    return _answered(answers)


def _answered(answers: list[tuple[str, list[Hit]]]) -> Answer:
    """One query is answered by its hits, several by a list with each query."""
    data: Any = [{"query": query, "results": [hit._asdict() for hit in hits]} for query, hits in answers]
    if len(answers) == 1:
        data = data[0]["results"]
    if not any(hits for _, hits in answers):
        return Answer(data, ["nothing found: is anything embedded yet? `embedq status` tells"])
    return Answer(data, [hits_table(hits, query if len(answers) > 1 else None) for query, hits in answers])


def metadata_of(filters: tuple[str, ...]) -> dict[str, Any]:
    """All of the filters together. Raises InputError for what is neither KEY=VALUE nor a JSON object."""
    found = {key: value for text in filters if not _is_json(text) for key, value in _filter_of(text).items()}
    more = [_filter_of(text) for text in filters if _is_json(text)]
    return found | ({"$and": more} if more else {})


def _is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _filter_of(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    if _is_json(text):
        with suppress(ValueError, RecursionError):
            return dict(json.loads(text))
    elif key and sign:
        return {key: value}
    raise InputError(
        f"--filter {text!r} is neither KEY=VALUE nor a JSON object",
        hint='for example --filter language=en, or --filter \'{"year": {"$gte": 2020}}\'',
        field="filter",
    )


def hits_table(hits: Any, title: str | None = None) -> Table:
    if any(hit.source for hit in hits):
        rows = [(hit.score, hit.source, _key_told(hit), _place(hit), hit.snippet[:90]) for hit in hits]
        return Table(("score", "source", "key", "title", "text"), rows, title)
    return Table(("score", "title", "text"), [(hit.score, _place(hit), hit.snippet[:90]) for hit in hits], title)


def _place(hit: Any) -> str:
    """The title, and the headings above the passage that do not repeat it."""
    return " › ".join([hit.title, *(each for each in hit.path if each != hit.title)])


def _key_told(hit: Any) -> str:
    return hit.article_id if hit.key is None else ", ".join(f"{column}={value}" for column, value in hit.key.items())
