"""What the articles' paths answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..model import Priority
from .fields import Status


class Embedding(BaseModel):
    """Where the article's embedding is. `eta_s` is an estimate in seconds, null with `waits_for` when none can be made."""

    status: Status
    task_id: int | None = None
    priority: Priority | None = None
    place: Literal["table", "broker", "worker"] | None = Field(
        default=None, description="Where the task waits, or who holds it."
    )
    attempts: int | None = None
    retry_at: datetime | None = Field(default=None, description="When it is tried again, if it waits for its time.")
    eta_s: float | None = None
    waits_for: str | None = Field(default=None, description="Why there is no estimate.")
    error: str | None = Field(default=None, description="The class of the last error.")


class ArticleOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b9f7c1e-6b0e-4c53-9a53-9d1c0f6a7f10",
                    "tenant_id": "default",
                    "slug": "tea",
                    "title": "Tea",
                    "content": "How to brew it",
                    "metadata": {"topic": "drinks"},
                    "version": 1,
                    "created_at": "2030-05-01T10:00:00Z",
                    "updated_at": "2030-05-01T10:00:00Z",
                    "embedding_status": "queued",
                    "embedding": {
                        "status": "queued",
                        "task_id": 17,
                        "priority": "high",
                        "place": "broker",
                        "attempts": 0,
                        "retry_at": None,
                        "eta_s": 1.5,
                        "waits_for": None,
                        "error": None,
                    },
                }
            ]
        }
    )

    id: str
    tenant_id: str
    slug: str | None
    title: str
    content: str
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    embedding_status: Status
    embedding: Embedding


class Listed(BaseModel):
    id: str
    tenant_id: str
    slug: str | None
    title: str
    embedding_status: Status
    version: int
    created_at: datetime
    updated_at: datetime


class ArticlePage(BaseModel):
    """`next` is the `after` of the next page, null on the last."""

    articles: list[Listed]
    next: str | None


class BatchDone(BaseModel):
    """In the order of the batch; `outcome` is created, changed, unchanged or skipped (there was no text: nothing was written, and `id` is null)."""

    class One(BaseModel):
        id: str | None
        slug: str | None
        outcome: Literal["created", "changed", "unchanged", "skipped"]

    articles: list[One]
    created: int
    changed: int
    unchanged: int
    skipped: int


class Version(BaseModel):
    version: int
    title: str
    content: str
    slug: str | None
    metadata: dict[str, Any]
    created_at: datetime
    superseded_at: datetime | None = Field(description="Null for the newest.")
    deleted: bool


class Versions(BaseModel):
    article_id: str
    versions: list[Version]
