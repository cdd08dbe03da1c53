"""`embedq serve`: the HTTP service."""

from __future__ import annotations

import os
import socket

import click

from .. import assemble, logs
from ..errors import EmbedqError
from ..settings import Settings, from_env
from .voice import Answer, command

# Longer than clients and proxies keep an idle connection (5 to 60 s as a rule): who closes first must not be we, or the request that
# is on its way at that moment is answered with a reset.
KEEP_ALIVE_S = 75


@command(name="serve")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback both tokens must be set."
)
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="Port to listen on; 0: any free one."
)
def serve(host: str, port: int) -> Answer | None:
    """Run the HTTP service: articles and search, the operator's paths, /metrics, and the cockpit at /.

    Example:  embedq serve --host 127.0.0.1 --port 8000
    """
    from ..http.guard import check_address

    settings = from_env(os.environ)
    warning = check_address(settings, host)
    assemble.addresses(settings)
    logs.set_up(settings.log_format, settings.log_level)
    if warning:
        click.echo(f"embedq: {warning}", err=True)
    listen(settings, host, port)
    return None


def listen(settings: Settings, host: str, port: int) -> None:
    """Until TERM or Ctrl-C; requests under way are answered first."""
    import uvicorn

    from ..http import make_app

    config = uvicorn.Config(
        make_app(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=False,
    )
    with bound(host, port) as sock:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"embedq serves http://{shown}:{sock.getsockname()[1]} (the cockpit is at /, the API at /docs)", err=True)
        uvicorn.Server(config).run(sockets=[sock])


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. Its queue is long: a burst of connections waits there and is not refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as taken:
        raise EmbedqError(
            f"{host}:{port} cannot be listened on: {taken.strerror}", hint="choose another --port, or 0 for any"
        ) from None
