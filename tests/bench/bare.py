"""What B15 compares the service with: FastAPI and psycopg, an INSERT and nothing else. `python -m tests.bench.bare DATABASE_URL PORT`."""

from __future__ import annotations

import sys
import threading
import uuid
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

INSERT = (
    "INSERT INTO bare_articles (id, tenant_id, slug, title, content, metadata) VALUES (%s, 'default', NULL, %s, %s, '{}')"
    " RETURNING id, version, created_at, updated_at"
)
READ = "SELECT id, tenant_id, slug, title, content, metadata, version, created_at, updated_at FROM bare_articles WHERE id = %s"


class NewArticle(BaseModel):
    title: str
    content: str
    id: str | None = None


def application(database_url: str) -> FastAPI:
    app, own = FastAPI(), threading.local()

    def connection() -> psycopg.Connection[dict[str, Any]]:
        if not hasattr(own, "connection"):
            own.connection = psycopg.connect(database_url, autocommit=True, row_factory=psycopg.rows.dict_row)
        found: psycopg.Connection[dict[str, Any]] = own.connection
        return found

    @app.post("/api/articles", status_code=201)
    def create(new: NewArticle) -> dict[str, Any]:
        row = connection().execute(INSERT, (new.id or str(uuid.uuid4()), new.title, new.content)).fetchone()
        return (row or {}) | {"title": new.title, "content": new.content}

    @app.get("/api/articles/{article_id}")
    def read(article_id: str) -> dict[str, Any] | None:
        return connection().execute(READ, (article_id,)).fetchone()

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
