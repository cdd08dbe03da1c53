"""`/audit`: who did what, when and why, by filter, page by page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from ...decide.spans import seconds_of
from ...errors import InputError
from ...store.console import Page
from .filters import cursor_of
from .visit import TheVisit, new_router

router = new_router()

LEVELS = ("debug", "info", "warning", "error")
LONGEST = 200


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """The fields as in the URL; an empty one does not filter."""

    category: str = ""
    level: str = ""
    who: str = ""
    text: str = ""
    newer: str = ""

    def query(self, **more: str) -> str:
        return urlencode({name: value for name, value in asdict(self).items() if value} | more)


@router.get("/audit")
def audit(visit: TheVisit) -> Response:
    query = visit.request.query_params
    try:
        wanted, cursor = (
            _filter_of({name: query.get(name, "").strip() for name in AuditFilter.__dataclass_fields__}),
            cursor_of(query.get("after", "")),
        )
    except InputError as wrong:
        return visit.page("audit.html", 422, complaint=f"{wrong} — {wrong.hint}", f=AuditFilter(), page=Page([]), levels=LEVELS)
    found = visit.service.client.store.console.audit(
        category=wanted.category or None,
        level=wanted.level or None,
        newer_s=seconds_of(wanted.newer, "newer") if wanted.newer else None,
        who=_like(wanted.who),
        text=_like(wanted.text),
        before=cursor.id if cursor else None,
    )
    following = wanted.query(after=str(found.following.id)) if found.following else ""
    return visit.page("audit.html", f=wanted, page=found, next=following, first=cursor is None, levels=LEVELS)


def _filter_of(given: dict[str, str]) -> AuditFilter:
    """Raises InputError for a value that no line can have."""
    for name, value in given.items():
        if len(value) > LONGEST or "\0" in value:
            raise InputError(f"{name} is no text to look for", hint=f"at most {LONGEST} characters, without NUL", field=name)
    if given["level"] and given["level"] not in LEVELS:
        raise InputError(f"{given['level'][:40]!r} is no level", hint=f"choose one of: {', '.join(LEVELS)}", field="level")
    if given["newer"]:
        seconds_of(given["newer"], "newer")
    return AuditFilter(**given)


def _like(text: str) -> str | None:
    return f"%{text}%" if text else None
