"""Alerts: the rules of `health` by name, and rules that only alerts have. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .facts import Facts, Finding, Level
from .health import NO_PROGRESS, NOTES, RULES, findings

DEAD_LETTERS_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Kept:
    """What waits for a review: rejected messages, failed tasks and their approximate size in bytes."""

    rejected: int = 0
    dead_letters: int = 0
    dead_letters_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """The result of one rule. `what` and `next` are empty if it does not fire."""

    name: str
    firing: bool
    what: str = ""
    next: str = ""


# The rules of `health` that can find a problem; the others find notes only.
OF_HEALTH = (NO_PROGRESS, *(name for name in RULES if name not in NOTES))
NAMES = (*OF_HEALTH, "rejected-messages", "dead-letters-size")


def evaluated(facts: Facts, kept: Kept) -> list[Alert]:
    """The results of all rules, firing ones first. Notes of `health` are not alerts."""
    found = findings(facts)
    alerts = [_of_health(name, [each for each in found if each.rule == name]) for name in OF_HEALTH]
    alerts += [rejected_messages(kept), dead_letters_large(kept)]
    return sorted(alerts, key=lambda alert: not alert.firing)


def database_away(why: str, hint: str) -> list[Alert]:
    """The only alert that can be evaluated if PostgreSQL does not answer."""
    return [Alert("database-away", True, why, hint)]


def rejected_messages(kept: Kept) -> Alert:
    if not kept.rejected:
        return Alert("rejected-messages", False)
    what = f"{kept.rejected} broker messages could not be understood and were not reviewed"
    return Alert("rejected-messages", True, what, "embedq broker rejected list, then retry, review or purge")


def dead_letters_large(kept: Kept) -> Alert:
    if kept.dead_letters_bytes <= DEAD_LETTERS_BYTES:
        return Alert("dead-letters-size", False)
    what = f"{kept.dead_letters} failed tasks keep about {kept.dead_letters_bytes / (1 << 20):,.0f} MB of errors"
    return Alert("dead-letters-size", True, what, "embedq dead-letter list, then retry or discard")


def _of_health(name: str, found: Sequence[Finding]) -> Alert:
    problems = [finding for finding in found if finding.level is Level.PROBLEM]
    if not problems:
        return Alert(name, False)
    return Alert(name, True, "; ".join(finding.what for finding in problems), problems[0].next)
