"""`embedq model activate`, `rollback`, `accept` and `drop`."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from .. import wiring
from ..errors import InputError
from ..model import Model
from ..settings import Settings, from_env
from ..store import Store
from ..store.model_progress import Progress
from .fences import opened
from .model_comparing import JUDGED, judged
from .voice import NOT_WELL, Answer, Table, command, confirm, lasting, tell, who


@command(name="activate", changes=True)
@click.argument("key", metavar="MODEL")
@click.option("--force", is_flag=True, help="Switch even if search will not find some articles until they are embedded.")
@JUDGED
def activate(key: str, force: bool, file: Path | None, reason: str, yes: bool) -> Answer:
    """Let search use this model, from one moment to the next. Refused while search would lose articles.

    The model before it is kept in step until it is dropped: `embedq model rollback` goes back at once.

    Example:  embedq model activate 2 --reason "better recall on German texts"
    """
    with opened() as store:
        chosen, started = store.models.named(key), time.monotonic()
        before = store.models.active()
        if file is not None:
            _warn_if_worse(from_env(os.environ), store, before, chosen, file)
        progress = store.models.activate(chosen, who=who(), why=reason, force=force)
        return _switched(store, chosen, before, progress, time.monotonic() - started)


@command(name="rollback", changes=True)
def rollback(reason: str, yes: bool) -> Answer:
    """Let search follow the model before the active one again, at once: it was kept in step with every edit.

    Example:  embedq model rollback --reason "worse on short titles"
    """
    with opened() as store:
        before, started = store.models.active(), time.monotonic()
        chosen, progress = store.models.rollback(who=who(), why=reason)
        return _switched(store, chosen, before, progress, time.monotonic() - started)


def _switched(store: Store, now: Model, before: Model | None, progress: Progress, seconds: float) -> Answer:
    hurried = store.models.hurry(now)
    data = {"active": str(now), "before": str(before), "seconds": seconds, "hurried": hurried} | shown(progress)
    said: list[str | Table] = [f"search follows {now} (before: {before}); it took {lasting(seconds)}"]
    if progress.missing or progress.behind:
        said.append(f"{progress.missing:,} articles have no vector of it yet, {progress.behind:,} one of an older text")
    return Answer(data, [*said, "next: embedq verify; back: embedq model rollback"], NOT_WELL if progress.missing else 0)


def _warn_if_worse(settings: Settings, store: Store, before: Model | None, chosen: Model, file: Path) -> None:
    """On stderr. A warning, not a refusal: only the operator can tell whether the questions represent real ones."""
    if before is None or before.id == chosen.id:
        return
    (old, new), _ = judged(settings, store, [before, chosen], file)
    if new.score.mrr < old.score.mrr:
        tell(
            f"warning: {chosen} answers the questions of {file} worse: MRR {new.score.mrr:.3f}, {before} {old.score.mrr:.3f}"
            f" (`embedq model compare {before.id} --file {file}` shows which; `embedq model rollback` goes back)"
        )


@command(name="accept", changes=True)
@click.argument("key", metavar="MODEL")
def accept(key: str, reason: str, yes: bool) -> Answer:
    """Accept the vectors that this model makes now: workers store for it again. Verify first that they are comparable with the stored ones.

    Vectors are never compared with those of another model: `embedq provider check` shows what it makes of texts that are stored.

    Example:  embedq model accept 1 --reason "the same weights in another precision; recall measured"
    """
    from ..decide.sameness import cosine
    from ..engine.requests import CANARY

    settings = from_env(os.environ)
    with closing(wiring.store(settings)) as store, closing(wiring.provider_factory(settings)(store.models.named(key))) as asked:
        chosen, kept = asked.model, store.canaries.of(asked.model.id)
        vector = asked.embed([CANARY]).vectors[0]
        found = None if kept is None or kept.vector is None else cosine(kept.vector, vector)
        store.canaries.accept(chosen.id, vector)
        words = f"the vectors of {chosen} are accepted as they are now" + (
            "" if found is None else f" (cosine {found:.3f} with before)"
        )
        store.audit.write("model", f"accept: {words}", who=who(), reason=reason, model=chosen.id, cosine=found)
    return Answer({"model": str(chosen), "cosine": found}, [words, "next: embedq provider check"])


@command(name="drop", destroys=True)
@click.argument("key", metavar="MODEL")
def drop(key: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Forget a model with its vectors, and free their space. The active one is refused. It can only be built anew.

    Example:  embedq model drop 1 --yes --reason "two weeks without complaint"
    """
    with opened() as store:
        chosen = store.models.named(key)
        active = store.models.active()
        if active is not None and active.id == chosen.id:
            raise InputError(f"{chosen} is active", hint="`embedq model activate` another one first")
        progress = store.models.progress(chosen)
        told = f"{progress.complete:,} articles' vectors ({progress.bytes / 1e6:,.1f} MB) and {progress.open:,} open tasks of {chosen}"
        if dry_run:
            return Answer({"would_drop": str(chosen)} | shown(progress), [f"would drop {told}"])
        confirm(f"Drop {told}?", yes=yes)
        freed = store.models.drop(chosen, who=who(), why=reason)
    return Answer(
        {"dropped": str(chosen)} | freed,
        [f"dropped {chosen}: {freed['bytes'] / 1e6:,.1f} MB, {freed['tasks']:,} tasks cancelled"],
    )


def shown(progress: Progress) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(progress) | {"eta_s": progress.eta_s, "lacks": progress.lacks()}
