"""Drafts of articles as parameters of the statements that write many at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ..model import ArticleDraft


def by_statement(drafts: Sequence[ArticleDraft], replace: bool) -> Iterator[tuple[str, list[ArticleDraft]]]:
    """The drafts with the name of the statement that writes them."""
    if not replace:
        yield "insert_articles", list(drafts)
        return
    groups: dict[str, list[ArticleDraft]] = {"put_articles_by_id": [], "put_articles_by_slug": [], "insert_articles": []}
    for draft in drafts:
        name = "put_articles_by_id" if draft.id else "put_articles_by_slug" if draft.slug else "insert_articles"
        groups[name].append(draft)
    yield from ((name, group) for name, group in groups.items() if group)


def columns(drafts: Sequence[ArticleDraft]) -> dict[str, Any]:
    """The parameters of these statements: one list per column."""
    return {
        "ids": [d.id for d in drafts],
        "tenants": [d.tenant_id for d in drafts],
        "slugs": [d.slug for d in drafts],
        "titles": [d.title for d in drafts],
        "contents": [d.content for d in drafts],
        "metadatas": [json.dumps(dict(d.metadata)) for d in drafts],
    }
