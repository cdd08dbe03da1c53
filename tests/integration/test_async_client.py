"""`AsyncClient` blocks no event loop: whatever a method waits for, other tasks go on; and a cancelled one leaves nothing half done."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from embedq import AsyncClient
from embedq.errors import EmbedqError, InputError, ProviderBusy
from embedq.settings import from_env
from tests.redisprocess import own_redis
from tests.standin import running
from tests.support import ROOT, env, until


@pytest.fixture(scope="module")
def standin():
    yield from running(dimensions=64)


@pytest.fixture
def held(standin):
    """The provider, which answers nothing until the test ends or releases it."""
    standin.reset()
    standin.hold()
    yield standin
    standin.release()


@pytest.fixture(params=["openai", "ollama"])
def asking(request, psql, environment, standin):
    """Settings with the stand-in as the provider."""
    kind = request.param
    psql("UPDATE embedding_active_model SET model_id = embedq_add_model(%s, 'm', 64)", kind)
    address = {"openai": {"OPENAI_BASE_URL": standin.openai_url}, "ollama": {"OLLAMA_BASE_URL": standin.url}}[kind]
    return from_env(environment | address | {"EMBEDDING_PROVIDER": kind, "EMBEDDING_MODEL": "m"})


async def when(fact, timeout_s=20.0):
    """As `until`, of an event loop that has to go on for it."""
    async with asyncio.timeout(timeout_s):
        while not fact():
            await asyncio.sleep(0.01)


async def begun(waiting, waits):
    """The task of `waiting`, which waits."""
    task = asyncio.create_task(waiting)
    await when(waits)
    assert not task.done()
    return task


def test_searches_wait_for_the_provider_all_at_once_and_other_tasks_go_on(asking, held, psql):
    async def run():
        async with AsyncClient(asking) as embedq:
            article = await embedq.create("Tea", "steeped")
            searches = [asyncio.create_task(embedq.search(f"tea {number}")) for number in range(20)]
            await asyncio.to_thread(held.wait_until_held, 20)
            beside = await embedq.get(article.id)
            assert psql("SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'") == []
            await asyncio.to_thread(held.release)
            assert await asyncio.gather(*searches) == [[]] * 20
            return beside

    assert asyncio.run(run()).title == "Tea"


def test_an_edit_waits_for_a_row_and_other_tasks_go_on(settings, psql, session, lock_waits):
    async def run():
        async with AsyncClient(settings) as embedq:
            await embedq.create("Tea", "steeped", id="a")
            other = session()
            other.do("UPDATE articles SET title = 'Theirs' WHERE id = 'a'")
            edit = await begun(embedq.edit("a", content="brewed"), lambda: lock_waits() == 1)
            beside = await embedq.create("Coffee", "pressed")
            other.commit()
            return beside, await edit

    beside, edited = asyncio.run(run())
    assert beside.title == "Coffee"
    assert (edited.title, edited.content) == ("Theirs", "brewed")


def test_more_tasks_than_connections_wait_for_one_and_all_are_served(settings, psql):
    async def run():
        async with AsyncClient(settings, connections=2) as embedq:
            return await asyncio.gather(*(embedq.create("Tea", f"steeped {number} minutes") for number in range(50)))

    saved = asyncio.run(run())

    assert psql("SELECT count(*) FROM articles") == [(50,)]
    assert len({article.id for article in saved}) == 50


def test_a_save_returns_while_the_broker_is_frozen(settings, psql, tmp_path):
    async def run(server):
        async with AsyncClient(replace(settings, redis_url=server.url)) as embedq:
            await embedq.create("Coffee", "pressed")
            await when(lambda: psql("SELECT count(*) FROM embedding_tasks WHERE dispatched_at IS NOT NULL") == [(1,)])
            server.freeze()
            return await embedq.create("Tea", "steeped")

    with own_redis(tmp_path) as server:
        article = asyncio.run(run(server))

    assert psql("SELECT id FROM articles WHERE title = 'Tea'") == [(article.id,)]
    until(lambda: psql("SELECT dispatched_at FROM embedding_tasks WHERE article_id = %s", article.id) == [(None,)])


def test_closing_waits_for_what_is_being_published_and_other_tasks_go_on(settings):
    busy, go_on = threading.Event(), threading.Event()

    def keep_busy(publisher):
        with publisher._bell:
            busy.set()
            go_on.wait(20)

    async def run():
        embedq = AsyncClient(settings)
        await embedq.create("Coffee", "pressed")
        publishing = threading.Thread(target=keep_busy, args=[embedq._client.publisher])
        publishing.start()
        await when(busy.is_set)
        closing = asyncio.create_task(embedq.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        go_on.set()
        await closing

    asyncio.run(run())


def test_in_mode_sync_writes_wait_for_the_provider_and_other_tasks_go_on(asking, held, psql):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")

    async def run():
        async with AsyncClient(asking) as embedq:
            writes = [asyncio.create_task(embedq.create("Tea", f"steeped {number}", id=f"a{number}")) for number in range(4)]
            await asyncio.to_thread(held.wait_until_held, 4)
            beside = await embedq.get("a0")
            await asyncio.to_thread(held.release)
            return beside, await asyncio.gather(*writes)

    beside, saved = asyncio.run(run())
    assert beside.embedding_status != "ready"
    assert [article.embedding_status for article in saved] == ["ready"] * 4


# Cancelled -----------------------------------------------------------------------------------------------------------------------


def test_a_write_that_is_cancelled_while_it_waits_writes_nothing_and_the_client_goes_on(settings, psql, session, lock_waits):
    async def run():
        async with AsyncClient(settings, connections=1) as embedq:
            await embedq.create("Tea", "steeped", id="a")
            other = session()
            other.do("UPDATE articles SET title = 'Theirs' WHERE id = 'a'")
            edit = await begun(embedq.edit("a", content="brewed"), lambda: lock_waits() == 1)
            edit.cancel()
            with suppress(asyncio.CancelledError):
                await edit
            assert edit.cancelled()
            other.commit()
            return await embedq.get("a")

    article = asyncio.run(run())
    assert (article.title, article.content) == ("Theirs", "steeped")
    assert lock_waits() == 0


def test_a_search_that_is_cancelled_leaves_the_provider_and_the_client_goes_on(asking, held):
    async def run():
        async with AsyncClient(asking) as embedq:
            search = asyncio.create_task(embedq.search("tea"))
            await asyncio.to_thread(held.wait_until_held, 1)
            search.cancel()
            with suppress(asyncio.CancelledError):
                await search
            await when(lambda: held.stats()["abandoned"] == 1)
            held.release()
            return await embedq.search("coffee")

    assert asyncio.run(run()) == []


def test_a_task_that_is_cancelled_while_it_waits_for_a_connection_takes_none(settings, psql, session, lock_waits):
    async def run():
        async with AsyncClient(settings, connections=1) as embedq:
            await embedq.create("Tea", "steeped", id="a")
            other = session()
            other.do("UPDATE articles SET title = 'Theirs' WHERE id = 'a'")
            edit = await begun(embedq.edit("a", content="brewed"), lambda: lock_waits() == 1)
            late = asyncio.create_task(embedq.get("a"))
            await asyncio.sleep(0)
            late.cancel()
            other.commit()
            await edit
            assert late.cancelled()
            return await embedq.get("a")

    assert asyncio.run(run()).content == "brewed"


# Faults --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wishes", [{"fail_always": True}, {"twist": "disconnect"}, {"twist": "html"}, {"twist": "wrong_dimensions"}]
)
def test_a_provider_that_fails_is_told_as_to_the_other_client(asking, standin, wishes):
    standin.reset()
    standin.control(**wishes)

    async def run():
        async with AsyncClient(asking) as embedq:
            await embedq.search("tea")

    with pytest.raises(ProviderBusy) as busy:
        asyncio.run(run())
    assert busy.value.hint


def test_a_query_that_the_provider_refuses_is_the_querys_fault(asking, standin):
    standin.reset()
    standin.control(markers={"poison": "refuse"})

    async def run():
        async with AsyncClient(asking) as embedq:
            await embedq.search("poison")

    with pytest.raises(InputError, match="the query cannot be embedded"):
        asyncio.run(run())


# Event loops ---------------------------------------------------------------------------------------------------------------------


def test_a_client_goes_on_in_a_new_loop_when_the_one_before_is_closed(asking, standin, psql):
    standin.reset()
    embedq = AsyncClient(asking)

    async def run():
        await embedq.create("Tea", "steeped")
        await embedq.search("tea")

    for _ in range(3):
        asyncio.run(run())
    asyncio.run(embedq.close())

    assert psql("SELECT count(*) FROM articles") == [(3,)]
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'embedq%'"
    until(lambda: psql(left) == [(0,)], why=lambda: psql(left))


def test_a_second_loop_beside_the_first_is_refused(settings):
    embedq = AsyncClient(settings)

    async def run():
        await embedq.decision()
        await asyncio.to_thread(asyncio.run, embedq.decision())

    with pytest.raises(EmbedqError, match="another event loop"):
        asyncio.run(run())


FORKING = """
import asyncio, os, sys
from embedq import AsyncClient

async def saved(whose):
    articles = await asyncio.gather(*(embedq.create("Tea", f"{whose} {n}", id=f"{whose}{n}") for n in range(20)))
    await embedq.close()
    return [article.id for article in articles] == [f"{whose}{n}" for n in range(20)]

embedq = AsyncClient()
if "used" in sys.argv:
    asyncio.run(embedq.create("Tea", "before the fork", id="before"))
child = os.fork()
if child == 0:
    sys.exit(not asyncio.run(saved("child")))
assert asyncio.run(saved("parent"))
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("before", ["used", "made"])
def test_a_client_that_was_made_before_a_fork_serves_parent_and_child(environment, psql, before):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, before], env=env(environment), cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert psql("SELECT count(*) FROM articles") == [(41 if before == "used" else 40,)]


def test_no_connection_is_left_behind(settings, psql):
    async def run():
        async with AsyncClient(settings) as embedq:
            await asyncio.gather(*(embedq.create("Tea", f"steeped {number} minutes") for number in range(8)))

    asyncio.run(run())

    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'embedq%'"
    until(lambda: psql(left) == [(0,)], why=lambda: psql(left))
