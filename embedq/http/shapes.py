"""Request bodies of the articles' paths, and the search's request and answer. The limits are those of `decide.drafts`, which checks the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from ..decide.answers import WINDOW
from ..decide.bodies import ARTICLE, SEARCH, Bounds, batch
from ..decide.filters import MAX_FILTER_CHARACTERS, MAX_FILTER_KEYS
from ..model import ArticleDraft, Priority
from .fields import (
    NO_NUL,
    SOMETHING,
    WHOLE,
    Content,
    NewId,
    NewSlug,
    NewTenantId,
    OwnTenantId,
    Reason,
    Strict,
    Title,
    some_text,
    with_example,
    with_examples,
)


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

    def draft(self, article_id: str | None) -> ArticleDraft:
        return ArticleDraft(self.title, self.content, article_id, self.slug, self.tenant_id, self.metadata)


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
    """A field that is not given stays as it is."""

    model_config = with_example(content="Steep it for three minutes", also=SOMETHING)

    title: Title | None = None
    content: Content | None = None
    slug: NewSlug | None = None
    metadata: dict[str, Any] | None = None
    priority: Priority = Priority.NORMAL
    reason: Reason = "update"


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


Question = Annotated[str, Field(min_length=1, max_length=10_000, pattern=NO_NUL)]
Offset = Annotated[
    int | None,
    Field(
        strict=True,
        ge=0,
        lt=WINDOW,
        description=f"Results before this page. With it, also as 0, every page is cut from the same ranking of {WINDOW} articles, so that pages fit"
        " together until something is written; null: no more than `k` are ranked.",
    ),
    WHOLE,
]
Diversity = Annotated[
    float, Field(strict=True, ge=0, le=1, description="0: the best results; 1: results as unlike each other as can be.")
]


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
        {"query": ["hot drinks", "error E4711"], "k": 3},
        {"query": "hot drinks", "k": 10, "offset": 10, "fold": True, "diversity": 0.3},
    )

    query: Annotated[
        Question | Annotated[list[Question], Field(min_length=1, max_length=10)],
        Field(description="Or up to ten queries, which are answered one by one, in `answers`."),
    ]
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
    offset: Offset = None
    fold: Annotated[
        bool,
        Field(strict=True, description="Articles of the same content are one result, which has the others in `duplicates`."),
    ] = False
    diversity: Diversity = 0.0
    rerank: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=40,
            pattern=NO_NUL,
            description="By this reranker, which a package of the service registers.",
        ),
    ] = None
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
    `key` by column. `path`: the headings above the passage, the outermost first."""

    article_id: str
    slug: str | None
    title: str
    snippet: str
    score: float
    metadata: dict[str, Any]
    updated_at: datetime
    source: str | None = None
    key: dict[str, Any] | None = None
    path: list[str] = []
    created_at: datetime
    duplicates: list[str] = Field(default=[], description="With `fold`: ids of articles with the same content.")


class Answered(BaseModel):
    query: str
    results: list[Found]


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
                            "path": ["Drinks", "Hot"],
                            "created_at": "2026-01-30T08:00:00Z",
                            "duplicates": [],
                        }
                    ],
                    "answers": [],
                }
            ]
        }
    )

    results: list[Found] = Field(description="Of the one query; of several the answers are in `answers`.")
    answers: list[Answered] = Field(default=[], description="Of several queries, in their order.")
