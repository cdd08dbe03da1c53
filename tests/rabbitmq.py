"""The machine's RabbitMQ, where there is one: a virtual host of the test run's own, and a link to it that may be cut or frozen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import amqp

from embedq.broker.neighbours import BOARD
from embedq.model import Priority

ADDRESS = ("127.0.0.1", 5672)
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"
MISSING = "no RabbitMQ is reachable, or rabbitmqctl may not make a virtual host in it"


def rabbitmq_is_there() -> bool:
    try:
        connected(RABBITMQ).close()
    except Exception:
        return False
    return True


def connected(url: str) -> amqp.Connection:
    vhost = url.split("/", 3)[3] or "/"
    connection = amqp.Connection("{}:{}".format(*ADDRESS), "guest", "guest", virtual_host=vhost, connect_timeout=2)
    connection.connect()
    return connection


def emptied(url: str) -> str:
    """The same, without our queues."""
    with connected(url) as connection:
        for queue in (*Priority, BOARD):
            connection.channel().queue_delete(queue)
    return url


@contextmanager
def own_virtual_host() -> Iterator[str | None]:
    """Its URL; None where it cannot be made. It is gone afterwards, with all its queues."""
    name = f"embedq-test-{os.getpid()}"
    made = rabbitmq_is_there() and _ctl("add_vhost", name) and _ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    try:
        yield f"amqp://guest:guest@127.0.0.1:5672/{name}" if made else None
    finally:
        if made:
            _ctl("delete_vhost", name)


def _ctl(*words: str) -> bool:
    program = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return False
    return subprocess.run([program, "-q", *words], capture_output=True, timeout=60).returncode == 0


class Link:
    """A RabbitMQ behind a relay on loopback: for whoever uses `url` it can die, freeze and come back, and nobody else notices."""

    def __init__(self, url: str) -> None:
        self.direct = url
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = url.replace(f":{ADDRESS[1]}/", f":{self.port}/")
        self._flows = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def kill(self) -> None:
        """Every connection is cut, and new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _end(listener)
        cut, self._sockets = self._sockets, []
        for each in cut:
            _end(each)
        self._flows.set()

    stop = kill

    def freeze(self) -> None:
        """It accepts connections, takes a little, and never answers."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def wipe(self) -> None:
        """It loses every queue."""
        emptied(self.direct)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(ADDRESS)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                sink.sendall(data)
        _end(source)
        _end(sink)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def link(url: str) -> Iterator[Link]:
    made = Link(url)
    made.start()
    try:
        yield made
    finally:
        made.kill()


@contextmanager
def in_memory_alarm() -> Iterator[bool]:
    """Whether it could be begun. It is of the whole server, so it is kept short; the limit is as before afterwards."""
    before = _memory_limit()
    begun = before is not None and _ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        yield begun
    finally:
        if before is not None:
            _ctl("set_vm_memory_high_watermark", before)


def _memory_limit() -> str | None:
    """As a share of the machine's memory; None where rabbitmqctl may not ask, or where it is no share."""
    program = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    done = subprocess.run(
        [program, "-q", "eval", "vm_memory_monitor:get_vm_memory_high_watermark()."], capture_output=True, text=True, timeout=60
    )
    said = done.stdout.strip()
    return said if done.returncode == 0 and said.replace(".", "", 1).isdigit() else None
