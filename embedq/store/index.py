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

from ..decide.index_plan import IndexPlan, index_plan
from ..decide.refusals import first_line
from ..errors import InputError, NotFound, NotWell, StoreUnavailable
from ..model import Model
from .database import Database, Row
from .queries import QUERIES
from .search import CHUNKS_PER_RESULT, iterate
from .storage import BITS_CANDIDATES, MOST_FOR_BITS, MOST_FOR_HALFVEC, bits_name, storage_of
from .switches import Switches

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
WORDS_INDEX = "article_texts_terms"
# That of version 0.1.0, which searches by it until its last process has ended.
FORMER_WORDS_INDEX = "article_texts_words"


class Index:
    """One model's index; `words()` is the one for ranking by words, which all models share. `bits`: of the vectors' signs, 1 bit a number;
    without it the one that there is, else of the vectors themselves."""

    def __init__(self, database: Database, model: Model, *, bits: bool | None = None) -> None:
        self.database, self.model = database, model
        kept = storage_of(database, model)
        self.storage = kept if bits is None else kept._replace(bits=bits)

    @property
    def name(self) -> str:
        return bits_name(self.model) if self.storage.bits else f"embedding_vectors_{self.model.id}_hnsw"

    def state(self) -> Row:
        """`built` (valid and whole), `building` or `broken`, its kind, sizes in bytes, vectors (an estimate), scans so far."""
        row = self.database.one(QUERIES.index_state, {"table": f"embedding_vectors_{self.model.id}", "index": self.name})
        assert row is not None
        return row | {"kind": "bits" if self.storage.bits else self.storage.cast(self.model.dimensions)}

    def plan(self, memory_mb: int | None = None) -> IndexPlan:
        """What a build would do, from counts."""
        row = self.database.one(self.storage.of(QUERIES.to_index, self.model)) or {}
        bytes_each = {"vector": 4.0, "halfvec": 2.0}[self.storage.cast(self.model.dimensions)]
        size = int(self.model.dimensions * (1 / 8 if self.storage.bits else bytes_each))
        return index_plan(row["vectors"], size, row["cache_mb"], memory_mb)

    def build(self, *, memory_mb: int | None = None, tell: Callable[[Row], object] = lambda progress: None) -> float:
        """Build it beside writers (CREATE INDEX CONCURRENTLY); how many seconds. The remains of an interrupted build are removed first."""
        self._refuse_long_vectors()
        plan = self.plan(memory_mb)
        shape = {"index": self.name, "m": str(plan.m), "ef_construction": str(plan.ef_construction)}
        statement = self.storage.of(QUERIES.create_index, self.model, **shape)
        with alone(self.database):
            other = Index(self.database, self.model, bits=not self.storage.bits)
            for there in (self, other):
                if there.state()["state"] == "built":
                    raise InputError(f"{there.name} is built already", hint="`embedq index drop` first, to build it anew")
            return _built(self.database, self.name, statement, plan.memory_mb, tell)

    def _refuse_long_vectors(self) -> None:
        most = MOST_FOR_BITS if self.storage.bits else MOST_FOR_HALFVEC
        if self.model.dimensions > most:
            raise InputError(
                f"pgvector indexes at most {most} dimensions, {self.model} has {self.model.dimensions}",
                hint="search stays exact; or `embedq index build --bits`; or build a model of fewer dimensions",
            )

    def drop(self) -> bool:
        """Whether there was one, of either kind. Search is exact afterwards, and slower."""
        kinds = [Index(self.database, self.model, bits=bits) for bits in (False, True)]
        with alone(self.database):
            there = any(kind.state()["state"] for kind in kinds)
            for kind in kinds:
                _drop(self.database, kind.name)
        return there

    def recall(self, k: int = 10, samples: int = 100) -> Row:
        """Recall: the share of the exact k nearest that the index finds, with stored vectors as queries; and the ms per query of both."""
        if self.state()["state"] != "built":
            raise NotFound(
                f"{self.model} has no index", hint="`embedq index build` makes it; without one every search is exact"
            )
        sampled = self.database.fetch(self.storage.of(QUERIES.sample_vectors, self.model), {"limit": samples})
        queries = [row["query"] for row in sampled]
        if not queries:
            raise NotWell("there are no vectors to measure with", hint="embed some articles first: `embedq status`")
        exact_ms, exact = self._ask(QUERIES.exact_chunks, queries, k, "enable_indexscan", "enable_bitmapscan")
        index_ms, found = self._ask(QUERIES.nearest_chunks, queries, k, "enable_seqscan")
        shares = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(exact, found, strict=True)]
        return {
            "recall": sum(shares) / len(shares),
            "worst": min(shares),
            "k": k,
            "samples": len(queries),
            "exact_ms": exact_ms,
            "index_ms": index_ms,
        }

    def _ask(self, asked: str, queries: list[str], k: int, *without: str) -> tuple[float, list[list[Any]]]:
        candidates = k * CHUNKS_PER_RESULT * (BITS_CANDIDATES if self.storage.bits else 1)
        statement = self.storage.of(asked, self.model, k=str(k), candidates=str(candidates))
        with self.database.transaction() as connection:
            iterate(connection, candidates)
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
