"""Articles from files into the table, in transactions of bounded size; a bad line stops nobody but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .errors import InputError
from .model import ArticleDraft, Priority
from .reading import BadLine, read

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")


@dataclass(slots=True)
class Imported:
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    bad: list[BadLine] = field(default_factory=list)

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
) -> Imported:
    """Read files and put their articles; what is already there and has not changed is left alone."""
    return import_drafts(
        client, read(paths, tenant_id=tenant_id), priority=priority, batch=batch, reason=reason, progress=progress
    )


def import_drafts(
    client: Client,
    found: Iterable[ArticleDraft | BadLine],
    *,
    priority: Priority,
    batch: int,
    reason: str,
    progress: Callable[[int], None],
) -> Imported:
    result = Imported()
    for part in _parts(_good(found, result), batch):
        for wanted, drafts in _by_priority(part, priority).items():
            _put(client, drafts, wanted, reason, result)
        progress(result.done)
    return result


def _good(found: Iterable[ArticleDraft | BadLine], result: Imported) -> Iterator[ArticleDraft]:
    for one in found:
        if isinstance(one, BadLine):
            result.bad.append(one)
        else:
            yield one


def _parts(found: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(found, size)):
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
            result.bad.append(BadLine(Path(drafts[0].slug or drafts[0].id or "?"), 0, f"{refused} ({refused.hint})"))
            return
        for draft in drafts:
            _put(client, [draft], priority, reason, result)
        return
    result.created += written.created
    result.changed += written.changed
    result.unchanged += len(drafts) - len(written.ids)
