"""ETags of articles, and the preconditions that name them (docs/why/etag.rst).

An ETag stands for title, content, slug and metadata. The state of the embedding is not part of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from ..model import Article
from .problems import Refusal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# One entity-tag (RFC 9110, 8.8.3). A weak one never matches: it does not promise that everything is the same.
TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def tag_of(article: Article) -> str:
    """The text's version, and the time of the last change of the row, in microseconds."""
    return f'"{article.version}-{(article.updated_at - EPOCH) // timedelta(microseconds=1):x}"'


def names(header: str, article: Article) -> bool:
    """Whether the list of ETags, or `*`, names the article as it is."""
    return header.strip() == "*" or tag_of(article) in [tag for weak, tag in TAG.findall(header) if not weak]


def condition(article: Article, if_match: str | None, if_none_match: str | None = None) -> dict[str, Any]:
    """The condition that the writing statement must check again under the row's lock. Raises Refusal (412) if it fails already."""
    if if_none_match is not None and names(if_none_match, article):
        raise changed(article, "If-None-Match", "an article is there already", "send If-Match with its ETag to change it")
    if if_match is None:
        return {}
    if not names(if_match, article):
        raise changed(article)
    return {} if if_match.strip() == "*" else {"if_version": article.version, "if_updated_at": article.updated_at}


def changed(
    now: Article, field: str = "If-Match", detail: str = "", next_step: str = "read it again and repeat the edit"
) -> Refusal:
    told = detail or f"the article's ETag is {tag_of(now)} now"
    return Refusal(412, "version", "The article has changed", told, next_step, field=field, headers={"ETag": tag_of(now)})
