"""What embedq is compared with, as programs of their own: `celery -A tests.bench.rivals`, and `python -m tests.bench.rivals` (the bare loop).

`one_each` is the task that most teams write first: one message, one SELECT, one request, one INSERT per article. `nothing` does
nothing. The bare loop has no guarantees: no lease, no retry, no fence; one request per batch, binary COPY.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from base64 import b64decode
from struct import pack
from typing import Any

import httpx
import numpy as np
import psycopg
import redis
from celery import Celery

app = Celery("rivals", broker=os.environ.get("REDIS_URL", ""))
app.conf.update(
    task_default_queue="rivals", task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True
)
_local = threading.local()


def _connection() -> psycopg.Connection[Any]:
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    connection: psycopg.Connection[Any] = _local.connection
    return connection


def _client() -> httpx.Client:
    if not hasattr(_local, "client"):
        _local.client = httpx.Client(base_url=os.environ["OPENAI_BASE_URL"], timeout=60)
    client: httpx.Client = _local.client
    return client


@app.task(name="rivals.nothing")  # type: ignore[untyped-decorator]
def nothing(mark: str | None = None) -> None:
    if mark:
        redis.Redis.from_url(os.environ["REDIS_URL"]).rpush(mark, time.time())


@app.task(name="rivals.one_each")  # type: ignore[untyped-decorator]
def one_each(article_id: str) -> None:
    connection = _connection()
    row = connection.execute("SELECT title, content FROM article_texts WHERE id = %s", (article_id,)).fetchone()
    assert row is not None
    vector = _request([f"{row[0]}\n\n{row[1]}"], "float")[0]["embedding"]
    connection.execute("INSERT INTO rival_vectors (article_id, embedding) VALUES (%s, %s)", (article_id, json.dumps(vector)))


def _request(texts: list[str], encoding: str) -> list[dict[str, Any]]:
    dimensions = int(os.environ["EMBEDDING_DIMENSIONS"])
    wish = {"model": "text-embedding-3-small", "input": texts, "dimensions": dimensions, "encoding_format": encoding}
    answer = _client().post("/embeddings", json=wish)
    answer.raise_for_status()
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


TAKE = """
    UPDATE rival_queue q SET taken = true FROM (
        SELECT article_id FROM rival_queue WHERE NOT taken ORDER BY article_id LIMIT %s FOR UPDATE SKIP LOCKED
    ) due WHERE q.article_id = due.article_id RETURNING q.article_id
"""


def bare(batch: int) -> None:
    """Until the queue is empty: claim, ask, copy."""
    connection = _connection()
    while rows := connection.execute(TAKE, (batch,)).fetchall():
        ids = [row[0] for row in rows]
        texts = dict(
            connection.execute(
                "SELECT id, title || E'\\n\\n' || content FROM article_texts WHERE id = ANY (%s)", (ids,)
            ).fetchall()
        )
        data = _request([texts[each] for each in ids], "base64")
        vectors = [np.frombuffer(b64decode(each["embedding"]), dtype="<f4").astype(">f4") for each in data]
        with connection.cursor().copy("COPY rival_vectors (article_id, embedding) FROM STDIN (FORMAT BINARY)") as sink:
            sink.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(map(_row, ids, vectors)) + b"\xff\xff")


def _row(article_id: str, vector: Any) -> bytes:
    key = article_id.encode()
    return pack(">hi", 2, len(key)) + key + pack(">ihh", 4 + 4 * len(vector), len(vector), 0) + vector.tobytes()


def main() -> None:
    batch, threads = int(sys.argv[1]), int(sys.argv[2])
    start, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=bare, args=(batch,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": took, "cpu_s": used, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
