"""The registry of models, and the pointer to the active one.

A new model is built beside the active one: both get the tasks of every edit, so that switching, and switching back, is
a change of one row (docs/why/model-change.rst).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import replace
from itertools import count
from typing import Any

from psycopg.types.json import Jsonb

from ..decide.preparation import alike, for_register, of_register
from ..errors import ConfigError, InputError, NotFound, NotWell
from ..model import Model, Preparation
from .control import Audit
from .database import Connection, Database, Row
from .grants import grant_vectors
from .live import live_state
from .model_progress import Progress
from .model_rows import forget_rows, until_none
from .queries import QUERIES
from .reconcile import wanted_of
from .switches import Switches
from .unlocked import STEP as OF_A_STEP
from .unlocked import on_unlocked

log = logging.getLogger(__name__)

STEP = 5000
# What a row may have of a page of 8 KB, and what of it is not the vector: ids, hashes, heads.
PAGE, REST_OF_ROW = 8160, 200


class Models:
    def __init__(self, database: Database) -> None:
        self.database = database

    # The registry --------------------------------------------------------------------------------------------------------------

    def add(self, model: Model, *, kept_in_step: bool = True) -> Model:
        """Register it, with its own table of vectors. Adding it again changes nothing. One that makes other inputs than a registered one of the
        same name and dimensions is another model, and gets a number behind its name."""
        with self.database.transaction() as connection:
            connection.execute(QUERIES.lock_models)
            alike = self._of_name(model)
            if known := next((each for each in alike if _is(each, model)), None):
                return known
            named = _numbered(model, {each.name for each in alike})
            row = connection.execute(QUERIES.add_model, _columns(named)).fetchone()
            assert row is not None
            connection.execute(
                QUERIES.set_preparation, {"model_id": row["id"], "preparation": Jsonb(for_register(named.preparation))}
            )
            connection.execute(QUERIES.set_kept_in_step, {"model_id": row["id"], "kept": kept_in_step})
            grant_vectors(connection, f"embedding_vectors_{row['id']}")
            if _fits_a_page(model.dimensions, model.storage):
                connection.execute(f"ALTER TABLE embedding_vectors_{row['id']} SET (toast_tuple_target = {PAGE})")
        return replace(named, id=int(row["id"]))

    def _of_name(self, model: Model) -> list[Model]:
        """Those that the server knows under its name, whatever their inputs."""
        found = self.by_id().values()
        return [each for each in found if _base(each) == _base(model)]

    def active(self) -> Model | None:
        return _model(self.database.one(QUERIES.active_model))

    def previous(self) -> Model | None:
        """The model that `rollback` goes back to."""
        return _model(self.database.one(QUERIES.previous_model))

    def all(self) -> list[Row]:
        return self.database.fetch(QUERIES.models)

    def by_id(self) -> dict[int, Model]:
        return {row["id"]: _registered(row) for row in self.all()}

    def named(self, key: str) -> Model:
        """By id, name, provider/name or provider/name/dimensions. Raises NotFound, or InputError when several have the name."""
        found = [model for model in self.by_id().values() if key in _names(model)]
        if not found:
            raise NotFound(
                f"no model is called {key!r}", hint="`embedq model list` shows them; `embedq model add` registers one"
            )
        if len(found) > 1:
            told = ", ".join(f"{model.id} ({model})" for model in found)
            raise InputError(f"{key!r} could be {told}", hint="name it by its id", field="model")
        return found[0]

    def agree(self, wanted: Model) -> Model:
        """The active model; the first time, the wanted one becomes it. Vectors are never mixed: the settings name the first
        model only, and one that is not registered is refused. A registered one is not active any more, or not yet: that is said."""
        active = self.active()
        if active is None:
            self.database.execute(QUERIES.first_model, {"model_id": self.add(wanted).id})
            active = self.active()
        assert active is not None
        if _base(active) == _base(wanted):
            return active
        if not self._of_name(wanted):
            raise ConfigError(
                f"the settings name the model {wanted}, but the active model of this database is {active}",
                hint="vectors of two models are never mixed: start with EMBEDDING_PROVIDER, EMBEDDING_MODEL and EMBEDDING_DIMENSIONS unset (the active"
                f" one is used then); then `embedq model add {wanted.provider} {wanted.name} {wanted.dimensions}`, and as it says build and activate it",
            )
        log.warning(
            "the settings name the model %s; the active one is %s, and that is used (`embedq model list`)", wanted, active
        )
        return active

    # Building ------------------------------------------------------------------------------------------------------------------

    def progress(self, model: Model) -> Progress:
        facts: dict[str, Any] = {}
        for statement in (QUERIES.model_progress, QUERIES.model_tasks, QUERIES.model_size):
            facts |= self.database.one(statement, {"model_id": model.id, "table": f"embedding_vectors_{model.id}"}) or {}
        return Progress(**(facts | {"rate_per_s": float(facts["rate_per_s"])}))

    def to_build(self, model: Model) -> Row:
        """What a build would promise: articles, and bytes of their texts."""
        return self.database.one(QUERIES.count_to_build, {"model_id": model.id}) or {"articles": 0, "bytes": 0}

    def build(self, model: Model, *, rate: float | None = None, tell: Callable[[int], object] = lambda made: None) -> int:
        """Keep it in step with edits from now on, and make a task for every article it lacks, at `low`; how many. Run again, it
        goes on where it was. `rate`: due so many a second. `tell` is told the number made so far. Raises NotWell when none are made."""
        self.database.execute(QUERIES.set_kept_in_step, {"model_id": model.id, "kept": True})
        self._refuse_without_tasks()
        made, after = 0, ""
        while ids := self._next_to_build(model, after):
            after = ids[-1]
            made += self._promise(model, ids, made, rate)
            tell(made)
        return made

    def _next_to_build(self, model: Model, after: str) -> list[str]:
        rows = self.database.fetch(QUERIES.to_build, {"model_id": model.id, "after": after, "limit": STEP})
        return [row["id"] for row in rows]

    def _promise(self, model: Model, ids: list[str], done: int, rate: float | None) -> int:
        """An article that a transaction is writing gets its task by that, or by the steward's reconcile: its model is kept in step already."""
        want, places = wanted_of(model.id, "model_change"), count(done, OF_A_STEP)

        def promise(connection: Connection, unlocked: list[str]) -> int:
            made = want(connection, unlocked)
            if rate:
                connection.execute(
                    QUERIES.spread_tasks, {"model_id": model.id, "ids": unlocked, "done": next(places), "rate": rate}
                )
            return made

        made, _ = on_unlocked(self.database, ids, promise)
        return made

    def _refuse_without_tasks(self) -> None:
        live = live_state(self.database)
        if not live.makes_tasks:
            raise NotWell(
                f"no tasks are made now (mode {live.mode}, submissions accepted: {live.submissions_accepted})",
                hint="`embedq mode celery` or `embedq mode database`, or end the maintenance; then build again",
            )

    def sample_titles(self, limit: int) -> list[str]:
        return [row["title"] for row in self.database.fetch(QUERIES.sample_titles, {"limit": limit})]

    # Switching -----------------------------------------------------------------------------------------------------------------

    def activate(self, model: Model, *, who: str, why: str = "", force: bool = False) -> Progress:
        """Let search follow it, from one moment to the next. Raises NotWell, unless `force`, while search would lose articles."""
        progress = self.progress(model)
        lacks = progress.lacks()
        if lacks and not force:
            raise NotWell(
                f"{model} is not complete: {lacks}",
                hint=f"`embedq model build {model.id}` and `embedq model status {model.id}`; --force switches all the same",
            )
        self._switch(model, "activate", who, why, progress)
        return progress

    def rollback(self, *, who: str, why: str = "") -> tuple[Model, Progress]:
        """Let search follow the model before the active one again. It was kept in step, so nothing is embedded anew."""
        previous = self.previous()
        if previous is None:
            raise NotFound("there is no model to go back to", hint="`embedq model list` shows what can be activated")
        progress = self.progress(previous)
        self._switch(previous, "rollback", who, why, progress)
        return previous, progress

    def _switch(self, model: Model, act: str, who: str, why: str, progress: Progress) -> None:
        with self.database.transaction() as connection:
            connection.execute(QUERIES.lock_models)
            if connection.execute(QUERIES.set_kept_in_step, {"model_id": model.id, "kept": True}).rowcount == 0:
                raise NotFound(f"{model} was dropped meanwhile", hint="`embedq model list` shows the models")
            row = connection.execute(QUERIES.switch_model, {"model_id": model.id}).fetchone()
            if row is None:
                raise InputError(f"{model} is active already", hint="`embedq model list` shows which is active")
            Audit(self.database).write(
                "model",
                f"{act}: search follows {model}",
                connection=connection,
                who=who,
                reason=why,
                model=model.id,
                previous=row["previous_model_id"],
                missing=progress.missing,
                behind=progress.behind,
            )

    def hurry(self, model: Model) -> int:
        """Raise the model's waiting tasks from `low` to `normal`; how many."""
        return until_none(lambda: self.database.execute(QUERIES.hurry_model, {"model_id": model.id, "limit": STEP}))

    # Dropping ------------------------------------------------------------------------------------------------------------------

    def drop(self, model: Model, *, who: str, why: str = "") -> dict[str, int]:
        """Forget a model: its tasks are cancelled, its vectors dropped with their table. Refused for the active one."""
        freed = self.progress(model).bytes
        with Switches(self.database).alone("models", "`embedq model list` shows what it did; then try again"):
            active = self.active()
            if active is not None and active.id == model.id:
                raise InputError(f"{model} is active", hint="`embedq model activate` another one first", field="model")
            self.database.execute(QUERIES.set_kept_in_step, {"model_id": model.id, "kept": False})
            forgotten = forget_rows(self.database, model, who=who, why=why, bytes=freed)
        return {**forgotten, "bytes": freed}


