"""The steps of `embedq quickstart` after the servers and the worker have started."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..client.client import Client
from ..client.importer import Imported, import_drafts
from ..errors import NotWell
from ..local.sample_corpus import standard_library
from ..model import Priority
from ..settings import Settings
from .counter import progress
from .searching import hits_table
from .voice import Answer, Table, lasting, tell

SEARCHES = ("compress a file", "parse command line arguments", "wait for several threads")
LOOK_EVERY_S = 0.25
NEXT = (
    ("up", "run it all, and leave it running"),
    ('search "read a csv file"', "search, while it runs"),
    ("status", "see the progress"),
    ("articles import PATH…", "your own texts"),
)


def program() -> str:
    """How to call embedq in this shell: by its path if the virtual environment is not active."""
    here = Path(sys.executable).with_name("embedq")
    found = shutil.which("embedq")
    if found is not None and Path(found).resolve() == here.resolve():
        return "embedq"
    return shlex.quote(str(here)) if here.exists() else f"{shlex.quote(sys.executable)} -m embedq"


def try_out(settings: Settings, timeout_s: float) -> Answer:
    """Import, wait until all is embedded, search."""
    with Client(settings) as client:
        tell("Reading the documentation of Python's standard library from this interpreter …")
        began, before = time.monotonic(), _ready(client)
        with progress("importing") as show:
            imported = import_drafts(
                client, standard_library(), priority=Priority.NORMAL, batch=500, reason="import", progress=show
            )
        tell(
            f"{imported.done} articles: {imported.created} new, {imported.changed} changed, {imported.unchanged} as they were."
        )
        wait_until_embedded(client, timeout_s)
        ready, seconds = _ready(client), time.monotonic() - began
        found = {query: client.search(query, 5) for query in SEARCHES}
        model = str(client.provider.model)
    return _answer(imported, ready - before, seconds, model, ready, found)


def wait_until_embedded(client: Client, timeout_s: float) -> None:
    """Until no task is open. Raises NotWell when it takes too long."""
    started, total = time.monotonic(), client.store.overview.open()
    with bar("embedding", total) as show:
        while (left := client.store.overview.open()) > 0:
            show(total - left)
            if time.monotonic() - started > timeout_s:
                raise NotWell(
                    f"{left} articles are still not embedded after {timeout_s:.0f} s",
                    hint="`embedq up` and then `embedq status` show why",
                )
            time.sleep(LOOK_EVERY_S)
        show(total)


def _ready(client: Client) -> int:
    return client.store.articles.count_by_status().get("ready", 0)


class bar:
    """A progress bar with a rate on a terminal; elsewhere a line every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.bar: Any = None
        self.said_at = self.began = time.monotonic()

    def __enter__(self) -> Any:
        if sys.stderr.isatty() and self.total:
            self._draw()
        return self._show

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(self.what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}/s"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=Console(stderr=True))
        self.bar.start()
        self.task = self.bar.add_task(self.what, total=self.total, rate="0")

    def _show(self, done: int) -> None:
        now = time.monotonic()
        rate = done / (now - self.began) if now > self.began else 0.0
        if self.bar is not None:
            self.bar.update(self.task, completed=done, rate=f"{rate:,.0f}")
        elif self.total and (now - self.said_at > 2 or done == self.total):
            self.said_at = now
            tell(f"{self.what}: {done:,} of {self.total:,} ({rate:,.0f}/s)")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def _answer(imported: Imported, embedded: int, seconds: float, model: str, ready: int, found: Mapping[str, Any]) -> Answer:
    rate = f" ({embedded / seconds:,.0f}/s)" if embedded and seconds else ""
    said: list[str | Table] = [
        f"{embedded} articles were imported and embedded in {lasting(seconds)}{rate} by {model}; all in all {ready} are ready."
    ]
    said += [hits_table(hits, f'"{query}"') for query, hits in found.items()]
    said += ["Where to go next:", *(f"  {program()} {words:<27}{about}" for words, about in NEXT)]
    data = {
        "articles": imported.done,
        "embedded": embedded,
        "seconds": seconds,
        "ready": ready,
        "model": model,
        "searches": {query: [hit._asdict() for hit in hits] for query, hits in found.items()},
    }
    return Answer(data, said)
