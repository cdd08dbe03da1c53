"""`embedq rollback assess` and `report`: they change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from ..decide.assess import EXIT_CODES, assess, recommended
from ..operations.rollback.evidence import gather
from ..operations.rollback.incident import incident, markdown, spanning
from ..operations.rollback.procedures import KINDS
from ..operations.rollback.report import LATELY, chosen, report
from .rollback_scene import scene
from .voice import Answer, Table, Text, command, lasting


@command(name="assess")
def assess_command() -> Answer:
    """Assess broker, queues, errors and data, each with its evidence, and recommend a procedure.

    Exit code: 0 nothing to do, 3 fix in place, 10 partial, 11 planned, 12 emergency.

    Example:  embedq rollback assess
    """
    with scene("", None, needs_reason=False) as here:
        facts = gather(here.store, here.broker)
    findings = assess(facts)
    best = recommended(findings)
    data = {
        "recommended": best.way,
        "because": best.evidence,
        "findings": [asdict(each) for each in findings],
        "facts": asdict(facts),
    }
    rows = [(each.about, each.evidence, each.way, each.next) for each in findings]
    said: list[str | Table] = [
        Table(("looked at", "evidence", "argues for", "next"), rows),
        f"recommended: {best.way} ({best.about}: {best.evidence})",
    ]
    if best.way in KINDS:
        said.append(f'next: embedq rollback plan {best.way}; embedq rollback {best.way} --reason "…"')
    return Answer(data, said, EXIT_CODES[best.way])


@command(name="report")
@click.option("--run", help="Which run; without it the latest.")
@click.option(
    "--markdown",
    "as_markdown",
    is_flag=True,
    help="An incident report: a procedure and its undo together, with headings to fill in (root cause, follow-ups, …).",
)
def report_command(run: str | None, as_markdown: bool) -> Answer:
    """The timeline of a procedure, its duration, counts and verification, from the audit log.

    Example:  embedq rollback report
    Example:  embedq rollback report --markdown > incident.md
    """
    with scene("", None, needs_reason=False) as here:
        picked = chosen(here.store, run)
        if as_markdown:
            runs = spanning(picked, here.store.procedures.latest(LATELY))
            told = incident(here.store, runs, here.settings.contacts)
            return Answer(told, [Text(markdown(told))])
        data = report(here.store, picked)
    return Answer(data, _told(data))


HEAD = ("run", "kind", "state", "who", "reason", "mode_before", "began_at", "ended_at", "seconds", "kept_for_review")


def _told(data: Mapping[str, Any]) -> list[str | Table]:
    steps = [(s["step"], s["state"], lasting(s["seconds"]), s["message"]) for s in data["steps"]]
    compared = [(name, *both) for name, both in (data["verification"] or {}).items()]
    settled = [(s["delivery"], s["status"], s["tasks"]) for s in data["settled"]]
    timeline = [(t["timestamp"], t["level"], t["category"], t["message"]) for t in data["timeline"]]
    return [
        Table(("", ""), [(name, data[name]) for name in HEAD]),
        Table(("step", "", "took", "what came of it"), steps, "Steps"),
        *([Table(("", "before", "after"), compared, "Verification")] if compared else []),
        *([Table(("delivery", "status", "tasks"), settled, "Settled meanwhile")] if settled else []),
        Table(("when", "", "what", "message"), timeline, "Timeline"),
    ]
