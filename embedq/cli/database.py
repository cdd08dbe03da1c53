"""`embedq db …`: the schema."""

from __future__ import annotations

import os
from contextlib import closing

import click

from .. import wiring
from ..endpoints import embedded_servers
from ..settings import Settings, from_env
from ..store import Store, grants, schema, steps
from ..store.sessions import OWN
from .voice import NOT_WELL, Answer, Table, command, confirm, tell, who


@click.group()
def db() -> None:
    """Set up, upgrade, downgrade and check the schema."""


def register(made: click.Command) -> click.Command:
    db.add_command(made)
    return made


@register
@command(name="upgrade", changes=True)
@click.argument("revision", default="head")
@click.option("--plan", is_flag=True, help="Only say what would be done.")
@click.option("--sql", is_flag=True, help="Only print the statements that would be executed.")
def upgrade(revision: str, plan: bool, sql: bool, reason: str, yes: bool) -> Answer:
    """Create the schema, or bring it up to date, beside workers and writers of this version and the one before. It goes in steps that lock one
    table each, and wait 60 ms for it at most, so that nobody waits longer behind them; a step that does not get its lock is tried again for
    20 s. Interrupted, the same command goes on where it stopped.

    Example:  embedq db upgrade --plan
    """
    settings = from_env(os.environ)
    store = wiring.store(settings)
    if plan or sql:
        return _planned(store, revision, as_sql=sql)
    before, after, model = wiring.set_up(settings, store, revision)
    where = schema.where(store.database)
    store.close()
    said = [f"schema: {before or 'nothing'} -> {after}; active model: {model}"]
    if where == OWN:
        said += [
            f"the tables are in the schema {where}: applications write to {where}.articles, or have it on their search path"
        ]
    return Answer({"before": before, "after": after, "model": str(model), "schema": where}, [*said])


def _planned(store: Store, revision: str, *, as_sql: bool) -> Answer:
    with closing(store):
        now, found = steps.ahead(store.database, revision)
    data = {"now": now, "steps": [step._asdict() for step in found]}
    if as_sql:
        return Answer(data, [f"-- {step.revision}: {step.about}\n{step.sql}" for step in found])
    said = [f"{step.revision}  {step.about}" for step in found] or ["nothing to do"]
    return Answer(data, [f"schema: {now or 'nothing'}; in steps, beside what runs:", *said])


@register
@command(name="downgrade", destroys=True)
@click.argument("revision", default="base")
@click.option("--keep-articles", is_flag=True, help="Leave the articles behind as a plain table.")
def downgrade(revision: str, keep_articles: bool, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Go back to an earlier schema; at `base` nothing of embedq's is left.

    Example:  embedq db downgrade base --keep-articles --yes
    """
    with closing(wiring.store(from_env(os.environ))) as store:
        before = schema.current(store.database)
        undone = steps.undone(before, revision)
        what = _told_of_articles(revision, keep_articles)
        plan = [f"undone: {step.revision}, {step.about}" for step in undone] or ["undone: nothing"]
        tables = [name for step in undone for name in step.tables]
        plan.append(f"tables that go, with all that is in them: {', '.join(tables) or 'none'}; {what}")
        data = {"before": before, "steps": [step._asdict() for step in undone], "keep_articles": keep_articles}
        if dry_run:
            return Answer(data | {"would_become": revision}, [f"would go from {before or 'nothing'} to {revision}", *plan])
        for line in plan:
            tell(line)
        confirm(f"Downgrade from {before or 'nothing'} to {revision}?", yes=yes)
        _, after = schema.downgrade(store.database, revision, keep_articles=keep_articles)
    return Answer(data | {"after": after}, [f"schema: {before or 'nothing'} -> {after or 'nothing'}; {what}"])


def _told_of_articles(revision: str, keep_articles: bool) -> str:
    if revision != "base":
        return "articles stay as they are"
    return "the articles stay as a plain table" if keep_articles else "the articles go too"


@register
@command(name="grant", changes=True)
@click.argument("kind", type=click.Choice([each.value for each in grants.Kind]))
@click.argument("role")
@click.option("--create", is_flag=True, help="Create the role if it does not exist; it may log in, and has no password yet.")
def grant(kind: str, role: str, create: bool, reason: str, yes: bool) -> Answer:
    """Give a role of PostgreSQL the privileges that it needs: `application` writes and searches articles, `worker` runs workers and
    operators' commands, `owner` changes the schema. New models and new tables are given to it as well.

    Example:  embedq db grant application shop --create
    """
    store = wiring.store(from_env(os.environ))
    done = grants.grant(store.database, grants.Kind(kind), role, create=create)
    store.audit.write("database", f"the role {role} was given the rights of {kind}", who=who(), reason=reason, statements=done)
    store.close()
    said = [*done, *([f"next: set its password: \\password {role} in psql"] if create else [])]
    return Answer({"kind": kind, "role": role, "statements": done}, [*said])


@register
@command(name="verify")
def verify() -> Answer:
    """Check that the schema is what this version needs, with every table, trigger and index.

    Example:  embedq db verify
    """
    store = wiring.store(from_env(os.environ))
    missing = schema.missing(store.database)
    revision = schema.current(store.database)
    store.close()
    well = not missing and schema.fits(revision)
    data = {"revision": revision, "needed": schema.LATEST, "missing": missing, "well": well}
    later = ", and runs on that of the version after it" if well and revision != schema.LATEST else ""
    said: list[str | Table] = [f"schema {revision or 'nothing'}, this version needs {schema.LATEST}{later}"]
    said += [f"missing: {name}" for name in missing]
    return Answer(data, said, 0) if well else Answer(data, [*said, "next: `embedq db upgrade`"], NOT_WELL)


def _told_of_embedded(settings: Settings) -> str:
    here = embedded_servers(settings)
    if here is None:
        return "no"
    return f"yes{f', with {here.redis}' if here.redis else ''}: for one machine"


@register
@command(name="health")
def health() -> Answer:
    """Show whether PostgreSQL can be reached, its version, and the size of embedq's tables.

    Example:  embedq db health
    """
    settings = from_env(os.environ)
    store = wiring.store(settings)
    schema.check_server(store.database)
    facts = store.overview.server()
    facts["revision"] = schema.current(store.database)
    facts["embedded"] = _told_of_embedded(settings)
    store.close()
    return Answer(facts, [Table(("", ""), list(facts.items()))], 0 if schema.fits(facts["revision"]) else NOT_WELL)
