"""Value types that all rooms use: modes, priorities, models, articles, tasks, outcomes. No input or output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple


class Mode(StrEnum):
    """Which deliveries are on."""

    CELERY = "celery"
    DATABASE = "database"
    HYBRID = "hybrid"
    SYNC = "sync"
    OFF = "off"


class Delivery(StrEnum):
    """How a task reaches a worker."""

    CELERY = "celery"
    POLLER = "poller"


class Priority(StrEnum):
    """Most urgent first. The values are also the names of the broker's queues."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class TaskStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OPEN = (TaskStatus.PENDING, TaskStatus.PROCESSING)
# How a model's vectors are stored: 4 bytes a number, or 2.
STORAGES = ("vector", "halfvec")


class Role(StrEnum):
    """Whether a text is embedded as a stored document or as a search query."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a model's inputs are built from texts. Part of the model's identity: vectors of differently built inputs cannot be compared.

    `document`, `query`: prefixes of stored texts and of queries. `document_parameters`, `query_parameters`: additional fields of the
    request, a JSON object; empty for none. `chunk_tokens`, `chunk_overlap`: None: each process uses its settings. `headings`: chunks are
    prefixed with the headings above them. `asked_as`: the name to send to the server, where the registered name differs.
    """

    document: str = ""
    query: str = ""
    document_parameters: str = ""
    query_parameters: str = ""
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    headings: bool = False
    asked_as: str = ""

    def prefix(self, role: Role) -> str:
        return self.document if role is Role.DOCUMENT else self.query

    def parameters(self, role: Role) -> str:
        return self.document_parameters if role is Role.DOCUMENT else self.query_parameters


@dataclass(frozen=True, slots=True)
class Model:
    """A (provider, name, dimensions, preparation) whose vectors can be compared with each other. `id` is 0 before it is registered. `storage`:
    how its vectors are stored, `vector` (4 bytes a number) or `halfvec` (2 bytes)."""

    provider: str
    name: str
    dimensions: int
    id: int = 0
    preparation: Preparation = Preparation()
    storage: str = field(default="vector", compare=False)

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}/{self.dimensions}"

    @property
    def asked_as(self) -> str:
        """The model's name in requests to the server."""
        return self.preparation.asked_as or self.name


@dataclass(frozen=True, slots=True)
class ArticleDraft:
    """An article as a caller gives it. Without an id, tenant and slug identify the article."""

    title: str
    content: str
    id: str | None = None
    slug: str | None = None
    tenant_id: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Article:
    id: str
    tenant_id: str
    slug: str | None
    title: str
    content: str
    metadata: Mapping[str, Any]
    embedding_status: str
    version: int
    created_at: datetime
    updated_at: datetime
    source: str | None = None


class Claimed(NamedTuple):
    """A claimed task, with the article's text as it was at the claim.

    `claim`: the fencing number; a settle with an older number changes nothing. `text`: None when the article was deleted. `stored_hash`:
    hash of the text that the stored vector was made from, or None; `forced`: embed even if that hash is the same. `traceparent` (W3C): the
    trace of the write, or None.
    """

    id: int
    article_id: str
    tenant_id: str
    model_id: int
    priority: Priority
    claim: int
    attempts: int
    lost_leases: int
    created_at: datetime
    title: str | None = None
    content: str | None = None
    version: int = 0
    text_hash: bytes = b""
    stored_hash: bytes | None = None
    forced: bool = False
    traceparent: str | None = None

    @property
    def text(self) -> str | None:
        """The text to embed: title, empty line, content."""
        if self.title is None or self.content is None:
            return None
        return f"{self.title}\n\n{self.content}".strip()


class Hit(NamedTuple):
    """One search result. `score` is the cosine similarity, -1 to 1; `metadata`, `created_at` and `updated_at` are the article's. Of a source's
    row: its `source`, and its `key` by column. `path`: the headings above the passage, the outermost first. `duplicates`: ids of articles with
    the same content that were folded into this result."""

    article_id: str
    tenant_id: str
    slug: str | None
    title: str
    snippet: str
    score: float
    metadata: Mapping[str, Any] = {}
    updated_at: datetime | None = None
    source: str | None = None
    key: Mapping[str, Any] | None = None
    path: Sequence[str] = ()
    created_at: datetime | None = None
    duplicates: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A table whose rows are kept embedded. `state`: filling, following, behind or orphaned; for behind and orphaned `problem` gives the
    reason and `next` the command that repairs it. `seen`: rows that the running comparison has read; None when none is running."""

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
    problem: str | None = None
    next: str | None = None


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """A table whose rows are to be kept embedded. `table`: as SQL writes it. `title`, `content`: a column, columns with commas, or an SQL
    expression over one row; one of the two is needed. `where`: which rows. `tenant`: a column or an expression. `metadata`: columns that search
    filters by. `key`: the primary key when empty. `name`: the table's when None. `priority`: of the tasks that writes make."""

    table: str
    title: str | None = None
    content: str | None = None
    where: str | None = None
    tenant: str | None = None
    metadata: Sequence[str] = ()
    key: Sequence[str] = ()
    name: str | None = None
    priority: str = Priority.NORMAL


class Stored(NamedTuple):
    """The vectors of one article, ready to be stored: vectors[i], shape (dimensions,), float32, is chunk i, text[starts[i]:ends[i]]."""

    vectors: Sequence[Any]
    starts: Sequence[int]
    ends: Sequence[int]
    hashes: Sequence[bytes]
    tokens: int


class Usage(NamedTuple):
    """Usage of one task: its share of requests, inputs sent and reused, tokens charged, and their cost."""

    requests: float = 0.0
    inputs: int = 0
    reused: int = 0
    tokens: int = 0
    cost: float = 0.0


class Outcome(NamedTuple):
    """How one claimed task ended. Status pending: it waits `wait_s` seconds; with 0 it is handed back.

    `charged` says whether it counts as one of the task's attempts.
    """

    task: Claimed
    status: TaskStatus
    charged: bool = False
    wait_s: float = 0.0
    error_class: str | None = None
    message: str | None = None
    stored: Stored | None = None
    usage: Usage | None = None
