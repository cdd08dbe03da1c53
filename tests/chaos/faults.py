"""Breaking things and mending them, by the names of `plan.KINDS`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg

from embedq.errors import EmbedqError
from embedq.model import Mode, Model, Priority
from embedq.operations.mode_switch import switch

from .fence import Fence
from .writers import TENANTS

if TYPE_CHECKING:
    from .plan import Step
    from .world import Member, World

# What the stand-in does to answers, by the name of the fault.
PROVIDER: dict[str, dict[str, Any]] = {
    "provider hangs": {"twist": "hang"},
    "provider limits": {"fail_always": True, "fail_status": 429, "fail_headers": {"retry-after": "1"}},
    "provider answers 500": {"fail_always": True, "fail_status": 500},
    "provider answers 503": {"fail_always": True, "fail_status": 503},
    "provider returns too few": {"twist": "one_too_few"},
    "provider cuts off": {"twist": "cut_off"},
    "provider disconnects": {"twist": "disconnect"},
    "provider is slow": {"latency_ms": 400.0, "latency_per_input_ms": 20.0},
}

# Operators' statements on tasks, on a random half of what they mean.
HALF = "random() < 0.5"
BY_HAND = {
    "fail what is pending, by hand": f"UPDATE embedding_tasks SET status = 'failed' WHERE status = 'pending' AND {HALF}",
    "cancel what is pending, by hand": f"UPDATE embedding_tasks SET status = 'cancelled' WHERE status = 'pending' AND {HALF}",
    "set in flight back to pending, by hand": f"UPDATE embedding_tasks SET status = 'pending', processed_at = NULL WHERE status = 'processing' AND {HALF}",
    "delete what is in flight, by hand": "DELETE FROM embedding_tasks WHERE status = 'processing'",
    "delete what is open, by hand": f"DELETE FROM embedding_tasks WHERE status IN ('pending', 'processing') AND {HALF}",
    "retry what ended, by hand": f"UPDATE embedding_tasks SET status = 'pending' WHERE status IN ('failed', 'cancelled', 'completed') AND {HALF}",
}


class Faults:
    """`begin` and `mend` one step's fault. What cannot be done at the moment (an operator without a database) is counted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fence = Fence(world)
        self._mend: dict[int, Callable[[], object]] = {}
        self._acts: dict[str, Callable[[Random], Callable[[], object] | None]] = {
            "kill a celery worker": lambda dice: self._strike(self._one(dice, "celery")),
            "kill a poller": lambda dice: self._strike(self._one(dice, "poller")),
            "kill the steward's leader": lambda dice: self._strike(self.world.leader()),
            "freeze a worker": lambda dice: self._freeze(self._one(dice)),
            "freeze the steward's leader": lambda dice: self._freeze(self.world.leader()),
            "freeze a worker and take its tasks away": self._freeze_and_take_away,
            "end a worker in order": lambda dice: self.world.ask_to_end(self._one(dice)),
            "kill Redis": self._kill_redis,
            "flush Redis": lambda dice: self._redis().flushall(),
            "freeze Redis": self._freeze_redis,
            "restart PostgreSQL": lambda dice: self._end_postgres(self.world.servers.postgres.stop),
            "kill PostgreSQL": lambda dice: self._end_postgres(self.world.servers.postgres.kill),
            "break connections": self._break_connections,
            "provider is gone": self._provider_gone,
            "stop by command": lambda dice: self._stop(lambda on: self.world.store.status.set_running(on, "chaos", "chaos")),
            "stop by hand": lambda dice: self._stop(
                lambda on: self._sql("UPDATE embedding_worker_status SET is_running = %s", on)
            ),
            "pause a priority": lambda dice: self._pause([dice.choice([*Priority])], []),
            "pause a tenant": lambda dice: self._pause([], [dice.choice(TENANTS)]),
            "refuse submissions": self._refuse,
            "switch the mode": self._switch,
            "switch the mode by hand": self._switch_by_hand,
            "reconcile": self._reconcile,
            "a model comes and goes": self._model,
            "the application changes a table": self._change_table,
            "a function in a source's expression fails": self._function_fails,
            "a source's triggers are disabled": self._triggers_disabled,
            "two operators switch the mode at once": self._two_switches,
        }
        self._acts |= {name: self._bad_provider(wishes) for name, wishes in PROVIDER.items()}
        self._acts |= {name: self._by_hand(statement) for name, statement in BY_HAND.items()}

    def do(self, step: Step) -> None:
        try:
            self._begin(step) if step.begin else self._end(step)
        except (EmbedqError, psycopg.Error, OSError, ConnectionError) as cannot:
            self.world.impossible[step.kind.name] += 1
            if not step.begin:
                raise AssertionError(f"{step.kind.name} could not be mended: {cannot}") from cannot

    def _begin(self, step: Step) -> None:
        mend = self._acts[step.kind.name](Random(step.dice))
        self.world.injected[step.kind.name] += 1
        if callable(mend):
            self._mend[step.number] = mend

    def _end(self, step: Step) -> None:
        self._mend.pop(step.number, lambda: None)()

    # Workers -------------------------------------------------------------------------------------------------------------------

    def _one(self, dice: Random, name: str = "") -> Member:
        return dice.choice([member for member in self.world.members if member.name.startswith(name)])

    def _strike(self, member: Member | None) -> None:
        if member is not None:
            self.world.strike(member)

    def _freeze(self, member: Member | None) -> Callable[[], None] | None:
        if member is None:
            return None
        self.world.freeze(member)
        return lambda: self.world.thaw(member)

    def _freeze_and_take_away(self, dice: Random) -> Callable[[], None] | None:
        """Its result, when it comes, is late: others may have embedded newer texts by then."""
        member = self.world.busiest() or self._one(dice)
        mend = self._freeze(member)
        with suppress(psycopg.Error):
            self._sql(
                "UPDATE embedding_tasks t SET status = 'pending', processed_at = NULL FROM embedding_workers w"
                " WHERE w.id = t.lease_holder AND w.pid = %s AND t.status = 'processing'",
                member.process.pid,
            )
        return mend

    # Redis ---------------------------------------------------------------------------------------------------------------------

    def _redis(self) -> Any:
        import redis

        return redis.Redis.from_url(self.world.servers.redis_url, socket_timeout=2.0)

    def _kill_redis(self, dice: Random) -> Callable[[], None]:
        self.world.servers.redis.kill()
        return self.world.servers.redis.start

    def _freeze_redis(self, dice: Random) -> Callable[[], None]:
        pid = self.world.servers.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    # PostgreSQL ----------------------------------------------------------------------------------------------------------------

    def _end_postgres(self, end: Callable[[], None]) -> Callable[[], None]:
        back = self.world.outage_begins()
        end()

        def start() -> None:
            self.world.servers.postgres.start()
            back()

        return start

    def _break_connections(self, dice: Random) -> None:
        with self.world.outage(), self.world.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                f" AND datname = current_database() AND pid <> pg_backend_pid() AND {HALF}"
            )

    # The provider --------------------------------------------------------------------------------------------------------------

    def _bad_provider(self, wishes: dict[str, Any]) -> Callable[[Random], Callable[[], None]]:
        def act(dice: Random) -> Callable[[], None]:
            self.world.provider_bad(**wishes)
            return self.world.provider_good

        return act

    def _provider_gone(self, dice: Random) -> Callable[[], None]:
        self.world.note_paid()
        self.world.standin.kill()

        def back() -> None:
            self.world.standin.start()
            self.world.provider_good()

        return back

    # Operators -----------------------------------------------------------------------------------------------------------------

    def _sql(self, statement: str, *parameters: object) -> None:
        with self.world.connect() as connection:
            connection.execute(statement, parameters)

    def _by_hand(self, statement: str) -> Callable[[Random], None]:
        return lambda dice: self._patiently(statement)

    def _stop(self, set_running: Callable[[bool], object]) -> Callable[[], None]:
        self.fence.change(lambda: set_running(False))
        return lambda: self.when_possible(lambda: self.fence.change(lambda: set_running(True)))

    def _pause(self, priorities: Sequence[str], tenants: Sequence[str]) -> Callable[[], None]:
        pause = self.world.store.status.pause
        pause({"priorities": (priorities, None), "tenants": (tenants, None)}, "chaos", "chaos")
        return lambda: self.when_possible(lambda: pause({"priorities": ((), None), "tenants": ((), None)}, "chaos", "chaos"))

    def _refuse(self, dice: Random) -> Callable[[], None]:
        statement = "UPDATE embedding_worker_status SET submissions_accepted = %s"
        self._sql(statement, False)
        return lambda: self.when_possible(lambda: self._sql(statement, True))

    def _switch(self, dice: Random) -> None:
        mode = dice.choice([*Mode])
        self.fence.change(lambda: self.world.store.status.set_mode(mode, "chaos", "chaos"))

    def _switch_by_hand(self, dice: Random) -> None:
        mode = dice.choice([*Mode])
        self.fence.change(lambda: self._sql("UPDATE embedding_worker_status SET mode = %s WHERE id = 1", mode))

    def _reconcile(self, dice: Random) -> None:
        self.world.store.care.reconcile(also=("failed", "cancelled"))

    def _two_switches(self, dice: Random) -> None:
        """The fence must hold for the mode that stands afterwards, whichever of them came second."""
        modes = dice.sample([*Mode], 2)
        with ThreadPoolExecutor(2) as hands:
            self.fence.change(
                lambda: [*hands.map(lambda mode: switch(self.world.store, mode, "chaos", f"operator {mode}"), modes)]
            )

    def _model(self, dice: Random) -> Callable[[], None]:
        """Built beside the active one, kept in step for a while, dropped."""
        store = self.world.store
        model = store.models.add(Model("hashing", "of the chaos", 32))
        with suppress(EmbedqError):
            store.models.build(model)
        return lambda: self.when_possible(lambda: store.models.drop(model, who="chaos"))

    def _change_table(self, dice: Random) -> Callable[[], None]:
        """A column more on a table of ours, and away again."""
        table = dice.choice(("embedding_worker_status", "embedding_workers", "embedding_tasks", "article_texts", "embeddings"))
        self._patiently(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS note text")
        return lambda: self.when_possible(lambda: self._patiently(f"ALTER TABLE {table} DROP COLUMN IF EXISTS note"))

    def _function_fails(self, dice: Random) -> Callable[[], None]:
        """The application's migration was a mistake: no write of its own may fail for it, and what was written meanwhile is found."""
        function = "CREATE OR REPLACE FUNCTION note_title(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN {} END $$"
        self._patiently(function.format("RAISE EXCEPTION 'chaos';"))
        return lambda: self.when_possible(lambda: self._patiently(function.format("RETURN $1;")))

    def _triggers_disabled(self, dice: Random) -> Callable[[], None]:
        self._patiently("ALTER TABLE notes DISABLE TRIGGER USER")
        return lambda: self.when_possible(lambda: self._patiently("ALTER TABLE notes ENABLE TRIGGER USER"))

    def _patiently(self, statement: str) -> None:
        """Waits for a lock for less than deadlock_timeout, and again: PostgreSQL never has to end an application's write for it."""
        with self.world.connect() as connection:
            connection.execute("SET lock_timeout = '300ms'")
            for left in reversed(range(20)):
                try:
                    connection.execute(statement)  # type: ignore[arg-type]
                    return
                except psycopg.errors.LockNotAvailable:
                    if not left:
                        raise

    def when_possible(self, act: Callable[[], object]) -> None:
        """An operator who cannot put it back yet tries again."""
        for _ in range(5):
            with suppress(EmbedqError, psycopg.Error):
                act()
                return
            self.world.wait_for_postgres()
        act()
