"""Articles from files into the table, in transactions of bounded size; a bad line is reported and the others are imported.

An article belongs to its file: the file's whole path is in its metadata. A file of the same name in another folder is another article, whose
slug has as much of the path as tells the two apart. When the first file is gone (or was on another machine), a file of its name takes its
article over: a folder that was moved, or checked out anew, is the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..decide.arguments import path_in_text
from ..decide.drafts import MAX_SLUG
from ..errors import InputError
from ..model import ArticleDraft, Priority
from .documents import ORIGIN, BadLine, read

if TYPE_CHECKING:
    from ..store.database import Row
    from .client import Client

KEPT_BAD_LINES = 1_000
PART_CHARACTERS = 20_000_000


@dataclass(slots=True)
class Imported:
    """`bad` holds the first of the refused lines and files, `refused` how many there are. `repeated`: lines that say the same as one before.
    Together they are the lines and files that were read. `deleted`: articles whose files are gone."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    repeated: int = 0
    refused: int = 0
    deleted: int = 0
    bad: list[BadLine] = field(default_factory=list)

    def refuse(self, line: BadLine) -> None:
        self.refused += 1
        if len(self.bad) < KEPT_BAD_LINES:
            self.bad.append(line)

    @property
    def done(self) -> int:
        return self.created + self.changed + self.unchanged


def import_paths(
    client: Client,
    paths: Sequence[Path],
    *,
    tenant_id: str,
    priority: Priority,
    batch: int,
    reason: str,
    progress: Callable[[int], None],
    encoding: str | None = None,
) -> Imported:
    """Read files and put their articles; what is already there and has not changed is left alone."""
    found = read(paths, tenant_id=tenant_id, encoding=encoding)
    return import_drafts(client, found, priority=priority, batch=batch, reason=reason, progress=progress)


def counted(paths: Sequence[Path], *, tenant_id: str, encoding: str | None = None) -> Imported:
    """What an import would read: nothing is written, and what can be taken is counted as `created`."""
    result, seen = Imported(), Seen()
    result.created = sum(1 for _ in _good(read(paths, tenant_id=tenant_id, encoding=encoding), result, seen))
    return result


def gone(client: Client, folders: Sequence[Path], tenant_id: str) -> list[Row]:
    """The tenant's articles (id, slug, path) that were imported from below these folders and whose files are not there any more."""
    below = [
        row for folder in folders for row in client.store.articles.imported_below(tenant_id, path_in_text(folder.resolve()))
    ]
    return [row for row in below if not os.path.lexists(row["path"])]


def import_drafts(
    client: Client,
    found: Iterable[ArticleDraft | BadLine],
    *,
    priority: Priority,
    batch: int,
    reason: str,
    progress: Callable[[int], None],
) -> Imported:
    result, named = Imported(), Names(client)
    for part in _parts(_good(found, result, Seen()), batch):
        apart = _by_priority(named.own(part), priority)
        result.repeated += len(part) - sum(map(len, apart.values()))
        for wanted, drafts in apart.items():
            _put(client, drafts, wanted, reason, result)
        progress(result.done)
    return result


class Seen:
    """Which articles lines have named, and with what. Kept are digests: of a file of ten million lines some hundred bytes each."""

    def __init__(self) -> None:
        self._texts: dict[bytes, bytes] = {}

    def again(self, draft: ArticleDraft) -> bool | None:
        """None: it is the first for its article. Else whether the first said the same."""
        if (draft.id is None and draft.slug is None) or ORIGIN in draft.metadata:
            return None
        said = _digest([draft.title, draft.content, dict(draft.metadata), draft.id, draft.slug])
        first = self._texts.setdefault(_digest([draft.tenant_id, draft.id or "", draft.slug if draft.id is None else ""]), said)
        if first is said:
            return None
        return first == said


def _digest(facts: object) -> bytes:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).digest()[:16]


