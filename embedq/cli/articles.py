"""`embedq articles …`; the import is in `importing`, review and reindexing in `repairs`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..client.client import Client
from ..errors import InputError
from .importing import import_
from .repairs import mark_review, reindex
from .tasks import PRIORITY
from .voice import Answer, Table, Text, command, confirm


@click.group()
def articles() -> None:
    """Add, import, list, show, edit, delete, restore, review and reindex articles."""


articles.add_command(import_)
articles.add_command(mark_review)
articles.add_command(reindex)


def article_data(article: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(article)


def register(made: click.Command) -> click.Command:
    articles.add_command(made)
    return made


@register
@command(name="add", changes=True)
@click.argument("title")
@click.option("--content", help="The text; '-' or nothing reads standard input.")
@click.option("--id", "article_id", help="Its id; by default one is generated.")
@click.option("--slug", help="A readable name, unique within the tenant.")
@click.option("--tenant", default="default", show_default=True)
@click.option("--priority", type=PRIORITY, default="normal", show_default=True)
def add(
    title: str,
    content: str | None,
    article_id: str | None,
    slug: str | None,
    tenant: str,
    priority: str,
    reason: str,
    yes: bool,
) -> Answer:
    """Add an article; it is embedded in the background.

    Example:  embedq articles add "Tea" --content "How to brew it"
    """
    if content is None or content == "-":
        content = read_text()
    with Client() as client:
        article = client.create(
            title, content, id=article_id, slug=slug, tenant_id=tenant, priority=priority, reason=reason or "create"
        )
    return Answer(article_data(article), [f"added {article.id} ({article.embedding_status})"])


def read_text() -> str:
    """All of standard input. Raises InputError if it is not UTF-8, and if it is a terminal, because the command would wait without a prompt."""
    if sys.stdin.isatty():
        raise InputError(
            "there is no text", hint='name it with --content "…", or send it to standard input: … < FILE', field="content"
        )
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as wrong:
        raise InputError(
            f"standard input is not UTF-8: byte {wrong.start + 1:,}", hint="convert it, for example with iconv"
        ) from None


@register
@command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", type=click.Choice(["queued", "processing", "ready", "failed", "skipped"]))
@click.option("--source", metavar="NAME", help="Rows of this source, or of all (and the articles); default: articles only.")
@click.option("--after", default="", help="Ids after this one (the next page).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def list_(tenant: str | None, status: str | None, source: str | None, after: str, limit: int) -> Answer:
    """List articles by id.

    Example:  embedq articles list --status failed
    """
    with Client() as client:
        rows = client.store.articles.page(tenant_id=tenant, status=status, source=source, after=after, limit=limit)
    said: list[str | Table] = [
        Table(
            ("id", "tenant", "slug", "title", "status", "updated"),
            [(r["id"], r["tenant_id"], r["slug"], r["title"], r["embedding_status"], r["updated_at"]) for r in rows],
        )
    ]
    if len(rows) == limit:
        said.append(f"more: --after {rows[-1]['id']}")
    return Answer(rows, said)


@register
@command(name="show")
@click.argument("article")
@click.option("--tenant", help="Only if it is of this tenant.")
@click.option("--versions", is_flag=True, help="Earlier texts too.")
def show(article: str, tenant: str | None, versions: bool) -> Answer:
    """Show an article by id or slug.

    Example:  embedq articles show tea --versions
    """
    with Client() as client:
        found = client.get(article, tenant_id=tenant)
        earlier = client.store.articles.versions(found.id, tenant_id=tenant) if versions else []
    data = article_data(found) | ({"versions": earlier} if versions else {})
    facts = [(key, value) for key, value in article_data(found).items() if key != "content"]
    said: list[str | Table] = [Table(("", ""), facts), Text(found.content)]
    if versions:
        said.append(
            Table(
                ("version", "title", "written", "superseded"),
                [(v["version_number"], v["title"], v["created_at"], v["superseded_at"]) for v in earlier],
                "Earlier texts",
            )
        )
    return Answer(data, said)


@register
@command(name="edit", changes=True)
@click.argument("article")
@click.option("--title")
@click.option("--content", help="'-' reads standard input.")
@click.option("--slug")
@click.option("--tenant", help="Only if it is of this tenant.")
@click.option("--priority", type=PRIORITY, default="normal", show_default=True)
def edit(article: str, tenant: str | None, priority: str, reason: str, yes: bool, **changes: str | None) -> Answer:
    """Change an article. A changed text is embedded again, at this priority.

    Example:  embedq articles edit tea --content "Steep it for three minutes" --priority high
    """
    given: dict[str, Any] = {
        key: (read_text() if value == "-" else value) for key, value in changes.items() if value is not None
    }
    if not given:
        raise InputError("nothing to change", hint="give --title, --content or --slug")
    with Client() as client:
        found = client.edit(article, tenant_id=tenant, priority=priority, reason=reason or "update", **given)
    return Answer(article_data(found), [f"{found.id} is version {found.version} now ({found.embedding_status})"])


@register
@command(name="delete", destroys=True)
@click.argument("keys", nargs=-1, required=True)
@click.option("--tenant", help="Only if they are of this tenant.")
def delete(keys: tuple[str, ...], tenant: str | None, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Delete articles with their vectors and open tasks. `articles restore` brings the text back until clean-up.

    Example:  embedq articles delete tea --yes
    """
    with Client() as client:
        found = [client.get(key, tenant_id=tenant) for key in keys]
        if dry_run:
            return Answer({"would_delete": [a.id for a in found]}, [f"would delete {a.id} {a.title!r}" for a in found])
        confirm(f"Delete {len(found)} article(s)?", yes=yes)
        for article in found:
            client.delete(article.id, tenant_id=tenant)
    return Answer({"deleted": [a.id for a in found]}, [f"deleted {a.id}" for a in found])


@register
@command(name="restore", changes=True)
@click.argument("article")
@click.option("--version", type=int, help="Which earlier text; without it, the last one.")
@click.option("--tenant", help="Only if it is of this tenant.")
@click.option("--priority", type=PRIORITY, default="high", show_default=True)
def restore(article: str, version: int | None, tenant: str | None, priority: str, reason: str, yes: bool) -> Answer:
    """Bring back an earlier text of an article, or a deleted article by its id.

    Example:  embedq articles restore tea --version 1
    """
    with Client() as client:
        found = client.restore(article, version, tenant_id=tenant, priority=priority, reason=reason or "restore")
    return Answer(article_data(found), [f"{found.id} is version {found.version} now ({found.embedding_status})"])
