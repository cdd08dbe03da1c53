"""Articles as resources: `article://TENANT/ARTICLE`, and earlier texts as `article://TENANT/ARTICLE/versions/NUMBER`."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, unquote

from ..decide.access import DEFAULT_TENANT, Principal, tenant_for
from ..decide.drafts import check_characters
from ..errors import InputError
from .article_versions import OneVersion, get_version
from .parts import Parts

SCHEME: Final = "article://"
MEDIA_TYPE: Final = "text/plain"
PAGE: Final = 100
HINT: Final = "write article://TENANT/ARTICLE, with the id or the slug of the article percent-encoded"
TEMPLATES: Final = [
    {
        "uri_template": SCHEME + "{tenant}/{article}",
        "name": "article",
        "mime_type": MEDIA_TYPE,
        "description": "The newest text of an article, by id or slug: its title, an empty line, its content.",
    },
    {
        "uri_template": SCHEME + "{tenant}/{article}/versions/{version}",
        "name": "version",
        "mime_type": MEDIA_TYPE,
        "description": "The text that an article had at an earlier version.",
    },
]


def listed(parts: Parts, principal: Principal, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the token's tenant's articles, and the cursor of the next one."""
    tenant = tenant_for(principal, None, DEFAULT_TENANT)
    check_characters("cursor", cursor or "")
    rows = parts.client.store.articles.page(tenant_id=tenant, after=cursor or "", limit=PAGE + 1)
    found = [
        {
            "uri": uri_of(tenant, row["id"]),
            "name": row["slug"] or row["id"],
            "title": row["title"] or row["id"],
            "mime_type": MEDIA_TYPE,
        }
        for row in rows[:PAGE]
    ]
    return found, rows[PAGE - 1]["id"] if len(rows) > PAGE else None


def read(parts: Parts, principal: Principal, uri: str) -> str:
    """Raises InputError for a URI that names no article, NotFound, and PermissionError for another tenant's than the token's."""
    tenant, key, version = parsed(uri)
    tenant = tenant_for(principal, tenant, DEFAULT_TENANT)
    if version is None:
        article = parts.client.get(key, tenant_id=tenant)
        return f"{article.title}\n\n{article.content}".strip()
    earlier = get_version(parts, principal, OneVersion(article=key, version=version, tenant=tenant))
    return f"{earlier.title}\n\n{earlier.content}".strip()


def uri_of(tenant: str, key: str) -> str:
    return f"{SCHEME}{quote(tenant, safe='')}/{quote(key, safe='')}"


def parsed(uri: str) -> tuple[str, str, int | None]:
    """Tenant, article and version of a URI. Raises InputError."""
    pieces = [unquote(piece) for piece in uri.removeprefix(SCHEME).split("/")]
    version = (
        pieces[3] if len(pieces) == 4 and pieces[2] == "versions" and pieces[3].isdecimal() and len(pieces[3]) < 10 else None
    )
    if not uri.startswith(SCHEME) or not all(pieces) or not (len(pieces) == 2 or version is not None):
        raise InputError("this is no URI of an article", hint=HINT, field="uri")
    for piece in pieces:
        check_characters("uri", piece)
    return pieces[0], pieces[1], None if version is None else int(version)
