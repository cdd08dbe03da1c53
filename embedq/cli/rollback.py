"""`embedq rollback …`: the rollback procedures, each one command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..endpoints import addresses
from ..model import Mode
from ..operations.rollback.procedure import Ended, Scene, perform, planned_steps
from ..operations.rollback.procedures import KINDS, options_of, procedure
from ..settings import from_env, home_of
from .maintenance import WEBHOOK, url
from .rollback_report import assess_command, report_command
from .rollback_scene import FOLDER, default_folder, scene
from .voice import NOT_WELL, Answer, Table, command, lasting, tell, who

GRACE = click.option(
    "--grace", default=3.0, show_default=True, help="Seconds that tasks in flight get before they are handed back."
)
QUIET = click.option(
    "--quiet",
    default=2.5,
    show_default=True,
    help="Seconds without a message, from the fence on, before the broker is believed to be empty.",
)


@click.group()
def rollback() -> None:
    """Go back: assess, plan, rehearse; emergency, planned, partial; undo and report."""


def _go(kind: str, given: Mapping[str, Any], reason: str, folder: Path | None, webhook: str, dry_run: bool) -> Answer:
    with scene(reason, folder, needs_reason=not dry_run, webhook=url(webhook)) as here:
        options = options_of(kind, here.store, given)
        if dry_run:
            return _plan(kind, here, options, "nothing was done (--dry-run)")
        answer = _ended(perform(procedure(kind), here, options), kind)
        answer.data["webhook_failed"] = here.untold
        return answer


def _plan(kind: str, here: Scene, options: Mapping[str, Any], last: str) -> Answer:
    here.options = options
    found, its = planned_steps(procedure(kind), here), procedure(kind)
    total = sum(step["takes_s"] for step in found)
    rows = [(number, step["step"], step["will"], lasting(step["takes_s"])) for number, step in enumerate(found, 1)]
    data = {
        "kind": kind,
        "about": its.about,
        "steps": found,
        "takes_s": round(total, 1),
        "back": its.back,
        "options": dict(options),
        "contacts": here.settings.contacts,
    }
    said: list[str | Table] = [
        f"{kind}: {its.about}",
        f'Command:  embedq rollback {kind} --reason "…"',
        Table(("", "step", "what it will do", "about"), rows),
        f"About {lasting(total)} in all. If it is killed at any step, the same command continues there. Way back: {its.back}",
        last,
    ]
    if here.settings.contacts:
        said.insert(1, f"Contacts and escalation: {here.settings.contacts}")
    return Answer(data, said)


def _ended(ended: Ended, kind: str) -> Answer:
    steps = [{"step": step} | dict(note) for step, note in ended.run.notes.items()]
    data = {
        "run": ended.run.run,
        "kind": kind,
        "seconds": round(ended.seconds, 2),
        "resumed": ended.resumed,
        "exit_code": ended.exit_code,
        "warnings": ended.warnings,
        "wrong": ended.wrong,
        "steps": steps,
        "verification": ended.run.notes.get("verify", {}).get("compared"),
    }
    rows = [(step["step"], step["state"], lasting(step["seconds"]), step["message"]) for step in steps]
    said: list[str | Table] = [Table(("step", "", "took", "what came of it"), rows)]
    how = "ended well" if not ended.exit_code else "ended, but verify found problems"
    if ended.wrong:
        how = f"ended, but NOT as it should: {'; '.join(ended.wrong)};"
    said.append(f"{kind} {how} after {lasting(ended.seconds)} (run {ended.run.run})")
    said.append(f"way back: {KINDS[kind].back}; timeline: embedq rollback report")
    return Answer(data, said, ended.exit_code)


@command(name="plan")
@click.argument("kind", type=click.Choice(["emergency", "planned", "partial", "undo"]))
@FOLDER
def plan(kind: str, folder: Path | None) -> Answer:
    """The plan of a procedure for this deployment: steps, present counts, estimated times. Nothing is done.

    Example:  embedq rollback plan emergency
    """
    with scene("", folder, needs_reason=False) as here:
        return _plan(kind, here, options_of(kind, here.store, {}), "nothing was done: this is the plan")


@command(name="emergency", destroys=True)
@GRACE
@QUIET
@FOLDER
@WEBHOOK
def emergency(grace: float, quiet: float, folder: Path | None, webhook: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """The broker or Celery is broken: fence it off and continue from the table, within seconds. Works without broker and workers.

    If it is killed at any step, the same command continues there. The exit code is the verification's.

    Example:  embedq rollback emergency --reason "Redis is down"
    """
    return _go("emergency", {"grace_s": grace, "quiet_s": quiet}, reason, folder, webhook, dry_run)


@command(name="planned", destroys=True)
@click.option(
    "--to",
    type=click.Choice([Mode.DATABASE.value, Mode.HYBRID.value, Mode.SYNC.value, Mode.OFF.value]),
    default="database",
    show_default=True,
)
@click.option("--wait", default=120.0, show_default=True, help="Seconds that what is with the broker gets to finish.")
@GRACE
@QUIET
@FOLDER
@WEBHOOK
def planned(
    to: str, wait: float, grace: float, quiet: float, folder: Path | None, webhook: str, reason: str, yes: bool, dry_run: bool
) -> Answer:
    """Move from the broker to the table in order: hold dispatch, let tasks in flight finish, migrate the rest, switch, verify.

    Example:  embedq rollback planned --wait 300 --reason "Celery is too slow"
    """
    return _go("planned", {"to": to, "wait_s": wait, "grace_s": grace, "quiet_s": quiet}, reason, folder, webhook, dry_run)


@command(name="partial", destroys=True)
@click.option("--watch", default=10.0, show_default=True, help="Seconds to compare both deliveries.")
@FOLDER
@WEBHOOK
def partial(watch: float, folder: Path | None, webhook: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """The broker works but may be unreliable: hybrid mode, with a live comparison of both deliveries' rates and errors.

    Example:  embedq rollback partial --watch 60 --reason "messages arrive late"
    """
    return _go("partial", {"watch_s": watch}, reason, folder, webhook, dry_run)


@command(name="undo", destroys=True)
@FOLDER
@WEBHOOK
def undo(folder: Path | None, webhook: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Return to the mode before the latest procedure, also when that procedure did not end.

    Example:  embedq rollback undo --reason "Redis is back"
    """
    return _go("undo", {}, reason, folder, webhook, dry_run)


