"""What goes in and out of the articles' and search's paths. The limits are those of `decide.drafts`, which checks the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from ..decide.access import DEFAULT_TENANT, tenant_for
from ..decide.bodies import ARTICLE, OPERATORS, SEARCH, Bounds, batch
from ..decide.drafts import MAX_ID, MAX_SLUG, MAX_TENANT_ID
from ..decide.filters import MAX_FILTER_CHARACTERS, MAX_FILTER_KEYS
from ..model import Priority
from ..operations.authentication import acting
from .problems import Refusal

Status = Literal["queued", "processing", "ready", "failed", "skipped"]
NO_NUL = r"^[^\x00]*$"
MAX_NAMES = 40
WHOSE = "Whose article it is. Of a token with a tenant: that one, which need not be named."
# What Python's str.strip() takes away, and what no name may hold; written out, because `\s` is not the same to every reader of JSON Schema.
BLANK = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CONTROL = r"\x00-\x1f\x7f-\x9f"
NAME = rf"^[^{BLANK}/\\?#%{CONTROL}]+$"
# Stricter than what pydantic checks (its patterns know no lookahead); `decide.drafts` refuses the rest, naming the character.
NEW_NAME = rf"^(?!\.{{1,2}}$)[^{BLANK}/\\?#%{CONTROL}]+$"
NEW_ID = rf"^(?!(?:\.{{1,2}}|batch)$)[^{BLANK}/\\?#%{CONTROL}]+$"
NEW_SLUG = rf"^(?!\.{{1,2}}$)[^{BLANK}{CONTROL}](?:[^{CONTROL}]*[^{BLANK}{CONTROL}])?$"
NOT_BLANK = rf"[^{BLANK}]"


def whole(given: Any) -> Any:
    """In JSON 18.0 is an integer (JSON Schema, 6.1.1); neither true nor "18" is."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def no_path(given: str) -> str:
    """`/api/articles/batch` is a path of its own: an article of that id could not be read."""
    if given == "batch":
        raise PydanticCustomError("taken", "no article can be read at /api/articles/batch; choose another id")
    return given


def own_tenant() -> str:
    """Whose articles a request is about that names no tenant."""
    return tenant_for(acting.get(), None, DEFAULT_TENANT)


def of_own_tenant(given: str) -> str:
    """Raises Refusal (403) for another tenant than the token's."""
    try:
        return tenant_for(acting.get(), given, DEFAULT_TENANT)
    except PermissionError as other:
        step = f"leave out tenant_id, or name {acting.get().tenant}"
        raise Refusal(403, "scope", "The token may not do this", str(other), step, field="tenant_id") from None


def some_text(*names: str) -> dict[str, Any]:
    """For the document: one of these fields is given and not blank."""
    return {"anyOf": [{"required": [name], "properties": {name: {"type": "string", "pattern": NOT_BLANK}}} for name in names]}


# After the bounds of the number: those are then in the document.
WHOLE = BeforeValidator(whole)
Title = Annotated[
    str, Field(max_length=100_000, description="Embedded before the content.", json_schema_extra={"pattern": NO_NUL})
]
Content = Annotated[
    str, Field(description="The text. Title and content must not both be empty.", json_schema_extra={"pattern": NO_NUL})
]
NewId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_ID, description="Made when not given.", json_schema_extra={"pattern": NEW_ID}),
    AfterValidator(no_path),
]
NewSlug = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_SLUG,
        description="A name of its own within the tenant.",
        json_schema_extra={"pattern": NEW_SLUG},
    ),
]
TenantId = Annotated[str, Field(min_length=1, max_length=MAX_TENANT_ID, pattern=NAME, description="Whose article it is.")]
# What is not named is the token's tenant, else `default`.
OwnTenantId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TENANT_ID,
        pattern=NAME,
        description=WHOSE,
        default_factory=own_tenant,
        json_schema_extra={"default": DEFAULT_TENANT},
    ),
    AfterValidator(of_own_tenant),
]
NewTenantId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TENANT_ID,
        pattern=NAME,
        description=WHOSE,
        default_factory=own_tenant,
        json_schema_extra={"pattern": NEW_NAME, "default": DEFAULT_TENANT},
    ),
    AfterValidator(of_own_tenant),
]
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
    str,
    Query(
        min_length=1,
        max_length=MAX_TENANT_ID,
        pattern=NAME,
        description="Only this tenant's articles are seen.",
        default_factory=own_tenant,
        json_schema_extra={"default": DEFAULT_TENANT},
    ),
    AfterValidator(of_own_tenant),
]


# For the document: an edit names something.
SOMETHING: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": kind}}}
        for name, kind in (("title", "string"), ("content", "string"), ("slug", "string"), ("metadata", "object"))
    ]
}


def with_examples(*examples: Any, also: dict[str, Any] | None = None) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [*examples]} | (also or {}))


def with_example(*, also: dict[str, Any] | None = None, **example: Any) -> ConfigDict:
    return with_examples(example, also=also)