def _fits_a_page(dimensions: int, storage: str) -> bool:
    """Whether rows with vectors of this size fill at least two thirds of their pages: then they are kept whole, which is written and read
    faster than PostgreSQL's way, four pieces in a table beside. (A row with a very long id goes there all the same.)"""
    row = (2 if storage == "halfvec" else 4) * dimensions + REST_OF_ROW
    return PAGE // row * row > PAGE * 2 / 3


def _model(row: Row | None) -> Model | None:
    return _registered(row) if row else None


def _registered(row: Row) -> Model:
    return Model(row["provider"], row["name"], row["dimensions"], row["id"], of_register(row["preparation"]), row["storage"])


def _columns(model: Model) -> dict[str, Any]:
    return {"provider": model.provider, "name": model.name, "dimensions": model.dimensions, "storage": model.storage}


def _base(model: Model) -> tuple[str, str, int]:
    """What a server is asked for."""
    return (model.provider, model.asked_as, model.dimensions)


def _is(known: Model, model: Model) -> bool:
    """Whether this model is meant: by its own name where nothing is said of its inputs."""
    return known.name == model.name if model.preparation == Preparation() else alike(known.preparation, model.preparation)


def _numbered(model: Model, taken: Container[str]) -> Model:
    if model.name not in taken:
        return model
    number = next(number for number in count(2) if f"{model.asked_as}#{number}" not in taken)
    return replace(model, name=f"{model.asked_as}#{number}", preparation=replace(model.preparation, asked_as=model.asked_as))


def _names(model: Model) -> tuple[str, ...]:
    return (str(model.id), model.name, f"{model.provider}/{model.name}", str(model))
