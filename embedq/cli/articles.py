"""`embedq articles …` and `embedq search`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..client.client import Client
from ..errors import InputError
from ..model import Hit, Priority
from .repairs import mark_review, reindex
from .voice import FAILED, Answer, Table, Text, command, confirm

if TYPE_CHECKING:
    from ..client.importer import Imported

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
        content = read_text()
    with Client() as client:
        article = client.create(
            title, content, id=article_id, slug=slug, tenant_id=tenant, priority=priority, reason=reason or "create"
        )
    return Answer(article_data(article), [f"added {article.id} ({article.embedding_status})"])


def encoding_of(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    from ..decide.encodings import known

    try:
        return known(name) if name else None
    except ValueError as wrong:
        raise click.BadParameter(f"{wrong}; for example utf-8, cp1252, cp1251, gb18030, shift_jis") from None


@register
@command(name="import", changes=True)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tenant", default="default", show_default=True)
@click.option("--priority", type=PRIORITY, default="normal", show_default=True, help="For articles that name none.")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Articles per transaction.")
@click.option(
    "--encoding", metavar="NAME", callback=encoding_of, help="Of all files, for example cp1251; without it each is looked at."
)
@click.option("--prune", is_flag=True, help="Delete articles of these folders whose files are gone.")
@click.option("--dry-run", is_flag=True, help="Say what would be read and deleted; do nothing.")
def import_(
    paths: tuple[Path, ...],
    tenant: str,
    priority: str,
    batch: int,
    encoding: str | None,
    prune: bool,
    dry_run: bool,
    reason: str,
    yes: bool,
) -> Answer:
    """Import folders of .md .mdx .rst .txt .html .ipynb .epub .pdf .docx files, and JSON lines (slug, title, content, tenant_id, priority).

    Run again, it leaves alone what has not changed. A bad line is reported with its number, and the others are imported. So is
    a file whose encoding cannot be told, a link that leads out of a folder, what is no regular file, and a file or line of more than 10 MB: none
    of them is read. What a .gitignore names is passed over. Files of the same name in two folders are two articles.

    Example:  embedq articles import docs/ more.jsonl --priority low
    """
    from ..client.importer import counted, gone, import_paths

    with Client() as client, progress("importing") as show:
        deleted = gone(client, [path for path in paths if path.is_dir()], tenant) if prune else []
        if dry_run:
            return _would_import(counted(paths, tenant_id=tenant, encoding=encoding), deleted)
        if deleted:
            confirm(f"Delete {len(deleted):,} articles whose files are gone?", yes=yes)
        result = import_paths(
            client,
            paths,
            tenant_id=tenant,
            priority=Priority(priority),
            batch=batch,
            reason=reason or "import",
            progress=show,
            encoding=encoding,
        )
        with client.store.database.transaction() as connection:
            result.deleted = len(client.store.articles.delete(connection, [row["id"] for row in deleted], tenant_id=tenant))
    said = (
        f"{result.created} created, {result.changed} changed, {result.unchanged} as they were, {result.repeated} repeated, "
        f"{result.refused} refused{f', {result.deleted} deleted' if prune else ''}"
    )
    data = {
        "created": result.created,
        "changed": result.changed,
        "unchanged": result.unchanged,
        "repeated": result.repeated,
        "deleted": result.deleted,
    }
    return _imported(data, [said], result)


def _would_import(result: Imported, deleted: list[dict[str, Any]]) -> Answer:
    said: list[str | Table] = [
        f"would import {result.created} articles; {result.repeated} repeated, {result.refused} refused; would delete {len(deleted)}"
    ]
    if deleted:
        said.append(
            Table(("id", "slug", "file"), [(row["id"], row["slug"], row["path"]) for row in deleted], "Files that are gone")
        )
    data = {"would_import": result.created, "repeated": result.repeated, "would_delete": [row["id"] for row in deleted]}
    return _imported(data, said, result)


def _imported(data: dict[str, Any], said: list[str | Table], result: Imported) -> Answer:
    if result.bad:
        shown = [(f"{bad.path}:{bad.line_number}", bad.reason) for bad in result.bad[:SHOWN_BAD_LINES]]
        said.append(Table(("where", "why"), shown, "Refused"))
    if result.refused > SHOWN_BAD_LINES:
        said.append(f"… and {result.refused - SHOWN_BAD_LINES} more (--json lists the first 1,000)")
    data |= {
        "refused_count": result.refused,
        "refused": [{"path": str(b.path), "line": b.line_number, "reason": b.reason} for b in result.bad],
    }
    return Answer(data, said, FAILED if result.bad else 0)


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
@click.option("--tenant", help="Whose it must be.")
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
@click.argument("queries", nargs=-1, metavar="QUERY…")
@click.option("--like", metavar="ARTICLE", help="Instead of a query: what is near this article, by id or slug.")
@click.option("-k", default=5, show_default=True, help="How many results, of each query.")
@click.option("--tenant", help="Only this tenant's articles.")
@click.option("--min-score", type=click.FloatRange(-1, 1), help="Leave out what is less near.")
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
