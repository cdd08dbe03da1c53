"""What goes in and out of the articles' and search's paths. The limits are those of `decide.drafts`, which checks the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from ..decide.drafts import MAX_ID, MAX_SLUG, MAX_TENANT_ID
from ..decide.filters import MAX_FILTER_KEYS
from ..model import Priority

Status = Literal["queued", "processing", "ready", "failed", "skipped"]
NO_NUL = r"^[^\x00]*$"
NAME = r"^[^\s/\\?#%\x00-\x1f\x7f-\x9f]+$"

TenantId = Annotated[str, Field(min_length=1, max_length=MAX_TENANT_ID, pattern=NAME, description="Whose article it is.")]
Reason = Annotated[
    str,
    Field(
        min_length=1, max_length=200, pattern=NO_NUL, description="Why it is written; kept with the task.", examples=["import"]
    ),
]
ArticleKey = Annotated[
    str, Path(min_length=1, pattern=r"^[^\x00]+$", description="The article's id, or its slug.", examples=["tea"])
]
TenantQuery = Annotated[
    str, Query(min_length=1, max_length=MAX_TENANT_ID, pattern=NAME, description="Only this tenant's articles are seen.")
]
PriorityQuery = Annotated[Priority, Query(description="How urgently the new text is embedded.")]
ReasonQuery = Annotated[str, Query(min_length=1, max_length=200, pattern=NO_NUL, description="Why; kept with the task.")]


def with_examples(*examples: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [*examples]})


def with_example(**example: Any) -> ConfigDict:
    return with_examples(example)


class Strict(BaseModel):
    """Unknown keys are refused: a misspelt one must not be lost in silence. Nor is "5" taken for 5, or "no" for false: `strict`."""

    model_config = ConfigDict(extra="forbid")


class NewArticle(Strict):
    model_config = with_example(
        title="Tea", content="How to brew it", slug="tea", priority="high", metadata={"topic": "drinks"}
    )  # fmt: skip

    title: Annotated[str, Field(max_length=100_000, description="Embedded before the content.")] = ""
    content: Annotated[str, Field(description="The text. Title and content must not both be empty.")] = ""
    id: Annotated[str | None, Field(min_length=1, max_length=MAX_ID, description="Made when not given.")] = None
    slug: Annotated[
        str | None, Field(min_length=1, max_length=MAX_SLUG, description="A name of its own within the tenant.")
    ] = None
    tenant_id: TenantId = "default"
    metadata: Annotated[dict[str, Any], Field(description="Kept, returned, not embedded.")] = Field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    reason: Reason = "create"


class BatchArticle(Strict):
    """As in a single article; tenant, priority and reason are the batch's."""

    title: Annotated[str, Field(max_length=100_000)] = ""
    content: str = ""
    id: Annotated[str | None, Field(min_length=1, max_length=MAX_ID)] = None
    slug: Annotated[str | None, Field(min_length=1, max_length=MAX_SLUG)] = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class Batch(Strict):
    """All in one transaction: either every article is written, or none."""

    model_config = with_example(
        articles=[{"title": "Tea", "content": "Steep it"}, {"title": "Coffee", "content": "Grind it"}], priority="low"
    )

    articles: Annotated[list[BatchArticle], Field(min_length=1, description="At most ARTICLE_BATCH_MAX (200).")]
    tenant_id: TenantId = "default"
    priority: Priority = Priority.NORMAL
    reason: Reason = "import"
    replace: Annotated[
        bool, Field(strict=True, description="Update articles that exist (by id, else by slug) instead of refusing the batch.")
    ] = False


class Edit(Strict):
    """What is not named stays as it is."""

    model_config = with_example(content="Steep it for three minutes")

    title: Annotated[str | None, Field(max_length=100_000)] = None
    content: str | None = None
    slug: Annotated[str | None, Field(min_length=1, max_length=MAX_SLUG)] = None
    metadata: dict[str, Any] | None = None
    priority: Priority = Priority.NORMAL
    reason: Reason = "update"


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
                    "id": "0b9f7c1e-6b0e-4c53-9a53-9d1c0f6a7f10", "tenant_id": "default", "slug": "tea", "title": "Tea",
                    "content": "How to brew it", "metadata": {"topic": "drinks"}, "version": 1,
                    "created_at": "2030-05-01T10:00:00Z", "updated_at": "2030-05-01T10:00:00Z", "embedding_status": "queued",
                    "embedding": {
                        "status": "queued", "task_id": 17, "priority": "high", "place": "broker", "attempts": 0, "retry_at": None,
                        "eta_s": 1.5, "waits_for": None, "error": None,
                    },
                }
            ]
        }
    )  # fmt: skip

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
    """Ids in the order of the batch; `outcome` is created, changed or unchanged."""

    class One(BaseModel):
        id: str
        slug: str | None
        outcome: Literal["created", "changed", "unchanged"]

    articles: list[One]
    created: int
    changed: int
    unchanged: int


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


class Search(Strict):
    model_config = with_examples(
        {"query": "hot drinks", "k": 5, "tenant_id": "default"},
        {"query": "hot drinks", "filter": {"topic": "drinks", "year": 2024}, "min_score": 0.3},
        {"query": "error E4711 when the kettle boils", "hybrid": True},
    )

    query: Annotated[str, Field(min_length=1, max_length=10_000, pattern=NO_NUL)]
    k: Annotated[int, Field(strict=True, ge=1, le=200, description="How many results, at most.")] = 10
    tenant_id: TenantId = "default"
    min_score: Annotated[
        float | None,
        Field(strict=True, ge=-1, le=1, description="The least `score` of a result; null: however far off.", examples=[0.3]),
    ] = None
    filter: Annotated[
        dict[str, Any],
        Field(
            max_length=MAX_FILTER_KEYS,
            description="Only articles whose metadata has all of these values: strings, numbers, true or false.",
            examples=[{"topic": "drinks", "year": 2024}],
            json_schema_extra={"additionalProperties": {"type": ["string", "number", "boolean"]}},
        ),
    ] = Field(default_factory=dict)
    hybrid: Annotated[
        bool,
        Field(strict=True, description="Rank by meaning and by words together; `score` stays the cosine, and need not fall."),
    ] = False


class Found(BaseModel):
    """`score` is the cosine similarity, -1 to 1."""

    article_id: str
    slug: str | None
    title: str
    snippet: str
    score: float


class Results(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {"article_id": "0b9f7c1e", "slug": "tea", "title": "Tea", "snippet": "How to brew it", "score": 0.61}
                    ]
                }
            ]
        }
    )

    results: list[Found]
