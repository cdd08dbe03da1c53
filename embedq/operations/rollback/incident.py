"""The incident report as Markdown: data from the audit log, and headings to be filled in by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...store import Store
from ...store.procedures import Run
from .report import report

FILL_IN = "_to be filled in_"
BY_PEOPLE = (
    ("Root cause", "What was the cause, and how is that known?"),
    ("What worked", "Which steps, alerts and pages helped?"),
    ("Improvements", "What took long, or was not clear?"),
    ("Prevention", "What keeps it from happening again?"),
)
HEAD = ("state", "who", "reason", "mode_before", "began_at", "ended_at", "seconds")


def spanning(run: Run, latest: Sequence[Run]) -> list[Run]:
    """This run together with the run that it undid, or with its undo; earliest first."""
    others = [each for each in latest if each.run != run.run]
    target = run.options.get("target") if run.kind == "undo" else None
    related = [each for each in others if each.run == target or (each.kind == "undo" and each.options.get("target") == run.run)]
    return sorted([run, *related], key=lambda each: each.began_at)


def incident(store: Store, runs: Sequence[Run], contacts: str) -> dict[str, Any]:
    """The combined data of these runs: each run's report, the total time, the final state of the articles."""
    told = [report(store, run) for run in runs]
    first, last = told[0], told[-1]
    ends = [each["ended_at"] for each in told]
    verified = store.care.verify()
    return {
        "began_at": first["began_at"],
        "ended_at": None if None in ends else last["ended_at"],
        "seconds": None if None in ends else round((last["ended_at"] - first["began_at"]).total_seconds(), 1),
        "reports": told,
        "impact": {
            "articles_stale": verified["stale"],
            "articles_missing": verified["missing"],
            "failed_tasks": verified["failed"],
        },
        "problems": verified["problems"],
        "contacts": contacts,
    }


def markdown(data: Mapping[str, Any]) -> str:
    """The report as one page, with headings and blanks for what people must fill in."""
    kinds = " and ".join(each["kind"] for each in data["reports"])
    lasted = f"{data['seconds']:.0f} s" if data["seconds"] is not None else "it has not ended"
    lines = [f"# Incident: {kinds}", "", f"From {data['began_at']} to {data['ended_at'] or 'now'}: {lasted}.", ""]
    lines += ["## Impact", "", *(f"- {name.replace('_', ' ')}: {number:,}" for name, number in data["impact"].items())]
    lines += [*(f"- {problem}" for problem in data["problems"]), f"- users: {FILL_IN}", ""]
    for each in data["reports"]:
        lines += _of_run(each)
    for heading, question in BY_PEOPLE:
        lines += [f"## {heading}", "", f"{question} {FILL_IN}", ""]
    lines += ["## Follow-ups", "", "| what | who | until |", "|---|---|---|", f"| {FILL_IN} | | |", ""]
    lines += ["## Contacts", "", data["contacts"] or f"{FILL_IN} (EMBEDDING_CONTACTS names them here and in plans)", ""]
    return "\n".join(lines)


def _of_run(told: Mapping[str, Any]) -> list[str]:
    lines = [
        f"## {told['kind']} ({told['run']})",
        "",
        *(f"- {name.replace('_', ' ')}: {_cell(told[name])}" for name in HEAD),
        "",
    ]
    lines += ["| step | state | seconds | what came of it |", "|---|---|---|---|"]
    lines += [f"| {s['step']} | {s['state']} | {s['seconds']} | {_cell(s['message'])} |" for s in told["steps"]]
    lines += ["", "| when | level | what | message |", "|---|---|---|---|"]
    lines += [f"| {t['timestamp']} | {t['level']} | {t['category']} | {_cell(t['message'])} |" for t in told["timeline"]]
    return [*lines, ""]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
