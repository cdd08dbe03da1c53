"""The tools for an operator: they look, and change nothing."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from ..decide.access import Principal
from ..decide.assess import assess as judged
from ..decide.assess import recommended
from ..decide.explaining import attempts_told, reasons
from ..decide.health import is_well
from ..operations.explain import case_of, find, where_is
from ..operations.rollback.evidence import gather
from ..operations.status import glance
from .parts import Parts
from .tool import OPERATE, Gives, Takes, tool


class Nothing(Takes):
    pass


class Finding(Gives):
    level: str
    what: str
    next: str = Field(description="The command that helps.")
    rule: str = Field(description="The name of the rule that found it.")


class QueueStatus(Gives):
    well: bool
    mode: str
    is_running: bool
    submissions_accepted: bool
    open: int = Field(description="Tasks that wait or are worked on.")
    open_is_estimated: bool
    rate_per_s: float
    eta_s: float | None
    broker_answers: bool | None
    workers: int
    findings: list[Finding]


@tool(OPERATE)
def queue_status(parts: Parts, principal: Principal, wanted: Nothing) -> QueueStatus:
    """How the whole queue goes: mode, open tasks, rate, workers, and every finding with the command that helps."""
    seen = glance(parts.client.store, parts.settings)
    return QueueStatus(
        well=is_well(seen.found),
        mode=seen.live.mode,
        is_running=seen.live.is_running,
        open=seen.open,
        open_is_estimated=seen.about,
        submissions_accepted=seen.live.submissions_accepted,
        rate_per_s=seen.rate,
        eta_s=seen.eta_s,
        workers=len(seen.workers),
        broker_answers=seen.peek.reachable if seen.peek else None,
        findings=[Finding(**each._asdict()) for each in seen.found],
    )


class Explain(Takes):
    key: str = Field(min_length=1, max_length=500, description="An article's id or slug, or a task's number.")


class Attempt(Gives):
    at: Any
    attempt: Any
    error: Any
    message: Any


class Explained(Gives):
    article_id: str | None
    tenant_id: str | None
    task_id: int | None
    task_status: str | None
    message: str = Field(description="Where the task's message is.")
    mode: str
    reasons: list[Finding]
    attempts: list[Attempt]


@tool(OPERATE)
def explain(parts: Parts, principal: Principal, wanted: Explain) -> Explained:
    """Why an article is not searchable yet: the reasons, the most decisive first, and every attempt that failed."""
    store = parts.client.store
    task, article = find(store, wanted.key)
    live = store.status.live()
    place, where = where_is(parts.settings, task)
    told = attempts_told(task["errors"]) if task and task["errors"] else []
    either = article or task or {}
    return Explained(
        article_id=either.get("id" if article else "article_id"),
        tenant_id=either.get("tenant_id"),
        task_id=task["id"] if task else None,
        task_status=task["status"] if task else None,
        message=where,
        mode=live.mode,
        reasons=[Finding(**each._asdict()) for each in reasons(case_of(store, task, article, live, place))],
        attempts=[Attempt(at=at, attempt=number, error=kind, message=said) for at, number, kind, said, *_ in told],
    )


class Looked(Gives):
    about: str
    evidence: str
    way: str
    next: str


class Assessed(Gives):
    recommended: str = Field(description="nothing, fix in place, partial, planned or emergency.")
    because: str
    findings: list[Looked]


@tool(OPERATE)
def assess(parts: Parts, principal: Principal, wanted: Nothing) -> Assessed:
    """Which way back is called for, if any: broker, queues, errors and data, each with its evidence. Nothing is done."""
    findings = judged(gather(parts.client.store, parts.client.broker))
    best = recommended(findings)
    return Assessed(recommended=best.way, because=best.evidence, findings=[Looked(**asdict(each)) for each in findings])


class Verified(Gives):
    well: bool
    problems: list[str]
    counts: dict[str, int]
    verified_at: datetime


@tool(OPERATE)
def verify(parts: Parts, principal: Principal, wanted: Nothing) -> Verified:
    """Prove by set difference that every article is embedded, has an open task, or a failed or skipped one to be seen."""
    facts = parts.client.store.care.verify()
    counts = {name: value for name, value in facts.items() if isinstance(value, int)}
    return Verified(well=not facts["problems"], problems=facts["problems"], counts=counts, verified_at=datetime.now(UTC))
