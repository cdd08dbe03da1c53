"""The scheduler itself: it runs all interleavings, the reduction leaves out none that ends otherwise, and waits, time-outs and deadlocks are seen."""

from __future__ import annotations

import random

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from .conftest import Toy, alone, program
from .connections import gated

PEAR, FIG = "UPDATE pears SET n = n + 1 WHERE id = 1", "UPDATE figs SET n = n + 1 WHERE id = 1"
OTHER_PEAR = "UPDATE pears SET n = n + 10 WHERE id = 2"


def test_without_reduction_every_interleaving_is_run(toy: Toy):
    toy.explore(program(PEAR, PEAR), program(OTHER_PEAR, OTHER_PEAR), reduced=False)

    assert toy.search.found.runs == 20, "two transactions of two statements and a commit each: 6! / (3! 3!)"


def test_three_transactions_are_interleaved_as_well(toy: Toy):
    toy.explore(alone(PEAR), alone(OTHER_PEAR), alone(FIG), reduced=False)

    assert toy.search.found.runs == 90, "a statement and a commit each: 6! / (2! 2! 2!)"


def test_what_cannot_be_told_apart_is_run_once(toy: Toy):
    toy.explore(program(PEAR, PEAR), program(FIG, FIG))

    assert (toy.search.found.runs, toy.search.found.pruned) == (1, 0)


def test_a_reader_meets_an_uncommitted_write_only_at_its_commit(toy: Toy):
    ends = toy.explore(program(PEAR, PEAR), program("SELECT n FROM pears WHERE id = 1"))

    assert {end[1] for end in ends} == {(((0,),),), (((2,),),)}
    assert toy.search.found.runs == 2


def test_a_lost_update_is_found(toy: Toy):
    def increment(database):
        n = database.one("SELECT n FROM pears WHERE id = 1")["n"]
        database.execute("UPDATE pears SET n = %(n)s WHERE id = 1", {"n": n + 1})

    ends = toy.explore(increment, increment)

    assert {end[-1][-2] for end in ends} == {("pears", 1, 1), ("pears", 1, 2)}


def test_a_deadlock_is_found_and_either_may_be_its_victim(toy: Toy):
    ends = toy.explore(program(PEAR, OTHER_PEAR), program(OTHER_PEAR, PEAR))

    assert {(end[0], end[1]) for end in ends} == {((1, 1), (1, 1)), ("DeadlockDetected", (1, 1)), ((1, 1), "DeadlockDetected")}


def test_who_waits_no_longer_than_a_deadlock_takes_is_never_the_others_death(toy: Toy):
    ends = toy.explore(program("SELECT set_config('lock_timeout', '200ms', true)", PEAR, OTHER_PEAR), program(OTHER_PEAR, PEAR))

    assert {end[1] for end in ends} == {(1, 1)}
    assert "LockNotAvailable" in {end[0] for end in ends}


def test_a_time_out_is_an_end_beside_that_of_waiting_long_enough(toy: Toy):
    def patient(database):
        with database.transaction() as connection:
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            connection.execute(PEAR)

    ends = toy.explore(patient, program(PEAR))

    assert {(end[0], end[-1][-2][2]) for end in ends} == {(None, 2), ("LockNotAvailable", 1)}


def test_a_time_out_of_a_session_holds_in_its_later_transactions(toy: Toy):
    def patient(database):
        with database.transaction() as connection:
            connection.execute(FIG)
            connection.execute("SET lock_timeout = '200ms'")
        with database.transaction() as connection:
            connection.execute(PEAR)

    ends = toy.explore(patient, program(PEAR))

    assert {(end[0], end[-1][-2][2]) for end in ends} == {(None, 2), ("LockNotAvailable", 1)}