@command(name="rehearse")
@click.argument("kind", type=click.Choice(["emergency", "planned", "partial"]))
@click.option("--articles", default=500, show_default=True, help="How many made-up articles.")
@FOLDER
def rehearse(kind: str, articles: int, folder: Path | None) -> Answer:
    """Perform the procedure, and undo, on a scratch schema and scratch queues with made-up tasks. Real data is not touched.

    Example:  embedq rollback rehearse emergency
    """
    from ..operations.rollback.rehearsal import rehearse as perform_rehearsal

    settings = from_env(os.environ)
    where = addresses(settings)
    options = {"grace_s": 1.0, "wait_s": 1.0, "watch_s": 1.0, "quiet_s": 0.5}
    done = perform_rehearsal(
        kind,
        settings,
        where.database_url,
        where.broker_url,
        who(),
        folder or default_folder(home_of(settings)),
        articles=articles,
        say=tell,
        options=options,
    )
    rows = [(step["step"], lasting(step["seconds"]), step["message"]) for step in done.steps]
    said: list[str | Table] = [Table(("step", "took", "what came of it"), rows)]
    said.append(
        f"{done.embedded} of {done.articles} made-up articles were embedded; {done.kept_for_review} messages kept; broker: {done.broker}"
    )
    said += [f"problem: {problem}" for problem in done.problems]
    how = "it works here" if done.well else "it does NOT work here"
    said.append(f"{kind} took {lasting(done.procedure_s)}, the way back {lasting(done.undo_s)}; {how}")
    return Answer(asdict(done) | {"well": done.well}, said, 0 if done.well else NOT_WELL)


for each in (assess_command, plan, emergency, planned, partial, rehearse, undo, report_command):
    rollback.add_command(each)
