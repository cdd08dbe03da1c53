"""`embedq mcp`: articles for an agent, over standard input and output."""

from __future__ import annotations

import os

from ..errors import ConfigError
from ..settings import from_env
from ..telemetry import logs
from .voice import Answer, command


@command(name="mcp")
def mcp() -> Answer | None:
    """Serve agents by the Model Context Protocol on standard input and output; an agent's program starts it.

    EMBEDQ_TOKEN names the token whose scope and tenant hold; without it articles can be read and written, and nothing operated. The
    service of `embedq serve` has the same at /mcp.

    Example:  embedq mcp
    """
    settings = from_env(os.environ)
    logs.set_up(settings.log_format, settings.log_level)
    try:
        from ..mcp.starting import deferred

        with deferred():
            from ..mcp.stdio import run
    except ImportError as missing:
        raise ConfigError("the MCP SDK is not installed", hint="pip install 'embedq[mcp]'") from missing
    run(settings)
    return None