def test_a_schedule_that_is_left_before_a_commit_leaves_its_session_free(toy: Toy):
    with gated(psycopg.connect(toy.url, autocommit=True)) as connection:

        def act():
            with connection.transaction():
                connection.execute(PEAR)

        runs = [toy.begun(act) for _ in range(2)]

        assert [run.players[0].error for run in runs] == [None, None]
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert toy.admin.execute("SELECT n FROM pears WHERE id = 1").fetchone() == (0,)


def test_a_statement_that_waited_goes_on_with_what_it_had_seen(toy: Toy):
    """It began before the commit and ended after it: it changes no row that did not fit before."""
    ends = toy.explore(
        program("UPDATE pears SET n = 5 WHERE id = 1"), alone("UPDATE pears SET n = n + 1 WHERE n IN (0, 5) AND id = 1")
    )

    assert {end[-1][-2][2] for end in ends} == {5, 6}


def test_a_repeatable_reader_is_told_that_it_came_too_late(toy: Toy):
    reading = program("SELECT n FROM pears WHERE id = 1", PEAR, isolation="REPEATABLE READ")

    ends = toy.explore(reading, alone(PEAR))

    assert {end[0] if isinstance(end[0], str) else "saved" for end in ends} == {"SerializationFailure", "saved"}


def test_of_two_serializable_transactions_that_read_what_the_other_writes_either_may_be_refused(toy: Toy):
    copies = [
        program(f"SELECT sum(n) FROM {table} WHERE id = 1", f"UPDATE {other} SET n = 1 WHERE id = 1", isolation="SERIALIZABLE")
        for table, other in (("pears", "figs"), ("figs", "pears"))
    ]

    ends = toy.explore(*copies)

    refused = {tuple(isinstance(result, str) for result in end[:2]) for end in ends}
    assert refused == {(True, False), (False, True), (False, False)}


def test_what_locks_a_table_waits_for_its_readers(toy: Toy):
    ends = toy.explore(program("SELECT n FROM pears WHERE id = 1", "SELECT n FROM figs WHERE id = 1"), alone("TRUNCATE pears"))

    assert {end[0][0] for end in ends} == {((0,),), ()}


def test_an_advisory_lock_that_is_shared_hinders_only_who_wants_it_alone(toy: Toy):
    shared, whole = "SELECT 1 FROM pg_advisory_xact_lock_shared(7)", "SELECT 1 FROM pg_advisory_xact_lock(7)"

    toy.explore(program(shared, PEAR), program(shared, FIG))
    together = toy.search.found.runs
    toy.explore(program(shared, PEAR), program(whole, FIG))

    assert together == 1
    assert toy.search.found.runs > 1


WORDS = [
    "SELECT id, n FROM pears ORDER BY id",
    "SELECT id, n FROM figs ORDER BY id",
    PEAR,
    OTHER_PEAR,
    FIG,
    "UPDATE figs SET n = (SELECT sum(n) FROM pears) WHERE id = 2",
    "SELECT id FROM pears WHERE id = 1 FOR UPDATE SKIP LOCKED",
    "SELECT n FROM pears WHERE id = 2 FOR SHARE",
    "DELETE FROM figs WHERE id = 1",
    "INSERT INTO figs VALUES (3, 7) ON CONFLICT (id) DO UPDATE SET n = 9",
    "UPDATE pears SET n = n * 2 WHERE n > 0",
    "SELECT 1 FROM pg_advisory_xact_lock(7)",
]


@pytest.mark.parametrize("seed", range(20))
def test_the_reduction_loses_no_end_of_any_program(toy: Toy, seed: int):
    dice = random.Random(seed)
    level = dice.choice(["", "", "REPEATABLE READ", "SERIALIZABLE"])
    programs = [program(*dice.choices(WORDS, k=2), isolation=level), program(*dice.choices(WORDS, k=dice.choice([1, 2])))]

    full = toy.explore(*programs, reduced=False)
    every = toy.search.found.runs
    reduced = toy.explore(*programs)

    assert reduced == full
    assert toy.search.found.runs <= every