class Strict(BaseModel):
    """Unknown keys are refused: a misspelt one must not be lost in silence. Nor is "5" taken for 5, or "no" for false: `strict`."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def bounds(cls, batch_max: int) -> Bounds:
        """How much a body of this shape may bring. `batch_max`: ARTICLE_BATCH_MAX."""
        return OPERATORS

    @model_validator(mode="before")
    @classmethod
    def no_flood_of_names(cls, given: Any) -> Any:
        """Each unknown name is a reason of its own in the answer; nobody reads a thousand."""
        if isinstance(given, dict) and len(given) > MAX_NAMES:
            raise PydanticCustomError("too_many_names", "has {names} names; the known ones are few", {"names": len(given)})
        return given


class OneArticle(Strict):
    @classmethod
    def bounds(cls, batch_max: int) -> Bounds:
        return ARTICLE


class NewArticle(OneArticle):
    model_config = with_example(
        title="Tea",
        content="How to brew it",
        slug="tea",
        priority="high",
        metadata={"topic": "drinks"},
        also=some_text("title", "content"),
    )

    title: Title = ""
    content: Content = ""
    id: NewId | None = None
    slug: NewSlug | None = None
    tenant_id: NewTenantId
    metadata: Annotated[dict[str, Any], Field(description="Kept, returned, not embedded.")] = Field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    reason: Reason = "create"


class BatchArticle(Strict):
    """As in a single article; tenant, priority and reason are the batch's. One without any text is skipped."""

    title: Title = ""
    content: Content = ""
    id: NewId | None = None
    slug: NewSlug | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class Batch(Strict):
    """All in one transaction: either every article that has a text is written, or none."""

    model_config = with_example(
        articles=[{"title": "Tea", "content": "Steep it"}, {"title": "Coffee", "content": "Grind it"}], priority="low"
    )

    articles: Annotated[list[BatchArticle], FailFast(), Field(min_length=1, description="At most ARTICLE_BATCH_MAX (200).")]
    tenant_id: NewTenantId
    priority: Priority = Priority.NORMAL
    reason: Reason = "import"
    replace: Annotated[
        bool, Field(strict=True, description="Update articles that exist (by id, else by slug) instead of refusing the batch.")
    ] = False

    @classmethod
    def bounds(cls, batch_max: int) -> Bounds:
        return batch(batch_max)


class Edit(OneArticle):
    """What is not named stays as it is."""

    model_config = with_example(content="Steep it for three minutes", also=SOMETHING)

    title: Title | None = None
    content: Content | None = None
    slug: NewSlug | None = None
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


OF_FILTER: dict[str, Any] = {
    "propertyNames": {"maxLength": MAX_FILTER_CHARACTERS, "pattern": NO_NUL},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "maxLength": MAX_FILTER_CHARACTERS, "pattern": NO_NUL},
            {"type": "number"},
            {"type": "boolean"},
            {"type": "array", "description": "Any of these values."},
            {"type": "object", "description": "Comparisons ($gte, $in, $exists, …), or keys of a nested object."},
        ]
    },
}


SourceName = Annotated[str, Field(min_length=1, max_length=40, pattern=NO_NUL)]


class Search(Strict):
    model_config = with_examples(
        {"query": "hot drinks", "k": 5, "tenant_id": "default"},
        {"query": "hot drinks", "filter": {"topic": "drinks", "year": 2024}, "min_score": 0.3},
        {
            "query": "hot drinks",
            "filter": {"year": {"$gte": 2020, "$lt": 2025}, "topic": ["drinks", "food"], "draft": {"$exists": False}},
        },
        {"query": "error E4711 when the kettle boils", "hybrid": True},
        {"query": "hot drinks", "source": "all"},
    )

    query: Annotated[str, Field(min_length=1, max_length=10_000, pattern=NO_NUL)]
    k: Annotated[int, Field(strict=True, ge=1, le=200, description="How many results, at most."), WHOLE] = 10
    tenant_id: OwnTenantId
    min_score: Annotated[
        float | None,
        Field(strict=True, ge=-1, le=1, description="The least `score` of a result; null: however far off.", examples=[0.3]),
    ] = None
    filter: Annotated[
        dict[str, Any],
        Field(
            max_length=MAX_FILTER_KEYS,
            description="Only articles whose metadata has all of these values: strings, numbers, true or false; a list: any of them;"
            ' comparisons as {"year": {"$gte": 2020}} with $eq $ne $in $nin $gt $gte $lt $lte $exists; $and, $or, $not; nested objects;'
            " @created_at, @updated_at, @id, @slug, @title of the article.",
            examples=[{"topic": "drinks", "year": 2024}],
            json_schema_extra=OF_FILTER,
        ),
    ] = Field(default_factory=dict)
    hybrid: Annotated[
        bool,
        Field(strict=True, description="Rank by meaning and by words together; `score` stays the cosine, and need not fall."),
    ] = False
    source: Annotated[
        SourceName | Annotated[list[SourceName], Field(min_length=1, max_length=40)] | None,
        Field(
            description="Rows of this source, of these, or of `all` and the articles; null: articles only.", examples=["posts"]
        ),
    ] = None

    @classmethod
    def bounds(cls, batch_max: int) -> Bounds:
        return SEARCH


class Found(BaseModel):
    """`score` is the cosine similarity, -1 to 1; `metadata` and `updated_at` are the article's. Of a source's row: its `source`, and its
    `key` by column."""

    article_id: str
    slug: str | None
    title: str
    snippet: str
    score: float
    metadata: dict[str, Any]
    updated_at: datetime
    source: str | None = None
    key: dict[str, Any] | None = None


class Results(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "article_id": "0b9f7c1e",
                            "slug": "tea",
                            "title": "Tea",
                            "snippet": "How to brew it",
                            "score": 0.61,
                            "metadata": {"topic": "drinks", "year": 2024},
                            "updated_at": "2026-02-01T09:30:00Z",
                            "source": None,
                            "key": None,
                        }
                    ]
                }
            ]
        }
    )

    results: list[Found]