def _good(found: Iterable[ArticleDraft | BadLine], result: Imported, seen: Seen) -> Iterator[ArticleDraft]:
    for one in found:
        if isinstance(one, BadLine):
            result.refuse(one)
            continue
        match seen.again(one):
            case None:
                yield one
            case True:
                result.repeated += 1
            case False:
                article = one.id or one.slug or "?"
                result.refuse(BadLine(Path(article), 0, "a line before has another text for this article: that one was taken"))


class Names:
    """Slugs of files: as short as tells them apart from other files' articles."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._given: dict[tuple[str, str], str] = {}

    def own(self, drafts: Sequence[ArticleDraft]) -> list[ArticleDraft]:
        of_files = [draft for draft in drafts if ORIGIN in draft.metadata]
        owners = self._owners(of_files)
        return [self._named(draft, owners) if ORIGIN in draft.metadata else draft for draft in drafts]

    def _owners(self, drafts: Sequence[ArticleDraft]) -> dict[tuple[str, str], str]:
        """The paths of the files that articles with these slugs come from; empty for an article that comes from none."""
        found: dict[tuple[str, str], str] = {}
        for tenant in {draft.tenant_id for draft in drafts}:
            slugs = [slug for draft in drafts if draft.tenant_id == tenant for slug in candidates(draft)]
            found |= {(tenant, row["slug"]): row["path"] or "" for row in self.client.store.articles.origins(tenant, slugs)}
        return found | self._given

    def _named(self, draft: ArticleDraft, owners: dict[tuple[str, str], str]) -> ArticleDraft:
        path, keys = draft.metadata[ORIGIN], [(draft.tenant_id, slug) for slug in candidates(draft)]
        mine = next((key for key in keys if owners.get(key) == path), None)
        key = mine or next((key for key in keys if self._is_free(key, owners)), keys[-1])
        owners[key] = self._given[key] = path
        return replace(draft, slug=key[1])

    def _is_free(self, key: tuple[str, str], owners: dict[tuple[str, str], str]) -> bool:
        owner = owners.get(key)
        return not owner or (key not in self._given and not os.path.lexists(owner))


def candidates(draft: ArticleDraft) -> list[str]:
    """Its slug, and with one folder more of its path each, the shortest first."""
    assert draft.slug is not None
    parts = PurePosixPath(draft.metadata[ORIGIN]).parts
    own = len(PurePosixPath(draft.slug).parts)
    longer = ["/".join(parts[-length:]).lstrip("/") for length in range(own + 1, len(parts))]
    return [draft.slug, *(slug for slug in longer if len(slug) <= MAX_SLUG)]


def _parts(found: Iterator[ArticleDraft], most: int) -> Iterator[list[ArticleDraft]]:
    """At most `most` at once, and no more than PART_CHARACTERS and one."""
    part, characters = list[ArticleDraft](), 0
    for draft in found:
        part.append(draft)
        characters += len(draft.title) + len(draft.content)
        if len(part) >= most or characters >= PART_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _by_priority(drafts: Sequence[ArticleDraft], usual: Priority) -> dict[Priority, list[ArticleDraft]]:
    """Apart by priority; of two drafts for one article, the later one."""
    latest = {(draft.tenant_id, draft.id or draft.slug or object()): draft for draft in drafts}
    apart: dict[Priority, list[ArticleDraft]] = {}
    for draft in latest.values():
        apart.setdefault(draft.priority or usual, []).append(draft)
    return apart


def _put(client: Client, drafts: Sequence[ArticleDraft], priority: Priority, reason: str, result: Imported) -> None:
    try:
        written = client.put(drafts, priority=priority, reason=reason)
    except InputError as refused:
        if len(drafts) == 1:
            result.refuse(BadLine(Path(drafts[0].slug or drafts[0].id or "?"), 0, f"{refused} ({refused.hint})"))
            return
        for draft in drafts:
            _put(client, [draft], priority, reason, result)
        return
    result.created += written.created
    result.changed += written.changed
    result.unchanged += len(drafts) - len(written.ids)
