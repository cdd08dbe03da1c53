"""Embedding in bulk: articles a second, CPU and memory of the worker, against one request per article and against a bare loop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import ROOT, Process, env, until

from .figures import Figure, alone, compared
from .rivals import app
from .world import World, Yard, seconds

DIMENSIONS, BATCH, THREADS = 1536, 500, 4
PROVIDER = {"latency_ms": 50, "latency_per_input_ms": 0.1}
MODES = ("database", "celery", "hybrid")
PEAK_MB = 150


@dataclass
class Sums:
    """Articles a second, CPU milliseconds an article, peak memory of one process; one entry a round."""

    rate: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Every mode, the bare loop and the loop of one request per article in each round."""
    articles, few, rounds = (2_000, 200, 1) if quick else (20_000, 1_500, 3)
    sums = {name: Sums() for name in (*MODES, "bare", "one each")}
    for number in range(rounds):
        for name in list(sums) if number % 2 == 0 else reversed(list(sums)):
            _round(world, name, few if name == "one each" else articles, sums[name])
    for mode in MODES:
        yield compared(f"{mode} mode", "articles/s", sums[mode].rate, sums["bare"].rate, "a bare loop", at_least=0.8)
        yield compared(
            f"{mode} mode", "articles/s", sums[mode].rate, sums["one each"].rate, "one request per article", at_least=25
        )
        yield compared(
            f"CPU of the workers, {mode} mode", "ms/article", sums[mode].cpu_ms, sums["bare"].cpu_ms, "a bare loop", at_most=1.5
        )
        yield alone(f"peak memory of a worker, {mode} mode", "MB", sums[mode].peak_mb, at_most=PEAK_MB)
    yield alone("peak memory of the bare loop", "MB", sums["bare"].peak_mb)


def _round(world: World, name: str, articles: int, sums: Sums) -> None:
    mode = name if name in MODES else "off"
    with world.yard(mode=mode, dimensions=DIMENSIONS, batch=BATCH) as yard:
        world.standin.control(**PROVIDER)
        if name == "bare":
            _bare(yard, articles, sums)
        elif name == "one each":
            _one_each(yard, articles, sums)
        else:
            _ours(yard, articles, sums)


def _ours(yard: Yard, articles: int, sums: Sums) -> None:
    yard.start_workers(THREADS)
    yard.add_articles(THREADS, prefix="warm")
    yard.until_embedded()
    before = sum(cpu_s(worker) for worker in yard.workers)
    yard.add_articles(articles)
    took = seconds(yard.until_embedded)
    used = sum(cpu_s(worker) for worker in yard.workers) - before
    assert yard.number("SELECT count(*) FROM embeddings") == articles + THREADS
    sums.rate.append(articles / took)
    sums.cpu_ms.append(1000 * used / articles)
    sums.peak_mb.append(max(peak_mb(worker) for worker in yard.workers))


def _rival_tables(yard: Yard) -> None:
    yard.sql("CREATE TABLE rival_vectors (article_id text PRIMARY KEY, embedding vector)")
    yard.sql("CREATE TABLE rival_queue (article_id text PRIMARY KEY, taken boolean NOT NULL DEFAULT false)")


def _bare(yard: Yard, articles: int, sums: Sums) -> None:
    _rival_tables(yard)
    yard.add_articles(articles)
    yard.sql("INSERT INTO rival_queue SELECT id FROM article_texts")
    command = [sys.executable, "-m", "tests.bench.rivals", str(BATCH), str(THREADS)]
    done = subprocess.run(command, env=env(yard.environment), cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert yard.number("SELECT count(*) FROM rival_vectors") == articles
    sums.rate.append(articles / said["seconds"])
    sums.cpu_ms.append(1000 * said["cpu_s"] / articles)
    sums.peak_mb.append(said["peak_mb"])


def _one_each(yard: Yard, articles: int, sums: Sums) -> None:
    """From the first vector stored to the last: publishing and start are not counted against it."""
    _rival_tables(yard)
    yard.add_articles(articles)
    yard.sql("ALTER TABLE rival_vectors ADD at timestamptz NOT NULL DEFAULT clock_timestamp()")
    app.conf.broker_url = yard.redis_url
    with app.connection_for_write(url=yard.redis_url) as connection:
        for (article,) in yard.sql("SELECT id FROM article_texts"):
            app.send_task("rivals.one_each", args=[article], connection=connection)
    with celery_rival(yard, threads=32):
        until(lambda: yard.number("SELECT count(*) FROM rival_vectors") >= articles, 300, "the rival does not finish")
    took = yard.number("SELECT extract(epoch FROM max(at) - min(at)) FROM rival_vectors")
    sums.rate.append((articles - 1) / took)


def celery_rival(yard: Yard, threads: int) -> Process:
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.bench.rivals",
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        str(threads),
        "-Q",
        "rivals",
        "--without-mingle",
        "--without-gossip",
        "--loglevel",
        "WARNING",
    ]
    return Process("rival", argv, yard.environment)


def cpu_s(worker: Process) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


def peak_mb(worker: Process) -> float:
    """The most that was ever in memory at once, as the kernel kept it."""
    status = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
