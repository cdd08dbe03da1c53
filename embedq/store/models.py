"""The registry of models, the active one, and what every process must know of their providers."""

from __future__ import annotations

from ..errors import ConfigError
from ..model import Model
from .database import Database, Row
from .queries import QUERIES


class Models:
    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, model: Model) -> Model:
        """Register it, with its own table of vectors. Adding it again changes nothing."""
        row = self.database.one(
            QUERIES.add_model, {"provider": model.provider, "name": model.name, "dimensions": model.dimensions}
        )
        assert row is not None
        return Model(model.provider, model.name, model.dimensions, int(row["id"]))

    def active(self) -> Model | None:
        row = self.database.one(QUERIES.active_model)
        return Model(row["provider"], row["name"], row["dimensions"], row["id"]) if row else None

    def all(self) -> list[Row]:
        return self.database.fetch(QUERIES.models)

    def by_id(self) -> dict[int, Model]:
        return {row["id"]: Model(row["provider"], row["name"], row["dimensions"], row["id"]) for row in self.all()}

    def agree(self, wanted: Model) -> Model:
        """The active model; the first time, the wanted one becomes it. A disagreement is refused: vectors are never mixed."""
        active = self.active()
        if active is None:
            self.database.execute(QUERIES.first_model, {"model_id": self.add(wanted).id})
            active = self.active()
        assert active is not None
        if (active.provider, active.name, active.dimensions) != (wanted.provider, wanted.name, wanted.dimensions):
            raise ConfigError(
                f"the settings name the model {wanted}, but the active model of this database is {active}",
                hint=f"vectors of two models are never mixed: build the new one beside the old with `embedq model add {wanted.provider}"
                f" {wanted.name} {wanted.dimensions}`, or set EMBEDDING_PROVIDER/MODEL/DIMENSIONS to the active one",
            )
        return active

    def pause(self, provider: str, pause_s: float, reason: str) -> Row | None:
        return self.database.one(QUERIES.pause_provider, {"provider": provider, "pause_s": pause_s, "reason": reason})

    def well(self, provider: str) -> bool:
        """The provider answered: no fault is held against it. True if one was."""
        return self.database.one(QUERIES.provider_well, {"provider": provider}) is not None

    def may_probe(self, provider: str, probe_s: float) -> bool:
        return self.database.one(QUERIES.may_call, {"provider": provider, "probe_s": probe_s}) is not None

    def state(self, provider: str) -> Row | None:
        return self.database.one(QUERIES.provider_state, {"provider": provider})
