"""`embedq db …`: the schema."""

from __future__ import annotations

import os

import click

from .. import assemble
from ..settings import from_env
from ..store import schema
from .voice import NOT_WELL, Answer, Table, command, confirm


@click.group()
def db() -> None:
    """Set up, upgrade, downgrade and check the schema."""


def register(made: click.Command) -> click.Command:
    db.add_command(made)
    return made


@register
@command(name="upgrade", changes=True)
@click.argument("revision", default="head")
def upgrade(revision: str, reason: str, yes: bool) -> Answer:
    """Create the schema, or bring it up to date, in one transaction.

    Example:  embedq db upgrade
    """
    settings = from_env(os.environ)
    store = assemble.store(settings)
    before, after, model = assemble.set_up(settings, store, revision)
    store.close()
    return Answer(
        {"before": before, "after": after, "model": str(model)},
        [f"schema: {before or 'nothing'} -> {after}; active model: {model}"],
    )


@register
@command(name="downgrade", destroys=True)
@click.argument("revision", default="base")
@click.option("--keep-articles", is_flag=True, help="Leave the articles behind as a plain table.")
def downgrade(revision: str, keep_articles: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Go back to an earlier schema; at `base` nothing of embedq's is left.

    Example:  embedq db downgrade base --keep-articles --yes
    """
    store = assemble.store(from_env(os.environ))
    before = schema.current(store.database)
    what = "the articles stay as a plain table" if keep_articles else "the articles go too"
    if dry_run:
        return Answer(
            {"before": before, "would_become": revision, "keep_articles": keep_articles},
            [f"would go from {before} to {revision}; {what}"],
        )
    confirm(f"Downgrade from {before} to {revision}? Tasks, vectors, models and the audit log are dropped; {what}.", yes=yes)
    _, after = schema.downgrade(store.database, revision, keep_articles=keep_articles)
    store.close()
    return Answer({"before": before, "after": after}, [f"schema: {before or 'nothing'} -> {after or 'nothing'}; {what}"])


@register
@command(name="verify")
def verify() -> Answer:
    """Is the schema what this version needs, with every table, trigger and index in place?

    Example:  embedq db verify
    """
    store = assemble.store(from_env(os.environ))
    missing = schema.missing(store.database)
    revision = schema.current(store.database)
    store.close()
    well = not missing and revision == schema.LATEST
    data = {"revision": revision, "needed": schema.LATEST, "missing": missing, "well": well}
    said: list[str | Table] = [f"schema {revision or 'nothing'}, this version needs {schema.LATEST}"]
    said += [f"missing: {name}" for name in missing]
    return Answer(data, said, 0) if well else Answer(data, [*said, "next: `embedq db upgrade`"], NOT_WELL)


@register
@command(name="health")
def health() -> Answer:
    """Can PostgreSQL be reached, which version is it, how large is what it keeps for us?

    Example:  embedq db health
    """
    store = assemble.store(from_env(os.environ))
    schema.check_server(store.database)
    facts = store.database.one(
        "SELECT version() AS server, pg_database_size(current_database()) AS bytes,"
        " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,"
        " current_setting('max_connections')::int AS max_connections,"
        " (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector"
    )
    assert facts is not None
    facts["revision"] = schema.current(store.database)
    store.close()
    return Answer(facts, [Table(("", ""), list(facts.items()))], 0 if facts["revision"] == schema.LATEST else NOT_WELL)
