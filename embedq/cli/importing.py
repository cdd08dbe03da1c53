"""`embedq articles import`: articles from files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..client.client import Client
from ..model import Priority
from .counter import progress
from .tasks import PRIORITY
from .voice import FAILED, Answer, Table, command, confirm

if TYPE_CHECKING:
    from ..client.importer import Imported

SHOWN_BAD_LINES = 20


def encoding_of(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    from ..decide.encodings import known

    try:
        return known(name) if name else None
    except ValueError as wrong:
        raise click.BadParameter(f"{wrong}; for example utf-8, cp1252, cp1251, gb18030, shift_jis") from None


@command(name="import", changes=True)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tenant", default="default", show_default=True)
@click.option("--priority", type=PRIORITY, default="normal", show_default=True, help="For articles that name none.")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Articles per transaction.")
@click.option(
    "--encoding",
    metavar="NAME",
    callback=encoding_of,
    help="Of all files, for example cp1251; by default each file's is detected.",
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

    Repeated, it leaves articles alone whose file has not changed. A bad line is reported with its number, and the others are imported. Also
    reported, and not read: a file whose encoding cannot be determined, a link out of the folder, anything but a regular file, and a file or
    line of more than 10 MB. Files that a .gitignore names are skipped. Files of the same name in two folders are two articles.

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
