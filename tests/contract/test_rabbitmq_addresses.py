"""RabbitMQ by a list of nodes and by TLS, for workers, publishers and looks alike."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from embedq import Client
from embedq.broker import broker_at
from embedq.broker.peek import peek
from embedq.broker.places import place_of
from embedq.settings import from_env
from tests.contract.test_brokers import make_certificates
from tests.rabbitmq import ADDRESS
from tests.support import free_port, run_command, start_celery, until

pytestmark = pytest.mark.rabbitmq


def works(environment, url):
    ours = environment | {"EMBEDDING_BROKER_URL": url}
    with Client(from_env(ours)) as client:
        client.create("Tea", "green", id="a")
        until(lambda: (peek(url).waiting or {}).get("normal") == 1, why=lambda: peek(url))
        with start_celery(ours):
            until(lambda: client.get("a").embedding_status == "ready")
            delivered = client.store.database.one("SELECT delivery FROM embedding_tasks")
    assert delivered == {"delivery": "celery"}
    assert "not asked" not in run_command(ours, "config", "check").stdout


def test_of_a_list_the_node_that_answers_is_used(environment, rabbitmq_url):
    works(environment, f"{rabbitmq_url.replace(':5672', f':{free_port()}')};{rabbitmq_url}")


@contextmanager
def terminating(folder: Path) -> Iterator[int]:
    """A port that takes TLS off, before RabbitMQ."""
    make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, context), daemon=True).start()
        yield listening.getsockname()[1]


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            raw, _ = listening.accept()
            threading.Thread(target=_bridge, args=(raw, context), daemon=True).start()


def _bridge(raw: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        inside, behind = context.wrap_socket(raw, server_side=True), socket.create_connection(ADDRESS)
        threading.Thread(target=_copy, args=(inside, behind), daemon=True).start()
        _copy(behind, inside)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.close()


def test_tls_with_a_ca_file_is_verified_by_all(tmp_path, environment, rabbitmq_url):
    with terminating(tmp_path) as port:
        bare = rabbitmq_url.replace("amqp://", "amqps://").replace("5672", str(port))
        works(environment, f"{bare}?ssl_ca_certs={tmp_path}/ca.crt")

        assert not peek(bare).reachable
        assert not peek(f"{bare}?ssl_ca_certs={tmp_path}/server.crt").reachable


@pytest.mark.parametrize(
    "spelling",
    [
        "ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&ssl_cert_reqs=required",
        "cacertfile=/ca&certfile=/c&keyfile=/k&verify=verify_peer",
    ],
)
def test_tls_is_understood_in_every_spelling(spelling):
    place = place_of(f"amqps://u:p@h:5671/v?{spelling}&heartbeat=7")

    assert (place.url, dict(place.tls)) == (
        "amqps://u:p@h:5671/v?heartbeat=7",
        {"ca_certs": "/ca", "certfile": "/c", "keyfile": "/k", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h"},
    )


def test_a_publisher_goes_on_with_another_node_of_the_list(rabbitmq_url):
    broker = broker_at(f"{rabbitmq_url};{rabbitmq_url.replace(':5672', f':{free_port()}')}")
    broker.url = ";".join(reversed(broker.url.split(";")))

    assert broker.look()
    broker.close()
