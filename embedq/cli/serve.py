"""`embedq serve`: the HTTP service."""

from __future__ import annotations

import os
import socket

import click

from ..endpoints import addresses
from ..errors import EmbedqError, InputError
from ..settings import Settings, from_env
from ..telemetry import logs
from .voice import Answer, command, tell


@command(name="serve")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback both tokens must be set."
)
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="Port to listen on; 0: any free one."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that answer; one for each core that is free for it.",
)
def serve(host: str, port: int, workers: int) -> Answer | None:
    """Run the HTTP service: articles and search, the operator's paths, /metrics, and the cockpit at /.

    Example:  embedq serve --host 127.0.0.1 --port 8000
    """
    from ..http.origins import check_address

    if not host.strip():  # an empty host would mean all addresses
        raise InputError("--host is empty", hint="name an address, for example 127.0.0.1; 0.0.0.0 is all of them")
    settings = from_env(os.environ)
    warning = check_address(settings, host)
    addresses(settings)
    logs.set_up(settings.log_format, settings.log_level)
    if warning:
        tell(f"embedq: {warning}")
    listen(settings, host, port, workers)
    return None


def listen(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Until TERM or Ctrl-C; requests under way are answered first. Several workers are separate processes."""
    from ..http import make_app
    from ..http.prefork import Prefork
    from ..http.server import QUEUE, run

    app = make_app(settings) if workers == 1 else None  # a process that forks must have no connections
    with bound(host, port, QUEUE) as sock:
        shown = f"[{host}]" if ":" in host else host
        tell(f"embedq serves http://{shown}:{sock.getsockname()[1]} (the cockpit is at /, the API at /docs)")
        if app is not None:
            run(app, sock)
        else:
            Prefork(lambda: run(make_app(settings), sock), workers, tell=lambda said: tell(f"embedq: {said}")).run()


def bound(host: str, port: int, queue: int) -> socket.socket:
    """A listening socket. What it accepts sends small answers at once (TCP_NODELAY is inherited): asyncio sets this only on
    sockets that name TCP as their protocol, and `create_server` names none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=queue)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except (OSError, UnicodeError) as refused:
        said = refused.strerror if isinstance(refused, OSError) else "it is not a host name"
        raise EmbedqError(
            f"{host}:{port} cannot be listened on: {said}",
            hint="choose another --port, or 0 for any; --host is an address or a name of this machine",
        ) from None
