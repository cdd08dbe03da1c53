"""Every way in which libpq can be told where PostgreSQL is: commands, clients and workers go there alike."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import pytest

from embedq import wiring
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.contract.test_brokers import make_certificates
from tests.failover import Node
from tests.pgbouncer import MISSING, pooled, program
from tests.support import folder_for_servers, free_port, run_command, start_poller, until

HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n"


@pytest.fixture(scope="module")
def node():
    """On a Unix socket, on IPv4 and IPv6."""
    with folder_for_servers("embedq-addresses-") as folder:
        made = Node(folder / "primary")
        if made.owner is not None:
            os.chown(folder, *made.owner)
        made.initialise()
        (made.folder / "pg_hba.conf").write_text(HBA)
        made.start("listen_addresses=127.0.0.1,::1", f"unix_socket_directories={folder}")
        made.sql("CREATE ROLE app LOGIN", "postgres")
        made.sql("CREATE DATABASE app OWNER app", "postgres")
        made.sql("CREATE EXTENSION vector")
        url = made.url(user="app")
        store = Store(Database(url))
        wiring.set_up(from_env({"DATABASE_URL": url, "EMBEDDING_DIMENSIONS": "64", "EMBEDDING_MODE": "database"}), store)
        store.close()
        (folder / "services.conf").write_text(f"[app]\nhost=127.0.0.1\nport={made.port}\nuser=app\ndbname=app\n")
        yield made
        made.die()


@pytest.fixture(scope="module")
def by_tls(node):
    """The port of a PgBouncer in session mode that asks for TLS: the embedded server was built without it."""
    if program() is None:
        pytest.skip(MISSING)
    with folder_for_servers("embedq-tls-") as folder:
        make_certificates(folder)
        for file in folder.iterdir():
            file.chmod(0o644)
        files = f"client_tls_cert_file = {folder}/server.crt\nclient_tls_key_file = {folder}/server.key"
        with pooled(
            folder, node.url(user="app"), mode="session", size=40, more=f"client_tls_sslmode = require\n{files}"
        ) as url:
            (node.folder.parent / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
            yield urlsplit(url).port


WAYS = {
    "a list of hosts": ("postgresql://app@127.0.0.1:{dead},127.0.0.1:{port}/app", {}),
    "a list of hosts and a target": ("postgresql://app@127.0.0.1:{dead},127.0.0.1:{port}/app?target_session_attrs=primary", {}),
    "a list by pairs": ("host=127.0.0.1,127.0.0.1 port={dead},{port} user=app dbname=app", {}),
    "a service in the URL": ("postgresql:///?service=app", {"PGSERVICEFILE": "{folder}/services.conf"}),
    "a service by pairs": ("service=app", {"PGSERVICEFILE": "{folder}/services.conf"}),
    "a service of the environment": ("postgresql://", {"PGSERVICEFILE": "{folder}/services.conf", "PGSERVICE": "app"}),
    "a Unix socket, encoded": ("postgresql://app@{socket}:{port}/app", {}),
    "a Unix socket in the query": ("postgresql://app@/app?host={folder}&port={port}", {}),
    "a Unix socket by pairs": ("host={folder} port={port} user=app dbname=app", {}),
    "IPv6": ("postgresql://app@[::1]:{port}/app", {}),
    "TLS in the URL": ("postgresql://app:of-the-tests@127.0.0.1:{tls}/app?sslmode=verify-full&sslrootcert={folder}/ca.crt", {}),
    "TLS of the environment": (
        "postgresql://app:of-the-tests@127.0.0.1:{tls}/app",
        {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "{folder}/ca.crt"},
    ),
    "all of the environment": (
        "postgresql://",
        {"PGHOST": "127.0.0.1", "PGPORT": "{port}", "PGUSER": "app", "PGDATABASE": "app"},
    ),
    "as SQLAlchemy writes it": ("postgresql+psycopg://app@127.0.0.1:{port}/app", {}),
}


def as_told(way: str, node: Node, tls: int) -> dict[str, str]:
    url, more = WAYS[way]
    folder = node.folder.parent
    facts = {"dead": free_port(), "port": node.port, "tls": tls, "folder": folder, "socket": str(folder).replace("/", "%2F")}
    return {name: value.format(**facts) for name, value in {"DATABASE_URL": url, **more}.items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_command_and_a_worker_find_the_database(node, request, redis_url, way):
    ours = {
        "REDIS_URL": redis_url,
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDDING_WORKER_INTERVAL": "200",
        **as_told(way, node, request.getfixturevalue("by_tls") if "TLS" in way else 0),
    }
    article = re.sub(r"\W+", "-", way)

    added = run_command(ours, "articles", "add", "Tea", "--content", "green", "--id", article)

    assert (added.returncode, "Traceback" in added.stderr) == (0, False), added
    with start_poller(ours) as worker:
        until(
            lambda: node.sql(f"SELECT embedding_status FROM articles WHERE id = '{article}'") == [("ready",)], why=worker.output
        )
        assert "Traceback" not in worker.output()


@pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca"])
def test_a_certificate_of_another_authority_is_refused_with_the_reason(by_tls, tmp_path, sslmode):
    make_certificates(tmp_path)
    url = f"postgresql://app:of-the-tests@127.0.0.1:{by_tls}/app?sslmode={sslmode}&sslrootcert={tmp_path}/ca.crt"

    done = run_command({"DATABASE_URL": url}, "status")

    assert (done.returncode, "certificate" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done
