"""`embedq config …`: the settings, and versions of them in the database."""

from __future__ import annotations

import os
from typing import Any

import click

from .. import preflight
from ..decide.configuration import LIVE, Change, Setting, between, differences, environment_lines, kept, live_differences
from ..decide.throttle import throttle_of
from ..model import Mode
from ..settings import by_env, from_env
from ..store import Store
from .fences import opened
from .voice import Answer, Table, command, confirm, who


@click.group()
def config() -> None:
    """Show, check, save, compare and restore the settings."""


def register(made: click.Command) -> click.Command:
    config.add_command(made)
    return made


def present() -> list[Setting]:
    """Every setting as this process has it. Raises ConfigError with every problem."""
    settings = from_env(os.environ)
    return [
        Setting(
            name,
            getattr(settings, spec.name),
            spec.metadata["secret"],
            bool(os.environ.get(name, "").strip()),
            spec.metadata["about"],
        )
        for name, spec in by_env().items()
    ]


def live_of(store: Store) -> dict[str, Any]:
    row = store.status.live().columns()
    return {name: row[name] for name in LIVE}


@register
@command(name="show")
@click.option("--version", type=int, help="A saved version instead of the present settings.")
def show(version: int | None) -> Answer:
    """Every setting with its value and where it comes from, or those of a saved version. Secrets are not shown.

    Example:  embedq config show
    """
    if version is not None:
        return _saved(version)
    rows = [{"name": each.name, "value": each.shown, "set": each.given, "about": each.about} for each in present()]
    return Answer(rows, [Table(("setting", "value", "set", "about"), [tuple(row.values()) for row in rows])])


def _saved(version: int) -> Answer:
    with opened() as store:
        row = store.settings_versions.get(version)
    settings = {
        name: value["shown"] if isinstance(value, dict) else value for name, value in row["metadata"]["settings"].items()
    }
    live = row["metadata"]["live"]
    data = {
        "version": version,
        "settings": settings,
        "live": live,
        "who": row["who"],
        "reason": row["reason"],
        "at": row["timestamp"],
    }
    return Answer(
        data, [Table(("setting", f"version {version}"), [*settings.items()]), Table(("live", "was"), [*live.items()])]
    )


@register
@command(name="check")
def check() -> Answer:
    """Check all settings together, and everything that would keep a worker from starting: provider, model, broker, database. Every problem
    with its remedy; exit code 2 when there is one. Servers that do not answer are not a problem, and nothing is started.

    Example:  embedq config check
    """
    found = preflight.look(from_env(os.environ), os.environ)
    preflight.tell(found.problems)
    return Answer(
        {"well": True, "not_asked": found.away}, ["the settings are in order", *(f"not asked: {each}" for each in found.away)]
    )


@register
@command(name="save", changes=True)
def save(reason: str, yes: bool) -> Answer:
    """Keep the settings that the environment names, and mode, throttle and pauses, as a new version in the database.

    A secret is stored as a salted digest, which only shows later that it has changed.

    Example:  embedq config save --reason "before the new provider"
    """
    settings = present()
    with opened() as store:
        version = store.settings_versions.save(kept(settings), live_of(store), who(), reason)
    return Answer(
        {"version": version},
        [f"saved as version {version}", f"next: `embedq config diff {version}` shows what changes from now on"],
    )


@register
@command(name="list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def list_(limit: int) -> Answer:
    """The saved versions, the latest first.

    Example:  embedq config list
    """
    with opened() as store:
        rows = [
            {key: row[key] for key in ("version", "timestamp", "who", "reason")} for row in store.settings_versions.all(limit)
        ]
    return Answer(
        rows,
        [Table(("version", "saved", "by", "why"), [tuple(row.values()) for row in rows])] if rows else ["no version is saved"],
    )


@register
@command(name="diff")
@click.argument("version", required=False, type=int)
@click.argument("other", required=False, type=int)
def diff(version: int | None, other: int | None) -> Answer:
    """What has changed since a version (without a number, the latest), or between two versions.

    Example:  embedq config diff 3
    """
    with opened() as store:
        saved = store.settings_versions.get(version)
        if other is not None:
            newer = store.settings_versions.get(other)
            changes = between(saved["metadata"], newer["metadata"])
            live = live_differences(saved["metadata"]["live"], newer["metadata"]["live"])
        else:
            changes = differences(saved["metadata"], present())
            live = live_differences(saved["metadata"]["live"], live_of(store))
    then, now = f"version {saved['version']}", "now" if other is None else f"version {other}"
    data = {"version": saved["version"], "settings": [c._asdict() for c in changes], "live": [c._asdict() for c in live]}
    return Answer(data, _differing(changes, live, then, now))


def _differing(changes: list[Change], live: list[Change], then: str, now: str) -> list[str | Table]:
    if not changes and not live:
        return [f"nothing differs between {then} and {now}"]
    rows = [
        (change.name, _cell(change.then), _cell(change.now), "another value" if change.hidden else "") for change in changes
    ]
    rows += [(f"live {change.name}", _cell(change.then), _cell(change.now), "") for change in live]
    return [Table(("setting", then, now, ""), rows)]


def _cell(value: Any) -> Any:
    return "not set" if value is None else value


@register
@command(name="restore", destroys=True)
@click.argument("version", type=int)
def restore(version: int, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Go back to a saved version: mode, throttle and pauses at once; the environment by the lines that it prints.

    A command cannot change the environment of other processes: put the lines where your workers' variables are set, and restart them.

    Example:  embedq config restore 3 --reason "the new provider was a mistake" --yes
    """
    settings = present()
    with opened() as store:
        saved = store.settings_versions.get(version)["metadata"]
        changes, live = differences(saved, settings), live_differences(saved["live"], live_of(store))
        lines = environment_lines(changes)
        data = {"version": version, "environment": lines, "live": [change._asdict() for change in live]}
        if dry_run:
            return Answer(
                data, [*_differing(changes, live, f"version {version}", "now"), *lines, "nothing was done (--dry-run)"]
            )
        if live:
            confirm(f"Set {', '.join(change.name for change in live)} back to version {version}?", yes=yes)
        _apply(store, saved["live"], live, reason or f"configuration version {version}")
        store.audit.write(
            "config", f"configuration version {version} was restored", who=who(), reason=reason, live=data["live"]
        )
    said: list[str | Table] = [f"set back: {change.name} = {_cell(change.then)}" for change in live] or [
        "nothing live differed"
    ]
    said += ["for the environment of your workers, then restart them:", *(f"  {line}" for line in lines)] if lines else []
    return Answer(data, said)


def _apply(store: Store, then: dict[str, Any], live: list[Change], why: str) -> None:
    from ..operations.mode_switch import switch

    names = {change.name for change in live}
    if names & {"paused_priorities", "paused_tenants"}:
        pauses = {part: (then[f"paused_{part}"], None) for part in ("priorities", "tenants")}
        store.status.pause(pauses, why, who())
    if "throttle" in names:
        store.throttles.change(lambda _: throttle_of(then["throttle"]), who(), why)
    if "mode" in names:
        switch(store, Mode(then["mode"]), why, who())
