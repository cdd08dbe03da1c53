"""The index of a model's vectors (HNSW): built concurrently with writers, best after bulk work; its recall is measured against exact search."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

import psycopg
from psycopg import sql

from ..decide.refusals import first_line
from ..errors import InputError, NotFound, NotWell, StoreUnavailable
from ..model import Model
from .database import Database, Row
from .queries import QUERIES
from .search import MOST_FOR_HALFVEC, iterate, of_model
from .switches import Switches

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
WORDS_INDEX = "article_texts_terms"
# That of version 0.1.0, which searches by it until its last process has ended.
FORMER_WORDS_INDEX = "article_texts_words"


class Index:
    """One model's index; `words()` is the one for ranking by words, which all models share."""

    def __init__(self, database: Database, model: Model) -> None:
        self.database, self.model = database, model
        self.name = f"embedding_vectors_{model.id}_hnsw"

    def state(self) -> Row:
        """`built` (valid and whole), `building` or `broken`, sizes in bytes, vectors (an estimate), scans so far."""
        row = self.database.one(QUERIES.index_state, {"table": f"embedding_vectors_{self.model.id}", "index": self.name})
        assert row is not None
        return row

    def build(self, *, memory_mb: int = 256, tell: Callable[[Row], object] = lambda progress: None) -> float:
        """Build it beside writers (CREATE INDEX CONCURRENTLY); how many seconds. The remains of an interrupted build are removed first."""
        if self.model.dimensions > MOST_FOR_HALFVEC:
            raise InputError(
                f"pgvector indexes at most {MOST_FOR_HALFVEC} dimensions, {self.model} has {self.model.dimensions}",
                hint="search stays exact; or build a model of fewer dimensions",
            )
        statement = of_model(QUERIES.create_index, self.model, index=self.name)
        with alone(self.database):
            if self.state()["state"] == "built":
                raise InputError(f"{self.name} is built already", hint="`embedq index drop` first, to build it anew")
            return _built(self.database, self.name, statement, memory_mb, tell)

    def drop(self) -> bool:
        """Whether there was one. Search is exact afterwards, and slower."""
        with alone(self.database):
            there = bool(self.state()["state"])
            _drop(self.database, self.name)
        return there

    def recall(self, k: int = 10, samples: int = 100) -> Row:
        """Recall: the share of the exact k nearest that the index finds, with stored vectors as queries; and the ms per query of both."""
        if self.state()["state"] != "built":
            raise NotFound(
                f"{self.model} has no index", hint="`embedq index build` makes it; without one every search is exact"
            )
        queries = [
            row["query"] for row in self.database.fetch(of_model(QUERIES.sample_vectors, self.model), {"limit": samples})
        ]
        if not queries:
            raise NotWell("there are no vectors to measure with", hint="embed some articles first: `embedq status`")
        exact_ms, exact = self._ask(queries, k, "enable_indexscan", "enable_bitmapscan")
        index_ms, found = self._ask(queries, k, "enable_seqscan", "enable_sort")
        shares = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(exact, found, strict=True)]
        return {
            "recall": sum(shares) / len(shares),
            "worst": min(shares),
            "k": k,
            "samples": len(queries),
            "exact_ms": exact_ms,
            "index_ms": index_ms,
        }

    def _ask(self, queries: list[str], k: int, *without: str) -> tuple[float, list[list[Any]]]:
        statement = of_model(QUERIES.nearest_chunks, self.model, k=str(k))
        with self.database.transaction() as connection:
            iterate(connection, k * 8)
            for name in without:
                connection.execute("SELECT set_config(%(name)s, 'off', true)", {"name": name})
            started = time.monotonic()
            found = [
                [tuple(row.values()) for row in connection.execute(statement, {"query": query}).fetchall()] for query in queries
            ]
            return (time.monotonic() - started) * 1000 / len(queries), found


def words_state(database: Database) -> Row:
    row = database.one(QUERIES.index_state, {"table": "article_texts", "index": WORDS_INDEX})
    assert row is not None
    return row


def build_words(database: Database, tell: Callable[[Row], object] = lambda progress: None) -> float:
    """The index for ranking by words (hybrid search), in place of that of version 0.1.0; how many seconds."""
    with alone(database):
        if words_state(database)["state"] == "built":
            raise InputError(f"{WORDS_INDEX} is built already", hint="`embedq index drop --words` first, to build it anew")
        took_s = _built(database, WORDS_INDEX, QUERIES.create_words_index, 256, tell)
        _drop(database, FORMER_WORDS_INDEX)
    return took_s


def drop_words(database: Database) -> bool:
    with alone(database):
        there = bool(words_state(database)["state"])
        _drop(database, WORDS_INDEX)
    return there


def alone(database: Database) -> AbstractContextManager[None]:
    """Two builds at once would wait for each other's snapshots until PostgreSQL ends one, whose index is broken then.

    Raises NotWell while another build, or the dropping of an index, is under way.
    """
    return Switches(database).alone(
        "index", "wait until that build has ended (`embedq index status` shows it), then run the same again"
    )


def _built(database: Database, name: str, statement: str, memory_mb: int, tell: Callable[[Row], object]) -> float:
    """The remains of an interrupted build are removed first. PostgreSQL's parallel workers need shared memory, which containers limit: if it is
    too small, the index is built without them."""
    _drop(database, name)
    try:
        return run_beside_writers(database, statement, memory_mb, tell)
    except StoreUnavailable as ended:
        if not _lacks_shared_memory(ended.__cause__):
            raise
    log.warning(
        "/dev/shm of the database server is too small for a build by several processes: it is built by one, which takes longer; "
        "next time give the server more (docker run --shm-size=1g, shm_size: 1g in compose)"
    )
    _drop(database, name)
    return run_beside_writers(database, statement, memory_mb, tell, parallel=False)


def _drop(database: Database, name: str) -> None:
    run_beside_writers(database, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _lacks_shared_memory(error: BaseException | None) -> bool:
    """Source: PostgreSQL, dsm_impl.c, whose routines raise SQLSTATE 53100 where a segment cannot be made as large."""
    return isinstance(error, psycopg.errors.DiskFull) and (error.diag.source_function or "").startswith("dsm_impl")


def run_beside_writers(
    database: Database,
    statement: str,
    memory_mb: int = 64,
    tell: Callable[[Row], object] = lambda progress: None,
    *,
    parallel: bool = True,
) -> float:
    """A long statement that cannot run in a transaction, on its own connection; `tell` gets its progress."""
    started = time.monotonic()
    with closing(database.connect(name="embedq index")) as connection:
        connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(f"{memory_mb}MB")))
        if not parallel:
            connection.execute("SET max_parallel_maintenance_workers = 0")
        failed: list[psycopg.Error] = []
        work = threading.Thread(target=_run, args=(connection, statement, failed), name="embedq-index")
        work.start()
        try:
            for progress in _while_alive(database, work, connection.info.backend_pid):
                tell(progress)
        except BaseException:
            connection.cancel()
            raise
        finally:
            work.join()
    if failed:
        raise StoreUnavailable(
            f"it ended early: {first_line(failed[0])}", hint="run the same command again: what is left over is removed first"
        ) from failed[0]
    return time.monotonic() - started


def _run(connection: Any, statement: str, failed: list[psycopg.Error]) -> None:
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        failed.append(error)


def _while_alive(database: Database, work: threading.Thread, pid: int) -> Iterator[Row]:
    while work.is_alive():
        work.join(LOOK_EVERY_S)
        progress = database.one(QUERIES.index_progress, {"pid": pid})
        if progress:
            yield progress
