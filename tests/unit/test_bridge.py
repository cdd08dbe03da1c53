"""Blocking code below `bridged`: what it returns, raises and sees is what it would be without an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress

import pytest

from embedq.bridge import Room, bridged, in_thread, wait_here

VARIABLE = contextvars.ContextVar("a variable", default="nobody's")


async def later(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


def test_what_it_waits_for_comes_back_and_so_does_what_it_returns():
    def work(number, *, more):
        return [wait_here(later(number)), wait_here(later(number + 1)), more]

    assert asyncio.run(bridged(work, 1, more="more")) == [1, 2, "more"]


def test_work_that_waits_for_nothing_is_just_called():
    assert asyncio.run(bridged(lambda: None)) is None


def test_an_error_of_what_it_waits_for_is_raised_where_it_waits():
    def work():
        try:
            wait_here(fail(KeyError("theirs")))
        except KeyError:
            return wait_here(later("handled"))

    assert asyncio.run(bridged(work)) == "handled"


def test_an_error_of_its_own_is_raised_where_it_is_awaited():
    def work():
        wait_here(later(None))
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        asyncio.run(bridged(work))


def test_a_cancellation_is_raised_where_it_waits_and_cleaning_up_may_wait_too():
    done = []

    def work():
        try:
            wait_here(asyncio.Event().wait())
        finally:
            done.append(wait_here(later("cleaned up")))

    async def run():
        task = asyncio.create_task(bridged(work))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(run())
    assert done == ["cleaned up"]


def test_each_task_has_context_variables_of_its_own_and_keeps_what_the_work_sets():
    def work(name):
        seen = [VARIABLE.get()]
        VARIABLE.set(name)
        for _ in range(3):
            wait_here(asyncio.sleep(0))
            seen.append(VARIABLE.get())
        return seen

    async def task(name):
        VARIABLE.set(f"before {name}")
        return await bridged(work, name), VARIABLE.get()

    async def run():
        return await asyncio.gather(*(task(name) for name in "abc"))

    assert asyncio.run(run()) == [([f"before {name}", name, name, name], name) for name in "abc"]


def test_it_may_be_called_below_itself():
    def inner(value):
        return wait_here(later(value))

    def outer():
        return wait_here(bridged(inner, "inner")), wait_here(later("outer"))

    assert asyncio.run(bridged(outer)) == ("inner", "outer")


def test_waiting_outside_of_it_is_a_mistake_that_is_told():
    waiting = later(None)

    with pytest.raises(AssertionError, match="outside of bridged"):
        wait_here(waiting)

    waiting.close()


def test_a_room_holds_no_more_than_its_size_at_once():
    room, inside, most = Room(2), [], []

    def work(number):
        with room:
            inside.append(number)
            most.append(len(inside))
            wait_here(asyncio.sleep(0))
            inside.remove(number)

    async def run():
        await asyncio.gather(*(bridged(work, number) for number in range(10)))

    asyncio.run(run())
    assert max(most) == 2
    assert len(most) == 10


def test_a_task_that_is_cancelled_before_it_has_room_takes_none():
    async def run():
        room = Room(1)

        def hold(until):
            with room:
                wait_here(until.wait())

        first, second = asyncio.Event(), asyncio.Event()
        holding = asyncio.create_task(bridged(hold, first))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(bridged(hold, second))
        await asyncio.sleep(0)
        waiting.cancel()
        first.set()
        await holding
        second.set()
        async with asyncio.timeout(5):
            await bridged(hold, second)

    asyncio.run(run())


def test_what_blocks_is_done_in_another_thread_with_the_tasks_context():
    def work():
        return threading.current_thread() is threading.main_thread(), VARIABLE.get()

    async def run():
        VARIABLE.set("the task's")
        return await in_thread(work)

    assert asyncio.run(run()) == (False, "the task's")
