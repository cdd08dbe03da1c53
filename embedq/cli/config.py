"""`embedq config …`."""

from __future__ import annotations

import os

import click

from ..settings import by_env, from_env
from .voice import Answer, Table, command


@click.group()
def config() -> None:
    """Show and check the settings."""


@command(name="show")
def show() -> Answer:
    """Every setting with its value and where it comes from; secrets are not shown.

    Example:  embedq config show
    """
    settings = from_env(os.environ)
    rows = []
    for name, spec in by_env().items():
        value = getattr(settings, spec.name)
        secret = spec.metadata["secret"] and value
        rows.append(
            {
                "name": name,
                "value": "(hidden)" if secret else value,
                "set": bool(os.environ.get(name)),
                "about": spec.metadata["about"],
            }
        )
    return Answer(
        rows, [Table(("setting", "value", "set", "about"), [(r["name"], r["value"], r["set"], r["about"]) for r in rows])]
    )


@command(name="check")
def check() -> Answer:
    """Check all settings together; every problem with its remedy.

    Example:  embedq config check
    """
    from_env(os.environ)
    return Answer({"well": True}, ["the settings are in order"])


config.add_command(show)
config.add_command(check)
