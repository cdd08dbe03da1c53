"""`embedq articles …` and `embedq search`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..client import Client
from ..errors import InputError
from ..model import Priority
from .repairs import mark_review, reindex
from .voice import FAILED, Answer, Table, command, confirm

PRIORITY = click.Choice([priority.value for priority in Priority])
SHOWN_BAD_LINES = 20


@click.group()
def articles() -> None:
    """Add, import, list, show, edit, delete, restore, review and reindex articles."""


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
@click.option("--id", "article_id", help="Its id; without it one is made.")
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
        content = sys.stdin.read()
    with Client() as client:
        article = client.create(
            title, content, id=article_id, slug=slug, tenant_id=tenant, priority=priority, reason=reason or "create"
        )
    return Answer(article_data(article), [f"added {article.id} ({article.embedding_status})"])


@register
@command(name="import", changes=True)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tenant", default="default", show_default=True)
@click.option("--priority", type=PRIORITY, default="normal", show_default=True, help="For articles that name none.")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Articles per transaction.")
def import_(paths: tuple[Path, ...], tenant: str, priority: str, batch: int, reason: str, yes: bool) -> Answer:
    """Import folders of .md .rst .txt .html files, and JSON lines (slug, title, content, tenant_id, priority).

    Run again, it leaves alone what has not changed. A bad line is reported with its number, and the others are imported.

    Example:  embedq articles import docs/ more.jsonl --priority low
    """
    from ..importing import import_paths

    with Client() as client, progress("importing") as show:
        result = import_paths(
            client, paths, tenant_id=tenant, priority=Priority(priority), batch=batch, reason=reason or "import", progress=show
        )
    said: list[str | Table] = [
        f"{result.created} created, {result.changed} changed, {result.unchanged} as they were, {len(result.bad)} refused"
    ]
    if result.bad:
        said.append(
            Table(
                ("where", "why"),
                [(f"{bad.path}:{bad.line_number}", bad.reason) for bad in result.bad[:SHOWN_BAD_LINES]],
                "Refused",
            )
        )
    if len(result.bad) > SHOWN_BAD_LINES:
        said.append(f"… and {len(result.bad) - SHOWN_BAD_LINES} more (--json lists all)")
    data = {"created": result.created, "changed": result.changed, "unchanged": result.unchanged,
            "refused": [{"path": str(b.path), "line": b.line_number, "reason": b.reason} for b in result.bad]}  # fmt: skip
    return Answer(data, said, FAILED if result.bad else 0)


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A counter on stderr while it lasts; silent where nobody looks. Yields a function that takes the number done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)


@register
@command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", type=click.Choice(["queued", "processing", "ready", "failed", "skipped"]))
@click.option("--after", default="", help="Ids after this one (the next page).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def list_(tenant: str | None, status: str | None, after: str, limit: int) -> Answer:
    """List articles by id.

    Example:  embedq articles list --status failed
    """
    with Client() as client:
        rows = client.store.articles.page(tenant_id=tenant, status=status, after=after, limit=limit)
    said: list[str | Table] = [Table(("id", "tenant", "slug", "title", "status", "updated"),
                [(r["id"], r["tenant_id"], r["slug"], r["title"], r["embedding_status"], r["updated_at"]) for r in rows])]  # fmt: skip
    if len(rows) == limit:
        said.append(f"more: --after {rows[-1]['id']}")
    return Answer(rows, said)


@register
@command(name="show")
@click.argument("article")
@click.option("--tenant", help="Whose it must be.")
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
    said: list[str | Table] = [Table(("", ""), facts), found.content]
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
@click.option("--tenant", help="Whose it must be.")
@click.option("--priority", type=PRIORITY, default="normal", show_default=True)
def edit(article: str, tenant: str | None, priority: str, reason: str, yes: bool, **changes: str | None) -> Answer:
    """Change an article. A changed text is embedded again, at this priority.

    Example:  embedq articles edit tea --content "Steep it for three minutes" --priority high
    """
    given: dict[str, Any] = {
        key: (sys.stdin.read() if value == "-" else value) for key, value in changes.items() if value is not None
    }
    if not given:
        raise InputError("nothing to change", hint="give --title, --content or --slug")
    with Client() as client:
        found = client.edit(article, tenant_id=tenant, priority=priority, reason=reason or "update", **given)
    return Answer(article_data(found), [f"{found.id} is version {found.version} now ({found.embedding_status})"])


@register
@command(name="delete", destroys=True)
@click.argument("keys", nargs=-1, required=True)
@click.option("--tenant", help="Whose they must be.")
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
@click.option("--tenant", help="Whose it must be.")
@click.option("--priority", type=PRIORITY, default="high", show_default=True)
def restore(article: str, version: int | None, tenant: str | None, priority: str, reason: str, yes: bool) -> Answer:
    """Bring back an earlier text of an article, or a deleted article by its id.

    Example:  embedq articles restore tea --version 1
    """
    with Client() as client:
        found = client.restore(article, version, tenant_id=tenant, priority=priority, reason=reason or "restore")
    return Answer(article_data(found), [f"{found.id} is version {found.version} now ({found.embedding_status})"])


@command(name="search")
@click.argument("query")
@click.option("-k", default=5, show_default=True, help="How many results.")
@click.option("--tenant", help="Only this tenant's articles.")
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Leave out what is less near.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only articles whose metadata has this; may be repeated."
)
@click.option("--hybrid", is_flag=True, help="Rank by meaning and by words together.")
def search(query: str, k: int, tenant: str | None, min_score: float | None, filters: tuple[str, ...], hybrid: bool) -> Answer:
    """Find the articles nearest in meaning, with their scores (cosine, 1 is the same).

    Example:  embedq search "compress a file" -k 5
    """
    with Client() as client:
        hits = client.search(query, k, tenant_id=tenant, min_score=min_score, filter=metadata_of(filters), hybrid=hybrid)
    if not hits:
        return Answer([], ["nothing found: is anything embedded yet? `embedq status` tells"])
    return Answer([hit._asdict() for hit in hits], [hits_table(hits)])


def metadata_of(filters: tuple[str, ...]) -> dict[str, str]:
    """Raises InputError for what is not KEY=VALUE."""
    pairs = [text.partition("=") for text in filters]
    wrong = [text for text, (key, sign, _) in zip(filters, pairs, strict=True) if not (key and sign)]
    if wrong:
        raise InputError(f"--filter {wrong[0]!r} is not KEY=VALUE", hint="for example --filter language=en", field="filter")
    return {key: value for key, _, value in pairs}


def hits_table(hits: Any, title: str | None = None) -> Table:
    return Table(("score", "title", "text"), [(hit.score, hit.title, hit.snippet[:90]) for hit in hits], title)
