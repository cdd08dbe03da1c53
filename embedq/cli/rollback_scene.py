"""What all commands of `embedq rollback` use: the deployment, who acts, the folder of backups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .. import wiring
from ..errors import InputError
from ..local.servers import default_home
from ..operations.rollback.procedure import Scene
from ..settings import from_env, home_of
from .voice import tell, who

FOLDER = click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where backups go.  [default: EMBEDQ_HOME/rollback]"
)


@contextmanager
def scene(reason: str, folder: Path | None, *, needs_reason: bool = True, webhook: str | None = None) -> Iterator[Scene]:
    if needs_reason and not reason:
        raise InputError("a procedure needs a reason", hint='add --reason "…"; the audit log and the report keep it')
    settings = from_env(os.environ)
    store, its_broker = wiring.store(settings, size=4), wiring.broker(settings)
    try:
        where = folder or default_folder(home_of(settings))
        yield Scene(store, its_broker, settings, who(), reason, where, say=tell, webhook=webhook)
    finally:
        its_broker.close()
        store.close()


def default_folder(home: Path | None) -> Path:
    return (home or default_home()) / "rollback"
