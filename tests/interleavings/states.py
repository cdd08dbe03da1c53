"""Start states: each is made once, by the product's own code, and put back before every schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedq.model import Claimed, Delivery, Mode, Model, Outcome, Priority, TaskStatus
from embedq.store import Store

from .stage import Scene, embedded
from .world import World

THREE = "INSERT INTO articles (id, content) VALUES ('a', 'one'), ('m', 'one'), ('z', 'one')"
ONE = "INSERT INTO articles (id, content) VALUES ('a', 'one')"
EDIT = "UPDATE articles SET content = 'two' WHERE id = 'a'"
HELD = (
    "held",
    "held_edit",
    "returned",
    "successor",
    "three_held",
    "building_held",
    "returned_held",
    "both_held",
    "celery_held",
)
BACK = "UPDATE articles SET content = 'one' WHERE id = 'a'"


class Making:
    """The hands that make a state."""

    def __init__(self, world: World) -> None:
        self.world, self.store, self.scene = world, world.store, Scene()
        self.scene.first, self.scene.second = (self.worker(Delivery.POLLER) for _ in range(2))

    def worker(self, delivery: Delivery) -> int:
        return self.store.workers.register(delivery, f"explorer {delivery}", [], 1e8)

    def do(self, statement: str) -> None:
        self.world.sql(statement)

    def claim(self, worker: int, delivery: Delivery = Delivery.POLLER) -> list[Claimed]:
        store = Store(self.store.database)
        if delivery is Delivery.POLLER:
            return store.tasks.claim_due(worker, delivery, tuple(Priority), 100)
        ids = [
            row[0]
            for row in self.world.sql("SELECT id FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL")
        ]
        return store.tasks.claim_named(worker, delivery, ids, 100)

    def embed(self) -> None:
        """All that is pending, by the second worker."""
        while tasks := self.claim(self.scene.second):
            self.store.tasks.settle(self.scene.second, "explorer", [embedded(t, self.scene.dims[t.model_id]) for t in tasks])

    def fail(self) -> None:
        failed = [
            Outcome(t, TaskStatus.FAILED, charged=True, error_class="InputRefused", message="no")
            for t in self.claim(self.scene.first)
        ]
        self.store.tasks.settle(self.scene.first, "explorer", failed)

    def mode(self, mode: Mode) -> None:
        self.store.status.set_mode(mode, "explorer", "explorer")

    def kill_first(self) -> None:
        self.do(f"UPDATE embedding_workers SET alive_until = '2000-01-01' WHERE id = {self.scene.first}")

    def second_model(self) -> None:
        self.scene.model = self.store.models.add(Model("hashing", "other", 32), kept_in_step=True)
        self.scene.dims[self.scene.model.id] = 32

    def dispatched(self, where: str = "true") -> None:
        self.do(
            f"UPDATE embedding_tasks SET dispatched_at = clock_timestamp() - interval '1 h' WHERE status = 'pending' AND {where}"
        )


@dataclass(frozen=True, slots=True)
class State:
    """`defaults`: how the database isolates transactions that do not say. `excuses`: what an article may stay at, for an operator to see."""

    name: str
    make: Callable[[Making], None]
    mode: Mode = Mode.DATABASE
    defaults: str = "read committed"
    excuses: tuple[str, ...] = ()


STATES: dict[str, State] = {}


def state(
    *, mode: Mode = Mode.DATABASE, defaults: str = "read committed", excuses: tuple[str, ...] = ()
) -> Callable[[Callable[[Making], None]], Callable[[Making], None]]:
    def enter(make: Callable[[Making], None]) -> Callable[[Making], None]:
        STATES[make.__name__] = State(make.__name__, make, mode, defaults, excuses)
        return make

    return enter


@state()
def embedded_one(m: Making) -> None:
    m.do(ONE)
    m.embed()


@state()
def pending(m: Making) -> None:
    m.do(ONE)


@state(defaults="repeatable read")
def pending_isolated(m: Making) -> None:
    """Where the database says that every transaction is REPEATABLE READ."""
    m.do(ONE)


@state()
def held(m: Making) -> None:
    m.do(ONE)
    m.scene.held = m.claim(m.scene.first)


@state()
def held_edit(m: Making) -> None:
    embedded_one(m)
    m.do(EDIT)
    m.scene.held = m.claim(m.scene.first)


@state()
def returned(m: Making) -> None:
    """The old text is in a worker's hands; the new one is the text that the stored vector is of."""
    held_edit(m)
    m.do(BACK)


@state()
def returned_held(m: Making) -> None:
    returned(m)
    m.scene.held_by_second = m.claim(m.scene.second)


@state()
def both_held(m: Making) -> None:
    """An old text and the new one, each in a worker's hands."""
    held(m)
    m.do(EDIT)
    m.scene.held_by_second = m.claim(m.scene.second)


@state()
def successor(m: Making) -> None:
    held(m)
    m.do(EDIT)


@state()
def lost(m: Making) -> None:
    held(m)
    m.kill_first()


@state(excuses=("failed",))
def failed_twice(m: Making) -> None:
    m.do(ONE)
    m.fail()
    m.do(EDIT)
    m.fail()


@state()
def three(m: Making) -> None:
    m.do(THREE)
    m.embed()


@state()
def three_held(m: Making) -> None:
    m.do(THREE)
    m.scene.held = m.claim(m.scene.first)


@state()
def three_lost(m: Making) -> None:
    three_held(m)
    m.kill_first()


@state()
def three_stale(m: Making) -> None:
    """Written while the mode was off."""
    m.mode(Mode.OFF)
    m.do(THREE)
    m.mode(Mode.DATABASE)


@state()
def building(m: Making) -> None:
    """A second model is kept in step and has nothing yet."""
    m.do(THREE)
    m.embed()
    m.second_model()


@state()
def building_one(m: Making) -> None:
    embedded_one(m)
    m.second_model()


@state()
def building_held(m: Making) -> None:
    embedded_one(m)
    m.second_model()
    m.store.models.build(m.scene.model)
    m.scene.held = m.claim(m.scene.first)


@state(mode=Mode.CELERY)
def celery(m: Making) -> None:
    """One task is with the broker, one is free."""
    m.mode(Mode.CELERY)
    m.do("INSERT INTO articles (id, content) VALUES ('a', 'one'), ('m', 'one')")
    m.dispatched("article_id = 'a'")


@state(mode=Mode.CELERY)
def celery_held(m: Making) -> None:
    m.mode(Mode.CELERY)
    m.do(ONE)
    m.scene.first = m.worker(Delivery.CELERY)
    m.dispatched()
    m.scene.held = m.claim(m.scene.first, Delivery.CELERY)


@state(mode=Mode.HYBRID)
def hybrid(m: Making) -> None:
    m.mode(Mode.HYBRID)
    m.do(ONE)
    m.dispatched()


@state()
def old(m: Making) -> None:
    """History older than the retention: of a live article, and of one that was deleted."""
    embedded_one(m)
    m.do("INSERT INTO articles (id, content) VALUES ('gone', 'one')")
    m.do("DELETE FROM articles WHERE id = 'gone'")
    m.do("UPDATE embedding_tasks SET completed_at = '2000-01-01', created_at = '2000-01-01'")
    m.do("UPDATE article_versions SET superseded_at = '2000-01-01', created_at = '2000-01-01'")
