"""/admin/sources: tables of the user's whose rows are kept embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from ..decide.sources import source_of
from ..model import Priority, SourceDraft
from ..operations import sources as attaching
from .admin import CHANGES, WHY, operator
from .fields import NO_NUL, Strict, with_example
from .problems import told
from .routes import AuthorizedRoute
from .service import ADMIN_BEARER, TheService

router = APIRouter(
    prefix="/admin/sources", tags=["operator"], route_class=AuthorizedRoute, dependencies=[Depends(ADMIN_BEARER)]
)

LONGEST = 10_000
Expression = Annotated[str, Field(min_length=1, max_length=LONGEST, pattern=NO_NUL)]
Column = Annotated[str, Field(min_length=1, max_length=63, pattern=NO_NUL)]
Name = Annotated[str, Path(min_length=1, max_length=63, pattern=NO_NUL, description="The source's name.", examples=["posts"])]


class NewSource(Strict):
    model_config = with_example(
        table="blog.posts", title="title", content="body", where="published", reason="search in the blog"
    )

    table: Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL, description="As SQL writes it, with its schema.")]
    title: Expression | None = Field(None, description="A column, columns with commas, or an SQL expression over one row.")
    content: Expression | None = Field(None, description="Likewise. One of title and content is needed.")
    where: Expression | None = Field(None, description="Only rows for which this is true.")
    tenant: Expression | None = Field(None, description="Whose the row is; null: of the tenant `default`.")
    metadata: Annotated[list[Column], Field(max_length=40, description="Columns that a search can filter by.")] = Field(
        default_factory=list
    )
    key: Annotated[list[Column], Field(max_length=32, description="What tells the rows apart; empty: the primary key.")] = (
        Field(default_factory=list)
    )
    name: Annotated[str, Field(min_length=1, max_length=63, pattern=NO_NUL)] | None = Field(
        None, description="Null: the table's."
    )
    priority: Priority = Field(Priority.NORMAL, description="Of the tasks that writes make.")
    reason: WHY = "attached over HTTP"


class SourceOut(BaseModel):
    """`state`: filling, following, behind or orphaned. `problem` and `next`: what is wrong, and which command repairs it. `seen`: rows that the
    present comparison with the table has looked at. `articles`: rows by the state of their embedding."""

    name: str
    table: str
    key: Sequence[str]
    priority: str
    state: str
    given: Mapping[str, Any]
    attached_at: datetime
    compared_at: datetime | None
    about_rows: int
    seen: int | None
    unreadable: int
    problem: str | None
    next: str | None
    articles: Mapping[str, int]


class Sources(BaseModel):
    sources: list[SourceOut]


class Detached(BaseModel):
    detached: str
    removed: int


@router.get("", summary="List the sources")
def list_sources(service: TheService) -> Sources:
    return Sources(sources=[_out(service, row) for row in service.client.store.sources.all()])


@router.post("", status_code=201, summary="Attach a table", responses=CHANGES)
def attach(service: TheService, request: Request, wanted: NewSource) -> SourceOut:
    """From now on every write to the table is followed. Workers take in the existing rows. The same name again changes the source."""
    given = wanted.model_dump(exclude={"reason", "metadata", "key"})
    draft = SourceDraft(**given, metadata=tuple(wanted.metadata), key=tuple(wanted.key))
    by = operator(request, wanted.reason)
    name = attaching.attach(service.client.store, draft, by.who, by.reason)
    return _out(service, service.client.store.sources.one(name))


@router.get("/{name}", summary="How far a source is", responses=told(404, 422))
def read(service: TheService, name: Name) -> SourceOut:
    return _out(service, service.client.store.sources.one(name))


@router.delete("/{name}", summary="Detach a source", responses=told(404, 409, 422))
def detach(
    service: TheService,
    request: Request,
    name: Name,
    keep_vectors: Annotated[bool, Query(description="Keep the vectors, for attaching a table under this name again.")] = False,
) -> Detached:
    """Removes its triggers and view, then its tasks and vectors. The table is not changed."""
    by = operator(request, "detached over HTTP")
    removed = attaching.detach(service.client.store, name, by.who, by.reason, keep_vectors=keep_vectors)
    return Detached(detached=name, removed=removed)


def _out(service: TheService, row: dict[str, Any]) -> SourceOut:
    one = source_of(row)
    facts = {name: getattr(one, name) for name in SourceOut.model_fields if name != "articles"}
    return SourceOut(**facts, articles=service.client.store.sources.counts(one.name))
