"""Code written for blocking calls, run in an event loop: each call that would block gives way to the loop (docs/why/async.rst).

`bridged` runs a function in a greenlet, which has a stack of its own. `wait_here`, called anywhere below that function, suspends the
greenlet, and with it the task, until an awaitable has its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, cast

import greenlet
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")

# Threads per event loop for calls that have no asynchronous form. Separate from the default threads of asyncio and anyio, so that a
# provider that hangs cannot use up the application's.
THREADS: Final = 32
_limiter: RunVar[CapacityLimiter] = RunVar("embedq threads")


class _Fiber(greenlet.greenlet):  # type: ignore[misc]
    """The greenlet of one `bridged` call. It shares the context variables of the task that awaits it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        task = greenlet.getcurrent()
        super().__init__(work, task)
        self.gr_context = task.gr_context


async def bridged(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work`; returns or raises what it does. A cancellation of the task is raised in `work` at the place where it waits."""
    fiber = _Fiber(partial(work, *args, **kwargs))
    waits_for = fiber.switch()
    while not fiber.dead:
        try:
            result = await waits_for
        except BaseException as error:
            waits_for = fiber.throw(error)
        else:
            waits_for = fiber.switch(result)
    return cast(T, waits_for)


def wait_here(awaitable: Awaitable[T]) -> T:
    """The awaitable's result. Only below a function that was called by `bridged`."""
    fiber = greenlet.getcurrent()
    assert isinstance(fiber, _Fiber) and fiber.parent is not None, "wait_here was called outside of bridged()"
    return cast(T, fiber.parent.switch(awaitable))


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread. When the task is cancelled, the thread continues and its result is dropped."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await to_thread.run_sync(partial(work, *args, **kwargs), abandon_on_cancel=True, limiter=limiter)


class Room(AbstractContextManager[None]):
    """A semaphore for bridged code: a waiting caller yields to the event loop until a place is free."""

    def __init__(self, size: int) -> None:
        self._semaphore = asyncio.Semaphore(size)

    def __enter__(self) -> None:
        wait_here(self._semaphore.acquire())

    def __exit__(self, *_: object) -> None:
        self._semaphore.release()
