"""Field types shared by several paths, and the base class of request bodies. The limits are those of `decide.drafts`, which checks the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from ..decide.access import DEFAULT_TENANT, tenant_for
from ..decide.bodies import OPERATORS, Bounds
from ..decide.drafts import MAX_ID, MAX_SLUG, MAX_TENANT_ID
from ..operations.authentication import acting
from .problems import Refusal

Status = Literal["queued", "processing", "ready", "failed", "skipped"]


NO_NUL = r"^[^\x00]*$"


MAX_NAMES = 40


WHOSE = "Whose article it is. Of a token with a tenant: that one, which need not be named."


# Characters that Python's str.strip() removes, and those that no name may have; listed, because `\s` differs between JSON Schema implementations.
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
    """`/api/articles/batch` is another path: an article with that id could not be read."""
    if given == "batch":
        raise PydanticCustomError("taken", "no article can be read at /api/articles/batch; choose another id")
    return given


def own_tenant() -> str:
    """The tenant of a request that names none."""
    return tenant_for(acting.get(), None, DEFAULT_TENANT)


def of_own_tenant(given: str) -> str:
    """Raises Refusal (403) for another tenant than the token's."""
    try:
        return tenant_for(acting.get(), given, DEFAULT_TENANT)
    except PermissionError as other:
        step = f"leave out tenant_id, or name {acting.get().tenant}"
        raise Refusal(403, "scope", "The token may not do this", str(other), step, field="tenant_id") from None


def some_text(*names: str) -> dict[str, Any]:
    """For OpenAPI: one of these fields is given and not blank."""
    return {"anyOf": [{"required": [name], "properties": {name: {"type": "string", "pattern": NOT_BLANK}}} for name in names]}


# After the bounds of the number, so that OpenAPI has them.
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


def _own_tenant_field(schema: dict[str, JsonValue]) -> Any:
    return Field(
        min_length=1,
        max_length=MAX_TENANT_ID,
        pattern=NAME,
        description=WHOSE,
        default_factory=own_tenant,
        json_schema_extra=schema,
    )


# If not given: the token's tenant, otherwise `default`.
OwnTenantId = Annotated[str, _own_tenant_field({"default": DEFAULT_TENANT}), AfterValidator(of_own_tenant)]


NewTenantId = Annotated[str, _own_tenant_field({"pattern": NEW_NAME, "default": DEFAULT_TENANT}), AfterValidator(of_own_tenant)]


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


# For OpenAPI: an edit has at least one of these fields.
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
    """Unknown keys are refused, so that a misspelt one is noticed. `strict`: "5" is not accepted as 5, nor "no" as false."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def bounds(cls, batch_max: int) -> Bounds:
        """The limits of a body of this type. `batch_max`: ARTICLE_BATCH_MAX."""
        return OPERATORS

    @model_validator(mode="before")
    @classmethod
    def no_flood_of_names(cls, given: Any) -> Any:
        """Each unknown name is an error of its own in the answer, so their number is limited."""
        if isinstance(given, dict) and len(given) > MAX_NAMES:
            raise PydanticCustomError("too_many_names", "has {names} names; the known ones are few", {"names": len(given)})
        return given
