"""A start that costs little: the SDK has five hundred pydantic models, of which a process uses a few, and the packages that its server
stands in import its client and all else (docs/why/agents.rst)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from typing import Final

import pydantic

# Their own code only gathers names of the modules below them.
GATHERING: Final = ("mcp", "mcp.server")


@contextmanager
def deferred() -> Iterator[None]:
    """While the SDK's server is imported: each model builds its validator when it is first used, the garbage collector leaves them alone,
    and the packages around it stay empty. For a process that is an MCP server over stdio and nothing else."""
    gc.disable()
    before = pydantic.BaseModel.model_config
    pydantic.BaseModel.model_config = before | {"defer_build": True}
    for name in GATHERING:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        pydantic.BaseModel.model_config = before
        gc.freeze()
        gc.enable()
